"""Random clips on one core: slic's store compared with a folder of JPEGs read by PIL.

    python benchmarks/read_clips.py [--quick] [--json] [--clips 300] [STORE | VIDEO_OR_FOLDER ...]

Videos are first stored at a short side of 128 and of 256 (those that are as large); without any
it draws its own. The peer, peer_clips.py, reads the same JPEGs from one file a frame. Sides take
turns on the same clips, in one process and one thread, timed by CPU time and by the clock; all
files are in the page cache. --quick takes few clips and only checks that the pixels agree.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import PIL
import simplejpeg
import torch
import torchvision
from common import Column, Row, machine, refuse, say, show, show_json, video_files
from peer_clips import JpegFolder, augmented, stacked

from slic.cache import ClipStore
from slic.clips.augmentation import augment_frames, draw_augmentation
from slic.config import make_settings
from slic.demo.drawn import draw_dataset
from slic.prep.frames import prep_frames

SIDES = (128, 256)  # pixels
FRAMES = (16, 32)
COMPARED, BLOCK = 10, 20  # clips
SIZE = 112  # of augmented clips, pixels
SETTINGS = make_settings("ucf101-16f")
# Mean of absolute differences, levels. Measured: 0 for reading; augmented, 2.5 in the mean of ten
# clips (PIL smooths what it shrinks, and cuts off where slic rounds); 16 or more a clip unflipped.
LARGEST_DIFFERENCE = {"read": 2.0, "first read": 2.0, "read + augment": 4.0}
COLUMNS = (
    Column("what", "what"),
    Column("short side", "short_side"),
    Column("frames", "frames"),
    Column("clips", "clips"),
    Column("PIL ms", "pil_ms", ".2f"),
    Column("slic ms", "slic_ms", ".2f"),
    Column("ratio", "ratio", ".2f"),
    Column("by the clock", "clock_ratio", ".2f"),
    Column("slic clips/s", "clips_per_s", ".0f"),
    Column("difference", "difference", ".2f"),
)
SIZE_COLUMNS = (
    Column("short side", "short_side"),
    Column("videos", "videos"),
    Column("JPEG bytes", "jpeg_bytes", ","),
    Column("store bytes", "store_bytes", ","),
    Column("ratio", "ratio", ".4f"),
)
Side = Callable[[str, int, int], np.ndarray]  # video, first frame, number of the clip


def race(clips: Sequence[tuple[str, int]], theirs: Side, ours: Side) -> Row:
    """Run both sides alternately, a block of clips each, after comparing some results."""
    compared = [(theirs(*clip, 0), ours(*clip, 0)) for clip in clips[:COMPARED]]
    differences = [np.abs(a.astype(np.int16) - b).mean() for a, b in compared]
    del compared
    spent = np.zeros((2, 2))  # side; CPU, clock
    for first in range(0, len(clips), BLOCK):
        for side, read in enumerate((theirs, ours)):
            begin = time.process_time(), time.perf_counter()
            for number, clip in enumerate(clips[first : first + BLOCK], start=first):
                read(*clip, number)
            spent[side] += time.process_time() - begin[0], time.perf_counter() - begin[1]
    cpu, clock = 1000 * spent.T / len(clips)
    return {
        "clips": len(clips),
        "pil_ms": cpu[0],
        "slic_ms": cpu[1],
        "ratio": cpu[0] / cpu[1],
        "clock_ratio": clock[0] / clock[1],
        "clips_per_s": 1000 / cpu[1],
        "difference": float(np.mean(differences)),
    }


def read(store: ClipStore, jpegs: JpegFolder, clips: Sequence, frames: int) -> Row:
    """Read clips from videos that both sides have opened before."""
    return race(
        clips,
        lambda video, start, _: stacked(jpegs.images(video, start, frames)),
        lambda video, start, _: store.read(video, start, frames),
    )


def first_read(store: ClipStore, jpegs: JpegFolder, clips: Sequence, frames: int) -> Row:
    """Like `read`, from a store that has not opened the video before."""
    fresh = [ClipStore(store.path) for _ in range(len(clips) + COMPARED)]
    for each in fresh:
        each.entry(clips[0][0])  # connects to the index, once for a process
    return race(
        clips,
        lambda video, start, _: stacked(jpegs.images(video, start, frames)),
        lambda video, start, _: fresh.pop().read(video, start, frames),
    )


def read_and_augment(store: ClipStore, jpegs: JpegFolder, clips: Sequence, frames: int) -> Row:
    """Read clips, and augment them with the same random parameters."""

    def theirs(video: str, start: int, number: int) -> np.ndarray:
        images = jpegs.images(video, start, frames)
        width, height = images[0].size
        params = draw_augmentation(height, width, np.random.default_rng(number), settings=SETTINGS)
        return stacked([augmented(image, params, SIZE) for image in images])

    def ours(video: str, start: int, number: int) -> np.ndarray:
        clip = store.read(video, start, frames)
        rng = np.random.default_rng(number)
        params = draw_augmentation(clip.shape[1], clip.shape[2], rng, settings=SETTINGS)
        return augment_frames(clip, params, SIZE)

    return race(clips, theirs, ours)


WORK = {"read": read, "first read": first_read, "read + augment": read_and_augment}


def measure(store: ClipStore, folder: Path, count: int) -> tuple[list[Row], list[Row]]:
    """Measure times and sizes of one store, of its videos with the requested short side."""
    wanted = (store.settings("frames") or {}).get("short_side")
    entries = [e for e in store.entries() if min(e.height or 0, e.width or 0) == wanted]
    lengths = {e.id: e.frames or 0 for e in entries if (e.frames or 0) >= max(FRAMES)}
    if not lengths:
        say(f"{store.path.name}: no video of {max(FRAMES)} frames and short side {wanted}")
        return [], []
    jpegs = JpegFolder(folder, store, [e.id for e in store.entries()])
    rows = []
    for what, work in WORK.items():
        for frames in FRAMES if what != "first read" else FRAMES[:1]:
            say(f"{what}: {frames} frames at {wanted}, {len(lengths)} videos")
            rng = np.random.default_rng(frames)
            videos = [str(video) for video in rng.choice(list(lengths), count)]
            clips = [(v, int(rng.integers(lengths[v] - frames + 1))) for v in videos]
            row = work(store, jpegs, clips, frames)
            rows.append({"what": what, "short_side": wanted, "frames": frames, **row})
    kept = (p for part in ("frames", "index") for p in (store.path / part).rglob("*"))
    size = sum(p.stat().st_size for p in kept if p.is_file())
    sizes = {"short_side": wanted, "videos": len(store.ids), "jpeg_bytes": jpegs.bytes}
    return rows, [{**sizes, "store_bytes": size, "ratio": size / jpegs.bytes}]


def stored(sources: Sequence[Path], folder: Path, *, quick: bool) -> list[ClipStore]:
    """Return the stores among the sources, and new ones made of all the videos."""
    stores = [ClipStore(path) for path in sources if (path / "zarr.json").is_file()]
    videos = video_files([path for path in sources if not (path / "zarr.json").is_file()])
    if not sources:
        plan = {"actions": 1, "groups": 2} if quick else {"actions": 10, "groups": 2}
        draw_dataset(folder / "drawn", **plan, clips=1, frames=40, size=(340, 256))
        videos = video_files([folder / "drawn"])
    (folder / "videos").mkdir()
    for number, file in enumerate(videos):
        (folder / "videos" / f"{number:04d}-{file.name}").symlink_to(file.resolve())
    for side in SIDES if videos else ():
        path = folder / f"{side}.zarr"
        prep_frames(str(folder / "videos"), store=str(path), short_side=side, workers=1)
        stores.append(ClipStore(path))
    if any((store.settings("frames") or {}).get("codec") != "jpeg" for store in stores):
        refuse("a store's frames are not JPEGs; give stores prepared with --codec jpeg")
    return stores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", type=Path, metavar="STORE | VIDEO_OR_FOLDER")
    parser.add_argument("--quick", action="store_true", help="few clips; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--clips", type=int, default=300, help="clips per row (default 300)")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    rows: list[Row] = []
    sizes: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        stores = stored(options.sources, Path(folder), quick=options.quick)
        for number, store in enumerate(stores):
            count = 4 if options.quick else options.clips
            found = measure(store, Path(folder) / f"jpegs-{number}", count)
            rows, sizes = rows + found[0], sizes + found[1]
    if not rows:
        refuse("no video is long and large enough; choose others")
    report(rows, sizes, as_json=options.json)
    if options.quick and any(row["difference"] > LARGEST_DIFFERENCE[row["what"]] for row in rows):
        sys.exit("the pixels of both sides differ by more than their decoders explain")


def report(rows: list[Row], sizes: list[Row], *, as_json: bool) -> None:
    versions = {"pillow": PIL.__version__, "torchvision": torchvision.__version__}
    facts = machine(threads=1, simplejpeg=simplejpeg.__version__, **versions)
    if as_json:
        show_json(facts, clips=rows, sizes=sizes, ratio=min(row["ratio"] for row in rows))
        return
    show(rows, COLUMNS, facts)
    print()
    show(sizes, SIZE_COLUMNS, {})


if __name__ == "__main__":
    main()
