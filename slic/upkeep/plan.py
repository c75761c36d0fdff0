"""`slic plan`: what data will cost to prepare, train on and evaluate, before any of it is done."""

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch

from slic.config import make_settings
from slic.datasets.videos import read_dataset
from slic.errors import InputError
from slic.prep.frames_video import FRAMES
from slic.prep.store import LayoutChoice, is_store
from slic.prep.tvl1 import resolve_engine
from slic.runtime.disk import check_writable
from slic.runtime.processes import available_cores
from slic.runtime.text import escape
from slic.train.recluster import clusterings_left
from slic.train.run import CPU_PRESET, GPU_PRESET
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import KNOWN, Data, imagined, known
from slic.upkeep.cost.measure import (
    computing_on_cpu,
    computing_on_gpu,
    flow_on_cpu,
    flow_on_gpu,
    neighbours,
    net_of,
    preparing,
    reading,
    starting,
)
from slic.upkeep.cost.model import (
    FILES_A_VIDEO,
    FOLDERS_A_VIDEO,
    ON_GPUS,
    Fleet,
    Model,
    Stage,
    needed,
)
from slic.upkeep.cost.rates import (
    UNITS,
    Given,
    Rate,
    assumed_gpu,
    assumed_here,
    missing,
    read_rates,
    write_rates,
)
from slic.upkeep.cost.sampled import Sampler, sampled, stored, take_drawn

MOST = {"--gpus": 10**6, "--machines": 10**6, "--cores": 10**4}
DEFAULT_GPU = "h100"
LEAST_FRAMES = 2 * FRAMES  # to measure by; with fewer, drawn video helps out
OF_DATA, DRAWN = "some of its videos", "drawn video (MPEG-4, 320x240)"


@dataclass(frozen=True)
class Asked:
    """What is to be planned for.

    Attributes:
        dataset: folder, csv, list, store, or the name of a known set; None with `videos`.
        layout: how a folder is to be read.
        videos, seconds, fps: of a set that does not exist yet.
        preset: where settings start; by device if None.
        epochs: of training; the preset's if None.
        gpus: in all; those here if None.
        gpu: kind of GPU, where it is not the one here.
        machines: how many.
        cores: of each; as in the file of rates, or here, if None.
        rates: file of rates measured elsewhere.
    """

    dataset: str | None = None
    layout: LayoutChoice = "auto"
    videos: int | None = None
    seconds: float = 10.0
    fps: float = 30.0
    preset: str | None = None
    epochs: int | None = None
    gpus: int | None = None
    gpu: str | None = None
    machines: int = 1
    cores: int | None = None
    rates: str | None = None


def plan(asked: Asked, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Estimate what data will cost; nothing is written.

    Args:
        asked: data, settings and machines.
        say: takes lines meant for the user.

    Returns:
        `data`, `preset`, `epochs`, `fleet`, `stages` (name, amount, unit, seconds, limit, assumed,
        by: time of what works side by side, gpu_hours, core_hours), `totals`, `bytes`, `files`,
        `folders`, `rates`, `first`: the stage that takes longest and its limit.

    Raises:
        InputError and its kinds: a wrong option, or data that cannot be read.
    """
    given = read_rates(Path(asked.rates)) if asked.rates else Given({})
    fleet = _fleet(asked, given.cores)
    kind = _gpu_kind(asked, fleet)
    preset = asked.preset or (GPU_PRESET if fleet.gpus else CPU_PRESET)
    # All presets are SLIC's.
    settings = cast(SlicSettings, make_settings(preset, options={"epochs": asked.epochs}))
    known_rates = {**assumed_here(), **_of_gpu(kind, given.rates), **given.rates}
    path = _data_there(asked)
    if path is not None and known(str(path)) is not None:
        say(f"{path}: what is here by that name, not the published set")
    told = _told(asked) if path is None or asked.videos is not None else None
    left = missing(known_rates, needed(fleet))
    found, measured = _looked_at(path, asked, settings, left, say)
    data = found or told
    assert data is not None
    rates = {**measured, **known_rates}
    many = clusterings_left(settings, 0)
    model = Model(data, settings, net_of(settings), fleet, rates, clusterings=many)
    return _result(model, rates, preset=preset, kind=kind)


def measure_rates(asked: Asked, file: Path, *, say: Callable[[str], None] = print) -> list[str]:
    """Measure this machine, on the data or on drawn video, and write the rates to a file.

    Returns:
        Names of the rates measured.

    Raises:
        InputError: there is a file of that name that holds no rates.
        DiskError: the file cannot be written.
    """
    _check_target(file)
    fleet = _fleet(asked)
    preset = asked.preset or (GPU_PRESET if torch.cuda.is_available() else CPU_PRESET)
    settings = cast(SlicSettings, make_settings(preset))
    wanted = needed(Fleet(1, fleet.cores, 0))
    wanted += ON_GPUS if torch.cuda.is_available() else []
    path = _data_there(asked)
    if path is None and asked.dataset is not None:
        _told(asked)
    _, measured = _looked_at(path, asked, settings, missing(assumed_here(), wanted), say)
    rates = {**measured, **assumed_here()}
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    write_rates(file, rates, about={"cores": available_cores(), "gpu": gpu, "preset": preset})
    return [name for name, rate in rates.items() if rate.how == "measured"]


def _check_target(file: Path) -> None:
    """Refuse what cannot be written before it is measured, and to take another file's place."""
    if os.path.lexists(file):
        try:
            read_rates(file)
        except InputError:
            raise InputError(
                f"--measure {escape(file)}: there is such a file, not of rates"
            ) from None
    folder = file.absolute().parent
    if not folder.is_dir():
        raise InputError(f"--measure {escape(file)}: there is no folder {escape(folder)}")
    check_writable(folder)


def _fleet(asked: Asked, measured_on: int | None = None) -> Fleet:
    """The machines asked for; of as many cores as the one that rates were measured on, or this."""
    here = torch.cuda.device_count()
    gpus = asked.gpus if asked.gpus is not None else (here or int(asked.gpu is not None))
    cores = asked.cores if asked.cores is not None else (measured_on or available_cores())
    for option, value, least in (
        ("--gpus", gpus, 0),
        ("--machines", asked.machines, 1),
        ("--cores", cores, 1),
    ):
        if not least <= value <= MOST[option]:
            raise InputError(f"{option} {value}: must lie between {least} and {MOST[option]}")
    if asked.gpu is not None and not gpus:
        raise InputError(f"--gpu {escape(asked.gpu[:40])}: leave it out with --gpus 0")
    return Fleet(asked.machines, cores, gpus)


def _gpu_kind(asked: Asked, fleet: Fleet) -> str | None:
    """The kind of GPU whose rates must be assumed; None where there are none, or it is here."""
    if not fleet.gpus:
        return None
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    kind = None if asked.gpu is None else asked.gpu.lower()
    if name and (kind is None or kind in name.lower()):
        return None
    return kind or DEFAULT_GPU


def _of_gpu(kind: str | None, given: Mapping[str, Rate]) -> dict[str, Rate]:
    """What is assumed of a GPU that is not here, unless all of it is given."""
    if kind is None or not missing(given, ON_GPUS):
        return {}
    return assumed_gpu(kind)


def _data_there(asked: Asked) -> Path | None:
    """The path of data that is there."""
    there = asked.dataset is not None and os.path.exists(asked.dataset)
    return Path(asked.dataset or "") if there else None


def _looked_at(
    path: Path | None,
    asked: Asked,
    settings: SlicSettings,
    wanted: Sequence[str],
    say: Callable[[str], None],
) -> tuple[Data | None, dict[str, Rate]]:
    """Amounts of data that is there, if any, and the rates wanted, measured."""
    if path is None and not wanted:
        return None, {}
    say("measuring for some seconds" if wanted else "looking at some videos")
    with (
        tempfile.TemporaryDirectory(prefix="slic-plan-") as folder,
        Sampler(Path(folder)) as sampler,
    ):
        data = None
        if path is not None and is_store(path):
            data = stored(path, sampler, settings=settings)
        elif path is not None:
            data = sampled(read_dataset(path, layout=asked.layout), sampler, settings=settings)
        return data, _measured(sampler, Path(folder), settings, wanted)


def _told(asked: Asked) -> Data:
    if asked.videos is not None:
        if asked.dataset is not None:
            raise InputError("--videos is for data that is not there: leave out DATASET")
        return imagined(asked.videos, seconds=asked.seconds, fps=asked.fps)
    if asked.dataset is None:
        raise InputError("give DATASET, or --videos N, or --measure FILE")
    found = known(asked.dataset)
    if found is None:
        names = ", ".join(KNOWN)
        raise InputError(
            f"{escape(asked.dataset[:200])}: no such file or folder, and no known set ({names})"
        )
    return found


def _measured(
    sampler: Sampler, folder: Path, settings: SlicSettings, wanted: Sequence[str]
) -> dict[str, Rate]:
    rates: dict[str, Rate] = {}
    if not wanted:
        return rates
    own, of, decoding = list(sampler.looks), OF_DATA, sampler.decoding_s()
    if decoding is not None:
        rates |= preparing(own, decoding=decoding, of=of)
    if sum(look.frames for look in own) < LEAST_FRAMES or decoding is None:
        of = f"{OF_DATA}, and {DRAWN}" if own else DRAWN
        take_drawn(sampler, folder)
        decoding = sampler.decoding_s()
        assert decoding is not None
        rates = preparing(sampler.looks[len(own) :], decoding=decoding, of=DRAWN) | rates
    if {"flow_cpu", "read", "augment"} & set(wanted):
        rates |= flow_on_cpu(sampler.store, of=of) | reading(sampler.store, settings, of=of)
    if "flow_gpu" in wanted:
        engine, device = resolve_engine("auto", None)
        rates |= flow_on_gpu(sampler.store, engine=engine, device=device, of=of)
    if "compute_cpu" in wanted:
        rates |= computing_on_cpu(settings)
    if "compute_gpu" in wanted:
        rates |= computing_on_gpu(settings, torch.device("cuda"))
    if "neighbours" in wanted:
        rates |= neighbours()
    if "start" in wanted:
        rates |= starting()
    return rates


def _result(
    model: Model, rates: Mapping[str, Rate], *, preset: str, kind: str | None
) -> dict[str, Any]:
    data, fleet, stages = model.data, model.fleet, model.stages()
    listed = [_stage(stage, rates) for stage in stages]
    longest = max(stages, key=lambda stage: stage.time)
    used = {name for stage in stages for names in stage.rates.values() for name in names}
    used |= {"start"}
    return {
        "data": asdict(data),
        "preset": preset,
        "epochs": model.settings.epochs,
        "fleet": {**asdict(fleet), "gpu": kind},
        "stages": listed,
        "totals": {
            key: sum(stage[key] for stage in listed)
            for key in ("seconds", "gpu_hours", "core_hours")
        },
        "bytes": {name: round(size) for name, size in model.sizes().items()},
        "files": data.videos * FILES_A_VIDEO,
        "folders": data.videos * FOLDERS_A_VIDEO,
        "rates": {n: {**asdict(rates[n]), "unit": UNITS[n]} for n in UNITS if n in used},
        "first": {"stage": longest.name, "limit": longest.limit},
    }


def _stage(stage: Stage, rates: Mapping[str, Rate]) -> dict[str, Any]:
    hours, held = stage.time / 3600, stage.fleet
    return {
        "name": stage.name,
        "amount": round(stage.amount),
        "unit": stage.unit,
        "seconds": stage.time,
        "limit": stage.limit,
        "assumed": stage.assumes(rates),
        "by": dict(stage.seconds),
        "gpu_hours": hours * held.gpus,
        "core_hours": hours * held.all_cores * (not held.gpus),
    }
