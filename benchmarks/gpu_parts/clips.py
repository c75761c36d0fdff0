"""Reading, augmenting and training on clips: agreement and rates."""

from collections.abc import Iterator

import torch
from common import Column, Row, show
from train_rates import MATES, Bench
from train_speed import (
    AUGMENTING,
    CUTTERS,
    EPOCH_COLUMNS,
    LARGEST_DIFFERENCE,
    QUICK,
    RATE_COLUMNS,
    READERS,
    STEPS,
    Name,
    Work,
    epochs,
    finch_seconds,
    rates,
    stored,
    work_of,
)

from gpu_parts import Day
from slic.config import make_settings
from slic.engine.forward import ComputeOptions
from slic.runtime.devices import default_readers

ON_CPU = "slic, one core"
RATES_SHOWN = ("what", "side", "clips_per_s", "cpu_ms")
EPOCHS_SHOWN = ("readers", "clips_per_s", "smaller", "of_smaller", "epoch_s", "clustering_share")
# A row has its seconds once more to fill its queues and to be idle after it.
SHARE_A_ROW = 1 / 30
QUICK_S = 0.05


def _bench(day: Day, *, workers: int) -> Bench:
    changes = {"flow_probability": 0.0, **(QUICK if day.rehearse else {})}
    return Bench(
        stored(day.videos if len(day.videos) > MATES else (), day.folder),
        day.folder / "jpegs",
        settings=make_settings(day.preset, options=changes),
        compute=ComputeOptions(torch.device(day.device), workers=workers),
        seconds=QUICK_S if day.rehearse else day.seconds * SHARE_A_ROW,
    )


def _rates(work: dict[Name, Work]) -> Iterator[list[Row]]:
    """Yield all rows so far, after each new one."""
    rows: list[Row] = []
    for name, rate in work.items():
        rows += rates({name: rate}, rounds=1)
        yield rows


def _show(rows: list[Row]) -> None:
    show(rows, [c for c in RATE_COLUMNS if c.key in RATES_SHOWN], {})


def augmentation(day: Day) -> Iterator[Row]:
    """Compare pixels augmented on the device with OpenCV's, and measure both rates."""
    bench = _bench(day, workers=0)
    apart = bench.differences()["device"]
    figures = [f"{apart:.2f} levels from the CPU's"]
    yield {"difference_levels": apart, "figures": figures}
    work: dict[Name, Work] = {
        ("augmentation", ON_CPU): bench.augmenting_on_cpu,
        ("device", AUGMENTING): bench.augmenting_alone,
    }
    for rows in _rates(work):
        told = [f"{row['side']} {row['clips_per_s']:,.0f} clips/s" for row in rows]
        yield {"rates": rows, "figures": figures + told}
    _show(rows)
    if not apart <= LARGEST_DIFFERENCE["device"]:
        raise SystemExit(f"the device's pixels are {apart:.2f} levels from the CPU's")


def together(day: Day) -> Iterator[Row]:
    """Measure slic's readers, its steps, both at once, and an epoch of UCF101's size.

    The usual readers and steps are left out: to fill and empty their queues alone takes a minute.
    """
    bench = _bench(day, workers=default_readers(torch.device(day.device)))
    every = work_of(bench, readers_only=False)
    work = {name: every[name] for name in every if name[1] in (READERS, CUTTERS, STEPS)}
    for rows in _rates(work):
        told = [f"{row['what']} {row['clips_per_s']:,.0f}" for row in rows]
        yield {"workers": bench.compute.workers, "rates": rows, "figures": [*told[-1:], "clips/s"]}
    lines = epochs(rows, finch_seconds(quick=day.rehearse))
    yield {"epochs": lines, "figures": [_ratio(line) for line in lines]}
    _show(rows)
    columns: list[Column] = [c for c in EPOCH_COLUMNS if c.key in EPOCHS_SHOWN]
    show(lines, columns, {})


def _ratio(line: Row) -> str:
    together, share = line["clips_per_s"], line["of_smaller"]
    return f"{line['readers']}: {together:,.0f} clips/s, {share:.2f} of the {line['smaller']}"
