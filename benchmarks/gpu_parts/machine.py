"""The machine itself: versions and bandwidth, processes that train together, the GPU's tests."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import torch
from common import Row, machine

import slic
from gpu_parts import Day

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "torch",
    "torchvision",
    "triton",
    "numpy",
    "numba",
    "zarr",
    "av",
    "faiss-cpu",
    "faiss-gpu",
)
QUERY = ("--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


def device(day: Day) -> Iterator[Row]:
    """Report versions, the GPU, and its copy bandwidth."""
    found = {**machine(cores=os.cpu_count(), slic=slic.__version__), **_versions()}
    found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    found |= {"nvidia_smi": _told(["nvidia-smi", *QUERY]), "kernel": platform.release()}
    found["commit"] = _told(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    figures = [f"torch {found['torch']}", f"triton {found['triton']}", found["nvidia_smi"] or "-"]
    yield {"versions": found, "figures": figures}
    for name, value in found.items():
        print(f"{name:<12} {value}")
    if not day.rehearse:
        from tvl1_gpu import copy_bandwidth

        bandwidth = copy_bandwidth()
        yield {"copy_bytes_per_s": bandwidth, "figures": [*figures, f"{bandwidth / 1e9:,.0f} GB/s"]}


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"opencv": cv2.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def _told(command: list[str]) -> str | None:
    """Return a command's output on one line; None if it is missing or fails."""
    if not shutil.which(command[0]):
        return None
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.split("\n")).strip("; ") if done.returncode == 0 else None


def ranks(day: Day) -> Iterator[Row]:
    """Compare embeddings and gradients with and without a group of one process (NCCL on a GPU)."""
    from lone_rank import compare, group_of_one

    with group_of_one(day.folder / "meeting", cuda=not day.rehearse) as backend:
        rows = []
        for row in compare(torch.device(day.device)):
            rows.append(row)
            figures = [f"{r['side']}: gradient {r['gradient']:.1e}" for r in rows]
            yield {"backend": backend, "sides": rows, "figures": [backend, *figures]}
    if not all(row["embedding"] <= 1e-3 and row["gradient"] <= 1e-2 for row in rows):
        raise SystemExit("with others to hear, an embedding or gradient is not what it is alone")


def tests(day: Day) -> Iterator[Row]:
    """Run `pytest -m gpu` on the files with such tests, as others need more packages."""
    if not importlib.util.find_spec("pytest"):
        yield {"skipped": "pytest is not installed"}
        return
    files = [f for f in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in f.read_text()]
    # Warnings are errors only with the versions that the project is developed with.
    options = ("-vv", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider", "-rsfE")
    temporary = f"--basetemp={day.folder / 'pytest'}"
    command = [sys.executable, "-m", "pytest", *options, temporary, *map(str, files)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    yield from _outcomes(process)


def _outcomes(process: subprocess.Popen[str]) -> Iterator[Row]:
    """Count tests by outcome so far; their whole output goes to stderr."""
    counts: dict[str, int] = {}
    failed = []
    assert process.stdout
    for line in process.stdout:
        sys.stderr.write(line)
        words = line.split()
        if (
            len(words) > 1
            and "::" in words[0]
            and words[1] in ("PASSED", "FAILED", "ERROR", "SKIPPED")
        ):
            counts[words[1].lower()] = counts.get(words[1].lower(), 0) + 1
            failed += [words[0]] if words[1] in ("FAILED", "ERROR") else []
            figures = [f"{count} {outcome}" for outcome, count in counts.items()]
            yield {"outcomes": counts, "failed": failed, "figures": figures}
    for name in failed:
        print(f"failed: {name}")
    if process.wait():
        raise SystemExit(f"pytest: exit code {process.returncode}, {len(failed)} tests failed")
