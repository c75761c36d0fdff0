"""`slic doctor`: what is installed, what will be used, and what to do where something is amiss."""

import importlib.metadata
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slic import __version__
from slic.runtime.progress import progress
from slic.runtime.text import escape
from slic.upkeep.doctor.machine import LOCKS_WORK, NOT_WRITABLE, machine
from slic.upkeep.doctor.probing import LIMIT_S, Answer, probe

_FAISS = ("faiss-gpu", "faiss-cpu")
if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
    _FAISS = ("faiss-cpu", "faiss-gpu")
# What slic imports, by the names under which it is installed; the first is the one to install.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "numpy": ("numpy",),
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "cv2": ("opencv-contrib-python-headless", "opencv-contrib-python"),
    "av": ("av",),
    "simplejpeg": ("simplejpeg",),
    "zarr": ("zarr",),
    "numcodecs": ("numcodecs",),
    "google_crc32c": ("google-crc32c",),
    "h5py": ("h5py",),
    "faiss": _FAISS,
    "finch": ("finch-clust",),
    "sklearn": ("scikit-learn",),
    "scipy": ("scipy",),
    "threadpoolctl": ("threadpoolctl",),
    "numba": ("numba",),
    "tensorboard": ("tensorboard",),
    "tomli_w": ("tomli-w",),
    "typer": ("typer",),
    "rich": ("rich",),
    "matplotlib": ("matplotlib",),
    "pyarrow": ("pyarrow",),
}
TRITON = "triton"
TRIALS = ("gpu", "training", "engine", "decoding", "flow")
_NVIDIA = Path("/proc/driver/nvidia/version")
LEAST_FREE, LEAST_SHM, LEAST_FILES = 2 << 30, 512 << 20, 1024
_TORCH = "pip install --force-reinstall torch torchvision"


@dataclass(frozen=True)
class Problem:
    """Something amiss: what it means, what to do; `needed` if slic cannot do its work without."""

    what: str
    todo: str
    needed: bool = True


def doctor(*, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Look at this installation and machine, and try what commands rely on.

    Everything is tried in a child process; what hangs or kills it is a finding like others.

    Args:
        limit_s: seconds for each trial.

    Returns:
        slic, python, platform, packages {name: version or null}, driver, cuda, gpus, training
        {device, precision, preset}, flow {engine, device}, neighbours, machine (as
        `slic.upkeep.doctor.machine`), trials {decoding, flow}, problems [{what, todo, needed}], ok,
        seconds.
    """
    begin = time.monotonic()
    imports = {f"import {name}": name for name in (*PACKAGES, TRITON)}
    names = (*imports, *TRIALS)
    with progress(len(names), "doctor", unit="trials") as advance:
        answers = probe(names, limit_s=limit_s, advance=advance)
    found = machine()
    driver = _driver()
    problems = [
        *_of_packages(answers),
        *_of_gpus(answers, driver),
        *_of_trials(answers),
        *_of_machine(found),
    ]
    gpu = answers["gpu"].value
    return {
        "slic": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {names[0]: _version(names) for names in (*PACKAGES.values(), (TRITON,))},
        "driver": driver,
        "cuda": gpu.get("built_for"),
        "gpus": gpu.get("gpus", []),
        "training": answers["training"].value or None,
        "flow": answers["engine"].value or None,
        "neighbours": _neighbours(answers),
        "machine": found,
        "trials": {name: answers[name].value or None for name in ("decoding", "flow")},
        "problems": [asdict(problem) for problem in problems],
        "ok": not any(problem.needed for problem in problems),
        "seconds": round(time.monotonic() - begin, 1),
    }


def _neighbours(answers: Mapping[str, Answer]) -> str | None:
    """How nearest neighbours are found here; the number is slic.neighbours.lists's."""
    if answers["import faiss"].error:
        return None
    on_gpu = bool(answers["gpu"].value.get("gpus"))
    where = "faiss on the CPU" + ", large searches of training on its GPU" * on_gpu
    return f"{where}; exact, from 1,000,000 rows by an IVF index"


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _driver() -> str | None:
    """Version of NVIDIA's driver, if one is loaded."""
    try:
        match = re.search(r"Kernel Module\D*([\d.]+)", _NVIDIA.read_text())
    except OSError:
        return None
    return match[1] if match else "unknown"


def _of_packages(answers: Mapping[str, Answer]) -> list[Problem]:
    problems: list[Problem] = []
    told: set[str] = set()
    for package, names in PACKAGES.items():
        error, name = answers[f"import {package}"].error, names[0]
        if error is None:
            problems += _of_version(names)
        elif error in told:  # of another package that this one imports
            continue
        elif _version(names) is None:
            problems.append(Problem(f"{name} is missing", f"pip install {name}"))
        else:
            again = f"pip install --force-reinstall {name}"
            problems.append(Problem(f"{name} does not import: {escape(error)}", again))
        told |= {error} if error else set()
    return problems


def _of_version(names: tuple[str, ...]) -> list[Problem]:
    """A package that is older than slic's own metadata asks for."""
    least = _least_versions()
    for name in names:
        version, asked = _version((name,)), least.get(name)
        if version is not None and asked is not None and _numbers(version) < _numbers(asked):
            todo = f"pip install --upgrade '{name}>={asked}'"
            return [Problem(f"{name} {version} is older than {asked}", todo)]
    return []


def _least_versions() -> dict[str, str]:
    try:
        lines = importlib.metadata.requires("slic") or []
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return {}
    return {m[1]: m[2] for line in lines if (m := re.match(r"([\w.-]+)>=([\d.]+)", line))}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])


def _of_gpus(answers: Mapping[str, Answer], driver: str | None) -> list[Problem]:
    """A GPU that would stay idle, or does not compute. Without a GPU, none is missed."""
    found = answers["gpu"]
    if answers["import torch"].error is not None:
        return []
    if found.error is not None:
        return [Problem(f"looking for GPUs fails: {escape(found.error)}", "use --device cpu")]
    if driver is not None and not found.value["available"]:
        return [_idle(found.value, driver)]
    problems = [
        Problem(f"GPU {number} fails: {escape(gpu['problem'])}", _TORCH)
        for number, gpu in enumerate(found.value["gpus"])
        if gpu["problem"]
    ]
    if found.value["gpus"] and (error := answers[f"import {TRITON}"].error):
        what = f"Triton does not import ({escape(error)}): flow takes the slower engine torch"
        problems.append(Problem(what, f"pip install {TRITON}", needed=False))
    return problems


def _idle(value: Mapping[str, Any], driver: str) -> Problem:
    built = value["built_for"]
    if built is None:
        what = "there is an NVIDIA driver, but PyTorch is built without CUDA"
        return Problem(f"{what}: the GPU stays idle", _TORCH, needed=False)
    said = f" ({escape(value['said'])})" if value["said"] else ""
    what = f"PyTorch is built for CUDA {built}, which does not start on driver {driver}{said}"
    todo = "update the driver, or install a PyTorch for an older CUDA (pytorch.org)"
    return Problem(f"{what}: the GPU stays idle", todo, needed=False)


def _of_trials(answers: Mapping[str, Answer]) -> list[Problem]:
    """Trials that fail although all that they import is there."""
    if any(answers[f"import {package}"].error for package in PACKAGES):
        return []
    again = "pip install --force-reinstall"
    advice = {
        "training": "give --device cpu",
        "engine": "give --engine opencv",
        "decoding": f"{again} av; or see that a child process may start, and write to its TMPDIR",
        "flow": f"{again} numba llvmlite; or give --engine opencv",
    }
    return [
        Problem(f"the trial of {name} fails: {escape(error)}", todo)
        for name, todo in advice.items()
        if (error := answers[name].error)
    ]


def _of_machine(found: Mapping[str, Any]) -> list[Problem]:
    problems = []

    def amiss(what: str, todo: str) -> None:
        problems.append(Problem(what, todo, needed=False))

    if found["locks"] == NOT_WRITABLE:
        amiss("this folder is not writable", "run slic in a folder of yours")
    elif found["locks"] not in (None, LOCKS_WORK):
        amiss("files cannot be locked here", "let one process at a time write a store")
    for key, least, what, todo in (
        ("disk_free", LEAST_FREE, "little room here", "free some, or work in another place"),
        ("shm_free", LEAST_SHM, "little room in /dev/shm", "give a container --shm-size 2g"),
    ):
        if found[key] is not None and found[key] < least:
            amiss(f"{what}: {found[key] >> 20} MiB", todo)
    if found["open_files"] is not None and 0 <= found["open_files"] < LEAST_FILES:
        amiss(f"only {found['open_files']} files may be open at once", "ulimit -n 4096")
    return problems
