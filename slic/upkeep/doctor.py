"""`slic doctor`: report what is installed, what works, and how to repair the rest."""

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from slic import __version__
from slic.runtime.console import say
from slic.runtime.processes import available_cores
from slic.runtime.text import escape
from slic.upkeep.trials import IMPORT, TRIALS, Answer, run_trials

# Packages whose module has another name.
MODULES = {
    "opencv-contrib-python-headless": "cv2",
    "faiss-gpu": "faiss",
    "faiss-cpu": "faiss",
    "finch-clust": "finch",
    "scikit-learn": "sklearn",
}
# Packages that many of the others import, and fail with.
BASIC = ("numpy", "opencv-contrib-python-headless", "scipy", "torch")
LOCKS_WORK, NO_LOCKS, NOT_WRITABLE = "work", "do not work", "folder not writable"
LIMIT_S = 180.0  # per process; the first import of PyTorch from a cold disk takes long
SHM = "/dev/shm"
REINSTALL = "pip install --force-reinstall"


@dataclass(frozen=True)
class Problem:
    """What is wrong, how to repair it, and whether slic cannot work because of it."""

    what: str
    todo: str
    needed: bool = True


def doctor(*, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Inspect this installation and machine, and try what the commands rely on.

    Packages are imported and trials run in child processes, so that one that crashes or hangs is
    reported like any other problem.

    Args:
        limit_s: seconds after which a child process is killed.

    Returns:
        slic, python, platform, packages {name: version or null}, driver, cuda, gpus [{name, memory,
        problem}], training {device, precision, preset}, flow {engine, device}, neighbours, machine
        (see `machine`), trials {decoding, flow}, problems [{what, todo, needed}], ok, seconds.
    """
    begin = time.monotonic()
    packages = requirements()
    modules = [f"{IMPORT}{module_of(name)}" for name in packages]
    say("trying what slic needs; this may take a minute")
    answers = run_trials([*modules, *TRIALS], limit_s=limit_s)
    found, gpus, defaults = machine(), answers["gpus"].value, answers["defaults"].value
    problems = [*_package_problems(packages, answers), *_machine_problems(found)]
    if not any(answers[module].error for module in modules):
        problems += [*_gpu_problems(gpus, defaults), *_trial_problems(answers)]
    return {
        "slic": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": {name: _version(name) for name in (*packages, "triton")},
        "driver": gpus.get("driver"),
        "cuda": gpus.get("cuda"),
        "gpus": gpus.get("gpus", []),
        "training": defaults.get("training"),
        "flow": defaults.get("flow"),
        "neighbours": defaults.get("neighbours"),
        "machine": found,
        "trials": {name: answers[name].value or None for name in ("decoding", "flow")},
        "problems": [asdict(problem) for problem in problems],
        "ok": not any(problem.needed for problem in problems),
        "seconds": round(time.monotonic() - begin, 1),
    }


def requirements() -> dict[str, Requirement]:
    """Return slic's dependencies on this platform by name, without extras, basic ones first."""
    listed = map(Requirement, importlib.metadata.requires("slic") or [])
    needed = [r for r in listed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return {r.name: r for r in sorted(needed, key=lambda r: (r.name not in BASIC, r.name))}


def module_of(package: str) -> str:
    """Return the module by which a package is imported."""
    return MODULES.get(package, package.replace("-", "_"))


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> dict[str, Any]:
    """Describe the machine; None where the system does not say.

    Returns:
        `cores` that this process may use; `memory`, `memory_free`, `disk_free` of the current
        folder and `shm_free` of /dev/shm in bytes; `open_files` that a process may have; `locks`
        in the current folder: LOCKS_WORK, NO_LOCKS or NOT_WRITABLE.
    """
    total, free = _memory()
    return {
        "cores": available_cores(),
        "memory": total,
        "memory_free": free,
        "disk_free": shutil.disk_usage(".").free,
        "shm_free": shutil.disk_usage(SHM).free if os.path.isdir(SHM) else None,
        "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "locks": locks(Path()),
    }


def _memory() -> tuple[int | None, int | None]:
    """Total and free bytes, within the limit of a container."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        known = {name: int(rest.split()[0]) << 10 for name, rest in (s.split(":") for s in lines)}
        total, free = known["MemTotal"], known["MemAvailable"]
    except (OSError, ValueError, LookupError):  # not Linux
        return None, None
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if os.path.exists(path) and (limit := Path(path).read_text().strip()).isdigit():
            total = min(total, int(limit))
    return total, min(free, total)


def locks(folder: Path) -> str:
    """Try whether a lock on a file of a folder excludes a second handle."""
    if not os.access(folder, os.W_OK):
        return NOT_WRITABLE
    with (
        contextlib.suppress(OSError),
        tempfile.NamedTemporaryFile(dir=folder, prefix=".slic-") as first,
        open(first.name, "rb") as second,
    ):
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return LOCKS_WORK
    return NO_LOCKS


def _package_problems(
    packages: Mapping[str, Requirement], answers: Mapping[str, Answer]
) -> Iterator[Problem]:
    """Packages that are missing, do not import, or do not have the required version."""
    for name, requirement in packages.items():
        version, error = _version(name), answers[f"{IMPORT}{module_of(name)}"].error
        wanted = f"{name}{requirement.specifier}"
        if error is None:
            if version is not None and version not in requirement.specifier:
                yield Problem(f"{name} {version} is not {wanted}", f"pip install '{wanted}'")
            continue
        if version is None:
            yield Problem(f"{name} is missing", f"pip install '{wanted}'")
        else:
            yield Problem(f"{name} does not import: {escape(error)}", f"{REINSTALL} {name}")
        if name in BASIC:
            return


def _gpu_problems(found: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[Problem]:
    """GPUs that stay idle or fail; a machine without a GPU has none."""
    gpus = found.get("gpus", [])
    if found.get("driver") and not gpus:
        what = (
            f"the GPU stays idle: driver {found['driver']}, PyTorch for CUDA {found['cuda']}"
            f" ({escape(found['warning'] or 'no reason given')})"
        )
        todo = "install a PyTorch for a CUDA that the driver supports (pytorch.org)"
        yield Problem(what, todo, needed=False)
    for number, gpu in enumerate(gpus):
        if gpu["problem"]:
            yield Problem(f"GPU {number} fails: {escape(gpu['problem'])}", f"{REINSTALL} torch")
    if gpus and defaults.get("flow", {}).get("engine") == "torch":
        what = "flow uses the slower engine torch: Triton is not installed"
        yield Problem(what, "pip install triton", needed=False)


def _trial_problems(answers: Mapping[str, Answer]) -> Iterator[Problem]:
    """Trials that fail although every package imports."""
    advice = {
        "gpus": "use --device cpu",
        "defaults": "use --device cpu and --engine opencv",
        "decoding": f"{REINSTALL} av; or allow child processes, and writing to TMPDIR",
        "flow": f"{REINSTALL} numba llvmlite; or use --engine opencv",
    }
    for name, todo in advice.items():
        if error := answers[name].error:
            yield Problem(f"the trial of {name} fails: {escape(error)}", todo)


def _machine_problems(found: Mapping[str, Any]) -> Iterator[Problem]:
    """What the machine or this folder is short of."""
    lock_problems = {
        NOT_WRITABLE: ("this folder is not writable", "run slic in another folder"),
        NO_LOCKS: ("files cannot be locked here", "run one command at a time on a store"),
    }
    if found["locks"] in lock_problems:
        yield Problem(*lock_problems[found["locks"]], needed=False)
    for free, least, place, todo in (
        (found["disk_free"], 2 << 30, "here", "free some, or work in another folder"),
        (found["shm_free"], 512 << 20, f"in {SHM}", "start the container with --shm-size 2g"),
    ):
        if free is not None and free < least:
            yield Problem(f"only {free >> 20} MiB are free {place}", todo, needed=False)
    if 0 <= found["open_files"] < 1024:
        what = f"only {found['open_files']} files may be open at once"
        yield Problem(what, "ulimit -n 4096", needed=False)
