"""Clips per second in training: readers, steps, both together; an epoch of UCF101's size.

    python benchmarks/train_speed.py [--quick] [--json] [--preset ucf101-16f] [--batch 32]
        [--device cuda] [--workers 16] [--seconds 12] [--compile] [--readers-only]
        [STORE | VIDEO_OR_FOLDER ...]

Videos are first stored at a short side of 128; without any it draws its own. An epoch of UCF101's
size, 9,537 samples of three clips, is planned over the videos there are, each many times; all views
are RGB, and files are in the page cache. The peer (peer_training.py) is a DataLoader over the same
JPEGs, one file a frame, with PIL and torchvision and the same draws, and steps in fp32, eager,
NCDHW. Everything is timed in three rounds, sides in turn, start-up left out; medians. CPU time is
that of all processes.

On a GPU readers either augment, or only cut crops for the device to augment; on a CPU they augment.
Clustering is the embedding of each video's centre clip and FINCH. --quick takes moments and only
checks that the pixels of both sides agree.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
import torchvision
from clustering import drawn_rows
from common import Column, Row, machine, refuse, say, show, show_json, video_files
from train_rates import VIDEOS, Bench, Rate

from slic.cache import ClipStore
from slic.config import PRESETS, Settings, make_settings
from slic.demo.drawn import draw_dataset
from slic.encoders.encoder import PROJECTION_DIM
from slic.encoders.precision import resolve_precision
from slic.engine.forward import ComputeOptions
from slic.errors import SlicError
from slic.prep.frames import prep_frames
from slic.runtime.devices import default_readers, pick_device
from slic.train.clustering import finch
from slic.train.methods.slic import SLIC
from slic.train.run import CPU_PRESET, GPU_PRESET

SHORT_SIDE = 128
CLUSTERED, EPOCHS_A_CLUSTERING = 10_000, 5
ROUNDS, SECONDS, QUICK_SECONDS = 3, 12.0, 0.03
QUICK: dict[str, Any] = {"batch_size": 4, "frames": 4}
Name = tuple[str, str]  # what, side
Work = Callable[[], Rate]
# Mean of absolute differences, levels: as in read_clips.py, and as tests/train allow a device.
LARGEST_DIFFERENCE = {"PIL": 4.0, "device": 1.0}
PIL_READERS, READERS, CUTTERS = "PIL, torchvision", "slic", "slic, crops for the device"
AUGMENTING = "transfer and augmentation"
PLAIN, STEPS = "fp32, eager, NCDHW", "slic"
RATE_COLUMNS = (
    Column("what", "what"),
    Column("side", "side"),
    Column("clips/s", "clips_per_s", ",.1f"),
    Column("least", "least", ",.1f"),
    Column("most", "most", ",.1f"),
    Column("ratio", "ratio", ".2f"),
    Column("CPU ms a clip", "cpu_ms", ".2f"),
    Column("by CPU time", "cpu_ratio", ".2f"),
)
EPOCH_COLUMNS = (
    Column("readers", "readers"),
    Column("readers alone", "readers_clips_per_s", ",.1f"),
    Column("steps alone", "steps_clips_per_s", ",.1f"),
    Column("together", "clips_per_s", ",.1f"),
    Column("smaller", "smaller"),
    Column("together of it", "of_smaller", ".2f"),
    Column("epoch s", "epoch_s", ",.0f"),
    Column("ratio", "ratio", ".2f"),
    Column("embedding s", "embedding_s", ".1f"),
    Column("FINCH s", "finch_s", ".2f"),
    Column("of five epochs", "clustering_share", ".1%"),
)


def work_of(bench: Bench, *, readers_only: bool) -> dict[Name, Work]:
    """Return the measurements by kind and side, in the order of the table."""
    cuda = bench.compute.device.type == "cuda"
    work: dict[Name, Work] = {
        ("readers", PIL_READERS): bench.jpegs_alone,
        ("readers", READERS): lambda: bench.readers_alone(cut=False),
        ("readers", CUTTERS): lambda: bench.readers_alone(cut=True),
    }
    if readers_only:
        return work
    if cuda:
        work["device", AUGMENTING] = bench.augmenting_alone
    work["steps", PLAIN] = lambda: bench.steps_alone(bench.plain)
    work["steps", STEPS] = lambda: bench.steps_alone(bench.ours)
    work["together", PIL_READERS] = bench.plain_together
    work["together", READERS] = lambda: bench.together(cut=False)
    if cuda:
        work["together", CUTTERS] = lambda: bench.together(cut=True)
    work["embedding", STEPS] = bench.embedding
    return work


def rates(work: dict[Name, Work], *, rounds: int) -> list[Row]:
    """Run all measurements alternately for some rounds; return a row for each."""
    took: dict[Name, list[Rate]] = {name: [] for name in work}
    for number in range(rounds):
        for name, rate in work.items():
            took[name].append(rate())
            latest = took[name][-1].clips_per_s
            say(f"round {number + 1} of {rounds}: {', '.join(name)}: {latest:.1f} clips/s")
    rows = [summary(name, found) for name, found in took.items()]
    peers = {row["what"]: row for row in rows if row["side"] in (PIL_READERS, PLAIN)}
    for row in rows:
        peer = peers.get(row["what"])
        row["ratio"] = row["clips_per_s"] / peer["clips_per_s"] if peer else None
        row["cpu_ratio"] = peer["cpu_ms"] / row["cpu_ms"] if peer and row["cpu_ms"] else None
    return rows


def summary(name: Name, found: Sequence[Rate]) -> Row:
    """Return the medians of one row's rounds."""
    clips = [rate.clips_per_s for rate in found]
    spent = [rate.cpu_ms for rate in found if rate.cpu_ms is not None]
    return {
        "what": name[0],
        "side": name[1],
        "clips_per_s": statistics.median(clips),
        "least": min(clips),
        "most": max(clips),
        "cpu_ms": statistics.median(spent) if spent else None,
    }


def epochs(rows: list[Row], finch_s: float) -> list[Row]:
    """Estimate an epoch of UCF101's size for each pair of readers and steps, the peer's first."""
    found = {(row["what"], row["side"]): row["clips_per_s"] for row in rows}
    embedding_s = VIDEOS / found["embedding", STEPS]
    peer = found.get(("together", PIL_READERS))
    lines = []
    for side in [side for what, side in found if what == "together"]:
        steps = PLAIN if side == PIL_READERS else STEPS
        alone = {"readers": found["readers", side], "steps": found["steps", steps]}
        smaller = min(alone, key=lambda name: alone[name])
        together = found["together", side]
        epoch_s = VIDEOS * SLIC.clips_per_sample / together
        line: Row = {
            "readers": side,
            **{f"{name}_clips_per_s": value for name, value in alone.items()},
            "clips_per_s": together,
            "smaller": smaller,
            "of_smaller": together / alone[smaller],
            "epoch_s": epoch_s,
            "ratio": together / peer if peer else None,
        }
        share = (embedding_s + finch_s) / (EPOCHS_A_CLUSTERING * epoch_s)
        ours = {"embedding_s": embedding_s, "finch_s": finch_s, "clustering_share": share}
        lines.append({**line, **(dict.fromkeys(ours) if steps == PLAIN else ours)})
    return lines


def finch_seconds(*, quick: bool) -> float:
    """Time FINCH on random rows, after its libraries are loaded."""
    rows = drawn_rows(CLUSTERED // 20 if quick else CLUSTERED, PROJECTION_DIM)
    finch(rows[:50])
    begin = time.perf_counter()
    finch(rows)
    return time.perf_counter() - begin


def stored(sources: Sequence[Path], folder: Path) -> ClipStore:
    """Return the given store, or a new one made of all the videos."""
    if len(sources) == 1 and (sources[0] / "zarr.json").is_file():
        return ClipStore(sources[0])
    if not sources:
        draw_dataset(folder / "drawn", actions=10, groups=2, clips=1, frames=40, size=(170, 128))
        sources = [folder / "drawn"]
    (folder / "videos").mkdir()
    for number, file in enumerate(video_files(sources)):
        (folder / "videos" / f"{number:04d}-{file.name}").symlink_to(file.resolve())
    path = folder / "videos.zarr"
    prep_frames(str(folder / "videos"), store=str(path), short_side=SHORT_SIDE)
    return ClipStore(path)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, metavar="STORE | VIDEO_OR_FOLDER")
    parser.add_argument("--quick", action="store_true", help="short measurements; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--preset", choices=PRESETS, help="preset (default: by device)")
    parser.add_argument("--batch", type=int, help="samples per step (default: the preset's)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--workers", type=int, help="reading processes (preset (default: by device))"
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help=f"for each row (default {SECONDS:g})"
    )
    parser.add_argument("--compile", action="store_true", help="compile slic's steps")
    parser.add_argument("--readers-only", action="store_true", help="leave the steps out")
    return parser.parse_args()


def settings_and_compute(options: argparse.Namespace) -> tuple[Settings, ComputeOptions]:
    device = pick_device(options.device)
    preset = options.preset or (GPU_PRESET if device.type == "cuda" else CPU_PRESET)
    changes = {"batch_size": options.batch, "flow_probability": 0.0}
    if options.quick:
        preset, changes = CPU_PRESET, {**changes, **QUICK}
    workers = default_readers(device) if options.workers is None else options.workers
    settings = make_settings(preset, options=changes)
    if workers < 0 or settings.batch_size > VIDEOS:
        refuse(f"give --workers of at least 0 and --batch of at most {VIDEOS}")
    return settings, ComputeOptions(device, workers=workers, compile=options.compile)


def main() -> None:
    options = parsed()
    try:
        settings, compute = settings_and_compute(options)
        with tempfile.TemporaryDirectory() as folder:
            store = stored(options.sources, Path(folder))
            rounds = 1 if options.quick else ROUNDS
            seconds = QUICK_SECONDS if options.quick else options.seconds / rounds
            bench = Bench(
                store, Path(folder) / "jpegs", settings=settings, compute=compute, seconds=seconds
            )
            apart = bench.differences()
            rows = rates(work_of(bench, readers_only=options.readers_only), rounds=rounds)
            lines = [] if options.readers_only else epochs(rows, finch_seconds(quick=options.quick))
    except SlicError as error:
        refuse(str(error))
    except torch.OutOfMemoryError:
        refuse(f"{options.device}: out of memory; give a smaller --batch")
    report(rows, lines, apart, facts_of(bench), as_json=options.json)
    if options.quick and not all(apart[name] <= most for name, most in LARGEST_DIFFERENCE.items()):
        sys.exit("the pixels of both sides differ by more than their operations explain")


def facts_of(bench: Bench) -> Row:
    """Return facts about the machine and the measurement."""
    settings, device = bench.settings, bench.compute.device
    return machine(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        workers=bench.compute.workers,
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 1),
        videos=len(bench.entries),
        encoder=settings.encoder,
        precision=resolve_precision(settings.precision, device),
        compiled=bench.compute.compile,
        batch=settings.batch_size,
        clips=f"{settings.frames}x{settings.size}x{settings.size}",
        torch=torch.__version__,
        torchvision=torchvision.__version__,
        pillow=PIL.__version__,
    )


def report(
    rows: list[Row], lines: list[Row], apart: dict[str, float], facts: Row, *, as_json: bool
) -> None:
    if as_json:
        ratio = lines[-1]["ratio"] if lines else rows[1]["ratio"]
        show_json(facts, rates=rows, epochs=lines, differences=apart, ratio=ratio)
        return
    show(rows, RATE_COLUMNS, facts)
    if lines:
        print(f"\nAn epoch of {VIDEOS:,} samples, {SLIC.clips_per_sample} clips each:")
        show(lines, EPOCH_COLUMNS, {})
    print(f"mean differences, levels: PIL {apart['PIL']:.2f}, device {apart['device']:.2f}")


if __name__ == "__main__":
    main()
