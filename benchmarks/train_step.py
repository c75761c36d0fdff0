"""The training step: slic's ways to compute it compared with fp32, eager, NCDHW.

    python benchmarks/train_step.py [--quick] [--json] [--preset ucf101-16f] [--batch 32]
        [--steps 20] [--device cuda] [--compile] [--recompute]

Batches are drawn, and lie on the device. Every side starts from the same weights, and takes the
same steps on the same batches with slic's losses: three clips of each sample in one forward, choice
of negatives, backward, optimiser. The peer (peer_training.py) has PyTorch's defaults, but TF32
nowhere. Sides take turns step by step, the device waited for; medians after 3 steps of warm-up.

First losses and gradients tell how near a side computes; the curves of losses part in any case,
as a change of the weights' last bits grows from step to step: one more peer, whose weights are so
changed, shows how far. --quick takes a few small steps and checks first losses and gradients.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from common import Column, Row, machine, refuse, say, show, show_json
from peer_training import Side, plain_side, slic_side
from torch import Tensor, nn
from torch.nn.functional import interpolate

from slic.config import PRESETS, Settings, make_settings
from slic.encoders.precision import resolve_precision
from slic.engine.forward import ComputeOptions
from slic.errors import SlicError
from slic.runtime.devices import pick_device
from slic.train.methods.slic import SLIC
from slic.train.negatives import UNKNOWN, BatchLabels
from slic.train.run import CPU_PRESET, GPU_PRESET

PEER = "fp32, eager, NCDHW"
CONTROL = "the same, last bits changed"
BATCHES, WARM_UP = 4, 3
STEPS, QUICK_STEPS, QUICK_BATCH = 20, 2, 4
NOISE = 2.0  # of a view against what a sample's views share; with less the loss soon vanishes
COARSE = (3, 4, 8, 8)  # of what clips are drawn from: channels, frames, height, width
# Relative, of loss and gradient of the first step of --quick.
LARGEST_DIFFERENCE = {"fp32": (1e-4, 0.02), "tf32": (0.02, 0.3), "bf16": (0.05, 0.5)}
COLUMNS = (
    Column("side", "side"),
    Column("ms a step", "ms", ".1f"),
    Column("CPU ms", "cpu_ms", ".1f"),
    Column("clips/s", "clips_per_s", ".1f"),
    Column("ratio", "ratio", ".2f"),
    Column("by CPU time", "cpu_ratio", ".2f"),
    Column("peak MB", "peak_mb", ",.0f"),
    Column("first loss differs", "first_difference", ".1e"),
    Column("gradient", "gradient_difference", ".1e"),
    Column("curve: mean", "mean_difference", ".3f"),
    Column("most", "largest_difference", ".3f"),
    Column("mean loss", "mean_loss", ".4f"),
)


def drawn_batch(settings: Settings, device: torch.device, *, seed: int) -> Tensor:
    """Generate smooth clips `(3, B, T, size, size, 3)` uint8; the views of a sample are alike."""
    generator = torch.Generator().manual_seed(seed)
    content = torch.randn(settings.batch_size, *COARSE, generator=generator)
    views = []
    for _ in range(SLIC.clips_per_sample):
        coarse = content + NOISE * torch.randn(content.shape, generator=generator)
        size = (settings.frames, settings.size, settings.size)
        fine = interpolate(coarse.to(device), size=size, mode="trilinear")
        views.append(fine.sigmoid().mul(255).byte().permute(0, 2, 3, 4, 1))
    return torch.stack(views)


def make_sides(
    settings: Settings, device: torch.device, *, compile: bool, recompute: bool
) -> dict[str, tuple[Side, str]]:
    """Return the sides and their precision by name, the peer first."""
    best = resolve_precision(settings.precision, device)
    sides = {name: (plain_side(settings, device), "fp32") for name in (PEER, CONTROL)}
    change_last_bits(sides[CONTROL][0].encoder)
    precisions = ("fp32", "tf32", "bf16") if best == "bf16" else ("fp32",)
    for precision in precisions:
        chosen = replace(settings, precision=precision)
        sides[f"slic, {precision}"] = slic_side(chosen, ComputeOptions(device)), precision
    chosen = replace(settings, precision=best)
    if compile:
        sides[f"slic, {best}, compiled"] = (
            slic_side(chosen, ComputeOptions(device, compile=True)),
            best,
        )
    if recompute:
        compute = ComputeOptions(device, recompute=True)
        sides[f"slic, {best}, recomputed"] = slic_side(chosen, compute), best
    return sides


@torch.no_grad()
def change_last_bits(encoder: nn.Module) -> None:
    """Move every weight that is not 0 to the next larger float."""
    for weight in encoder.parameters():
        larger = weight.nextafter(torch.full_like(weight, torch.inf))
        weight.copy_(torch.where(weight == 0, weight, larger))


def gradients_apart(encoders: Sequence[nn.Module]) -> list[float]:
    """Return each encoder's gradient difference from the first's, relative to its norm."""
    rows = (torch.cat([w.grad.flatten() for w in e.parameters()]) for e in encoders)
    first = next(rows)
    return [0.0, *(float((row - first).norm() / first.norm()) for row in rows)]


def timed_step(side: Side, clips: Tensor, labels: BatchLabels, *, seed: int) -> Row:
    """Run one step; return milliseconds, loss, and a GPU's peak memory for this side alone."""
    cuda = side.device.type == "cuda"
    side.prepare()
    others = 0
    if cuda:
        torch.cuda.synchronize(side.device)
        torch.cuda.reset_peak_memory_stats(side.device)
        others = torch.cuda.memory_allocated(side.device) - side.held_bytes()
    begin, cpu = time.perf_counter(), time.process_time()
    loss = float(side.step(clips, labels, seed=seed))
    if cuda:
        torch.cuda.synchronize(side.device)
    row = {"ms": 1000 * (time.perf_counter() - begin), "loss": loss}
    if cuda:
        peak = torch.cuda.max_memory_allocated(side.device) - others
        return {**row, "cpu_ms": None, "peak_mb": peak / 1e6}
    return {**row, "cpu_ms": 1000 * (time.process_time() - cpu), "peak_mb": None}


def measure(
    sides: Mapping[str, tuple[Side, str]],
    settings: Settings,
    device: torch.device,
    steps: int,
    *,
    seconds: float = math.inf,
) -> list[Row]:
    """Run steps of all sides alternately for some seconds; return a row for each side."""
    over = time.monotonic() + seconds
    batches = [drawn_batch(settings, device, seed=seed) for seed in range(BATCHES)]
    unknown = torch.full((settings.batch_size,), UNKNOWN)
    labels = BatchLabels(torch.arange(settings.batch_size) // 2, unknown, unknown)
    took: dict[str, list[Row]] = {name: [] for name in sides}
    apart: list[float] = []
    for number in range(WARM_UP + steps):
        if number > WARM_UP and time.monotonic() > over:
            break
        for name, (side, _) in sides.items():
            clips = batches[number % BATCHES]
            took[name].append(timed_step(side, clips, labels, seed=number))
        apart = apart or gradients_apart([side.encoder for side, _ in sides.values()])
        latest = ", ".join(f"{rows[-1]['ms']:.0f}" for rows in took.values())
        say(f"step {number + 1} of {WARM_UP + steps}: {latest} ms")
    rows = [summary(name, took[name], took[PEER]) for name in sides]
    for row, (_, precision), gradient in zip(rows, sides.values(), apart, strict=True):
        row |= {"precision": precision, "gradient_difference": gradient}
        row["clips_per_s"] = 1000 * SLIC.clips_per_sample * settings.batch_size / row["ms"]
    return rows


def summary(name: str, took: list[Row], peers: list[Row]) -> Row:
    """Summarise one side's steps; differences of losses are relative to the peer's mean loss."""

    def median(rows: list[Row], key: str) -> float | None:
        values = [row[key] for row in rows[WARM_UP:] if row[key] is not None]
        return statistics.median(values) if values else None

    usual = statistics.mean(row["loss"] for row in peers)
    apart = [abs(a["loss"] - b["loss"]) / usual for a, b in zip(took, peers, strict=True)]
    ms, cpu_ms, peak = (median(took, key) for key in ("ms", "cpu_ms", "peak_mb"))
    return {
        "side": name,
        "ms": ms,
        "cpu_ms": cpu_ms,
        "ratio": median(peers, "ms") / ms,
        "cpu_ratio": median(peers, "cpu_ms") / cpu_ms if cpu_ms else None,
        "peak_mb": peak,
        "losses": [row["loss"] for row in took],
        "mean_loss": statistics.mean(row["loss"] for row in took),
        "first_difference": apart[0],
        "largest_difference": max(apart),
        "mean_difference": statistics.mean(apart),
    }


def disagree(row: Row) -> bool:
    """Return whether a first step differs more from the peer's than its precision explains."""
    loss, gradients = LARGEST_DIFFERENCE[row["precision"]]
    # Not by `>`: what is no number is not near.
    return not (row["first_difference"] <= loss and row["gradient_difference"] <= gradients)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few small steps; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--preset", choices=PRESETS, help="preset (default: by device)")
    parser.add_argument("--batch", type=int, help="samples per step (default: the preset's)")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"timed (default {STEPS})")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--compile", action="store_true", help="also a compiled side")
    parser.add_argument("--recompute", action="store_true", help="also a side that recomputes")
    options = parser.parse_args()
    try:
        device = pick_device(options.device)
        preset = options.preset or (GPU_PRESET if device.type == "cuda" else CPU_PRESET)
        batch, steps = options.batch, options.steps
        if options.quick:
            preset, batch, steps = CPU_PRESET, QUICK_BATCH, QUICK_STEPS
        settings = make_settings(preset, options={"batch_size": batch})
        also = {"compile": options.compile, "recompute": options.recompute or options.quick}
        sides = make_sides(settings, device, **also)
        rows = measure(sides, settings, device, max(1, steps))
    except SlicError as error:
        refuse(str(error))
    except torch.OutOfMemoryError:
        refuse(f"{options.device}: out of memory; give a smaller --batch")
    facts = facts_of(settings, preset, device)
    if options.json:
        show_json(facts, sides=rows, ratio=max(row["ratio"] for row in rows[2:]))
    else:
        show(rows, COLUMNS, facts)
    if options.quick and any(disagree(row) for row in rows):
        sys.exit("first steps differ by more than the arithmetic explains")


def facts_of(settings: Settings, preset: str, device: torch.device) -> Row:
    """The machine, and what was computed on it."""
    cuda = device.type == "cuda"
    return machine(
        device=torch.cuda.get_device_name(device) if cuda else "cpu",
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 1),
        preset=preset,
        batch=settings.batch_size,
        clips=f"{settings.frames}x{settings.size}x{settings.size}",
        torch=torch.__version__,
    )


if __name__ == "__main__":
    main()
