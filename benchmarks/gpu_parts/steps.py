"""The step of training: speed and memory, and curves of losses, against fp32, eager, NCDHW."""

import math
from collections.abc import Iterator

import torch
from common import Row, show
from train_step import COLUMNS, CONTROL, PEER, QUICK_BATCH, QUICK_STEPS, make_sides, measure

from gpu_parts import Day
from slic.config import make_settings

STEPS = 10
CURVE_STEPS = 197  # and 3 of warm-up
# Smaller than what is timed, as the peer's 200 steps of 32 samples took minutes. Not compiled, as
# this is other shapes to compile for.
CURVE = {"batch_size": 8, "frames": 8, "size": 112}
REHEARSED = {"batch_size": QUICK_BATCH}
SHOWN = ("side", "ms", "ratio", "peak_mb", "first_difference", "gradient_difference")
CURVE_SHOWN = ("side", "ms", "mean_difference", "largest_difference", "mean_loss")


def steps(day: Day) -> Iterator[Row]:
    """Measure time and peak memory of the peer's step, of ours, and of ours compiled.

    The compiled side comes last, after the others' figures are safe.
    """
    device = torch.device(day.device)
    settings = make_settings(day.preset, options=REHEARSED if day.rehearse else {})
    sides = make_sides(settings, device, compile=not day.rehearse, recompute=False)
    usual, ours = sides.pop(PEER), list(sides)[1 if day.rehearse else 3 :]
    rows: list[Row] = []
    for name in ours:
        chosen = {PEER: usual, name: sides[name]}
        count, most = (QUICK_STEPS, math.inf) if day.rehearse else (STEPS, day.seconds / 4)
        peer, found = measure(chosen, settings, device, count, seconds=most)
        rows += [found] if rows else [peer, found]
        best = max(rows[1:], key=lambda row: row["ratio"])
        figures = [
            f"{best['side']}: {best['ms']:.1f} ms, {best['ratio']:.2f} times the peer's speed"
        ]
        yield {"batch": settings.batch_size, "sides": rows, "figures": figures}
    show(rows, [c for c in COLUMNS if c.key in SHOWN], {})


def curves(day: Day) -> Iterator[Row]:
    """Record losses of the peer, of the peer with changed last bits of its weights, and ours."""
    device = torch.device(day.device)
    settings = make_settings(day.preset, options=REHEARSED if day.rehearse else CURVE)
    sides = make_sides(settings, device, compile=False, recompute=False)
    ours = list(sides)[-1]
    chosen = {name: sides[name] for name in (PEER, CONTROL, ours)}
    count = QUICK_STEPS if day.rehearse else CURVE_STEPS
    rows = measure(chosen, settings, device, count, seconds=0.6 * day.seconds)
    apart = [f"{row['mean_difference']:.3f}" for row in rows]
    figures = [f"{len(rows[0]['losses'])} steps; mean difference {apart[2]}, last bits {apart[1]}"]
    yield {"batch": settings.batch_size, "sides": rows, "figures": figures}
    show(rows, [c for c in COLUMNS if c.key in CURVE_SHOWN], {})
    if not all(math.isfinite(loss) for loss in rows[2]["losses"]):
        raise SystemExit(f"{ours}: a loss is not finite")
