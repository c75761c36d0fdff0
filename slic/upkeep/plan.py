"""`slic plan`: estimate the cost of preparing, training on and evaluating data beforehand."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from slic.config import make_settings
from slic.datasets.videos import read_dataset
from slic.errors import InputError
from slic.prep.store import LayoutChoice, is_store
from slic.runtime.disk import check_writable
from slic.runtime.processes import available_cores
from slic.runtime.text import counted, escape
from slic.train.recluster import clusterings_left
from slic.train.run import CPU_PRESET, GPU_PRESET
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import KNOWN, Data, described, known, sampled, stored
from slic.upkeep.cost.measure import measure
from slic.upkeep.cost.model import FILES_A_VIDEO, FOLDERS_A_VIDEO, Fleet, Model, network_of
from slic.upkeep.cost.rates import UNITS, Rate, assumed, read_rates, write_rates

DEFAULT_GPU = "h100"
ON_CPU, ON_GPU = ["flow_cpu", "compute_cpu"], ["flow_gpu", "compute_gpu"]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Scenario:
    """The data, settings and machines to plan for.

    Attributes:
        dataset: folder, csv, list, store, or the name of a known set; None with `videos`.
        layout: how to read a folder.
        videos, seconds, fps: number, length and frame rate of videos that do not exist yet.
        preset: settings of training; by device if None.
        epochs: epochs of training; the preset's if None.
        gpus: total number of GPUs on all machines; those here if None.
        gpu: kind of GPU; the one here if None.
        machines: number of machines.
        cores: cores of each machine; as in the file of rates, or here, if None.
        rates: file of rates, which replace measurements and assumptions.
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


def plan(scenario: Scenario, *, say: Say = print) -> dict[str, Any]:
    """Estimate what a scenario costs; nothing is written.

    Args:
        scenario: data, settings and machines.
        say: called with progress lines.

    Returns:
        `data`, `preset`, `epochs`, `fleet`, `stages` (name, amount, unit, seconds, limit, rate,
        assumed, by: seconds of each part, gpu_hours, core_hours), `totals`, `bytes`, `files`,
        `folders`, `rates`, `first`: the longest stage and its limit.

    Raises:
        InputError: an option is wrong, or the data cannot be read.
    """
    given, cores = read_rates(Path(scenario.rates)) if scenario.rates else ({}, None)
    fleet = _fleet(scenario, cores)
    preset = scenario.preset or (GPU_PRESET if fleet.gpus else CPU_PRESET)
    settings = _settings(preset, scenario.epochs)
    kind = _gpu_elsewhere(scenario, fleet)
    rates = assumed(None if given.keys() >= {*ON_GPU} else kind) | given
    data, decode = _amounts(scenario, settings, say)
    rates = decode | rates
    rates |= _measured(["decode", *(ON_GPU if fleet.gpus else ON_CPU)], settings, rates, say)
    many = clusterings_left(settings, 0)
    model = Model(data, settings, network_of(settings), fleet, rates, many)
    return {"preset": preset, **_result(model, kind)}


def measure_rates(scenario: Scenario, file: Path, *, say: Say = print) -> list[str]:
    """Measure this machine and write its rates to a file.

    Args:
        scenario: its preset, and its data set if decoding is to be measured on that.
        file: file to write.
        say: called with progress lines.

    Returns:
        The names of the measured rates.

    Raises:
        InputError: the file exists and is not a file of rates, or its folder does not exist.
        DiskError: the file cannot be written.
    """
    if os.path.lexists(file):
        read_rates(file)
    if not file.absolute().parent.is_dir():
        raise InputError(f"--measure {escape(file)}: its folder does not exist")
    check_writable(file.absolute().parent)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    preset = scenario.preset or (GPU_PRESET if gpu else CPU_PRESET)
    settings, names = _settings(preset), ["decode", *ON_CPU, *(ON_GPU if gpu else [])]
    rates = _amounts(scenario, settings, say)[1] if scenario.dataset is not None else {}
    rates |= _measured(names, settings, rates, say)
    about = {"cores": available_cores(), "gpu": gpu, "preset": preset}
    write_rates(file, {**assumed(), **rates}, about=about)
    return list(rates)


def _settings(preset: str, epochs: int | None = None) -> SlicSettings:
    settings = make_settings(preset, options={"epochs": epochs})
    assert isinstance(settings, SlicSettings)  # as those of every preset
    return settings


def _measured(
    names: Iterable[str], settings: SlicSettings, known: Mapping[str, Rate], say: Say
) -> dict[str, Rate]:
    """Measure the rates that are not known."""
    missing = [name for name in names if name not in known]
    if missing:
        say(f"measuring {', '.join(missing)} on this machine")
    return measure(missing, settings)


def _amounts(scenario: Scenario, settings: SlicSettings, say: Say) -> tuple[Data, dict[str, Rate]]:
    """Return the amounts of the data, and the rate of decoding it if its files are here."""
    name, fps, seconds = scenario.dataset, scenario.fps, scenario.seconds
    if scenario.videos is not None:
        if name is not None:
            raise InputError("--videos is for data that does not exist yet: omit DATASET")
        title = f"{counted(scenario.videos, 'video')} of {seconds:g} s"
        basis, frames = f"320x240 assumed, {fps:g} frames/s", max(1.0, seconds * fps)
        return described(title, basis=basis, train=scenario.videos, frames=frames), {}
    if name is None:
        raise InputError("give DATASET, or --videos N, or --measure FILE")
    if not os.path.exists(name):
        if name.lower() in KNOWN:
            return known(name.lower()), {}
        raise InputError(
            f"{escape(name[:200])}: no such file or folder, and not one of {', '.join(KNOWN)}"
        )
    if name.lower() in KNOWN:
        say(f"{name}: planning for the folder or file of that name, not the published data set")
    if is_store(Path(name)):
        return stored(Path(name), settings=settings), {}
    say("sampling some videos")
    data, rate = sampled(read_dataset(name, layout=scenario.layout), settings=settings)
    return data, {"decode": rate}


def _fleet(scenario: Scenario, cores_of_rates: int | None) -> Fleet:
    gpus, cores = scenario.gpus, scenario.cores
    if gpus is None:
        gpus = torch.cuda.device_count() or int(scenario.gpu is not None)
    if cores is None:
        cores = cores_of_rates or available_cores()
    if scenario.gpu is not None and not gpus:
        raise InputError(f"--gpu {escape(scenario.gpu[:40])}: omit it with --gpus 0")
    return Fleet(scenario.machines, cores, gpus)


def _gpu_elsewhere(scenario: Scenario, fleet: Fleet) -> str | None:
    """Return the kind of the fleet's GPUs, or None if rates of the one here hold."""
    if not fleet.gpus:
        return None
    here = torch.cuda.get_device_name().lower() if torch.cuda.is_available() else ""
    kind = (scenario.gpu or "").lower()
    return None if here and kind in here else kind or DEFAULT_GPU


def _result(model: Model, kind: str | None) -> dict[str, Any]:
    data, rates, stages = model.data, model.rates, model.stages()
    longest = max(stages, key=lambda stage: stage.seconds)
    entries = [
        {
            "name": stage.name,
            "amount": round(stage.amount),
            "unit": stage.unit,
            "seconds": stage.seconds,
            "limit": stage.limit,
            "rate": stage.rate,
            "assumed": rates[stage.rate].how == "assumed",
            "by": {part: seconds for part, (seconds, _) in stage.parts.items()},
            "gpu_hours": stage.seconds / 3600 * stage.fleet.gpus,
            "core_hours": stage.seconds / 3600 * stage.fleet.all_cores * (not stage.fleet.gpus),
        }
        for stage in stages
    ]
    totals = ("seconds", "gpu_hours", "core_hours")
    return {
        "data": asdict(data),
        "epochs": model.settings.epochs,
        "fleet": {**asdict(model.fleet), "gpu": kind},
        "stages": entries,
        "totals": {key: sum(entry[key] for entry in entries) for key in totals},
        "bytes": {name: round(size) for name, size in model.sizes().items()},
        "files": data.videos * FILES_A_VIDEO,
        "folders": data.videos * FOLDERS_A_VIDEO,
        "rates": {n: {**asdict(rates[n]), "unit": UNITS[n]} for n in UNITS if n in rates},
        "first": {"stage": longest.name, "limit": longest.limit},
    }
