"""Commands in bad surroundings: a full disk, a store that may not be written, few open files."""

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from cases import Case, Material
from harness import LONGEST_S

SIZES = {"prep": 400, "train": 9000, "eval": 300}  # kB, up to which disks are drawn


def run_limited(case: Case, folder: Path, *, limits: dict[int, int]) -> tuple[int, str]:
    """Run a case under limits, by their number in `resource`; return exit code and stderr."""

    def prepare() -> None:
        for which, limit in limits.items():
            resource.setrlimit(which, (limit, limit))

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *case.entry, *case.words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        preexec_fn=prepare,
        timeout=LONGEST_S,
        check=False,
    )
    return done.returncode, done.stderr


def check_said(code: int, said: str, *, path: str = "") -> None:
    """Check for one line with a path and what to do, and no traceback."""
    assert "Traceback" not in said, said
    lines = [line for line in said.splitlines() if line.startswith("slic: ")]
    assert len(lines) == 1, said
    assert code in (1, 2), said
    assert path in lines[0], said
    assert "; " in lines[0], said


def finish(material: Material, name: str, folder: Path, *, made: bool = True) -> None:
    """Run a case again, undisturbed, and check its result; `made`: its store exists by now."""
    case = material.cases()[name]
    faults = case.faults(folder) if made else []
    assert not faults, faults
    code, said = run_limited(case, folder, limits={})
    assert code == 0, said
    faults = case.faults(folder)
    assert not faults, faults
    assert case.state(folder) == material.uninterrupted(name).state


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    """A file system of that size at a folder; needs a privilege."""
    options = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # a worker may just be leaving


def grow(folder: Path) -> None:
    """Free space on a small disk."""
    subprocess.run(["mount", "-o", "remount,size=900m", folder], check=True)


def may_mount() -> bool:
    """Whether this process may mount file systems."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), 64):
                return True
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False


def soak_environment(seed: int, minutes: float) -> dict[str, int]:
    """Every command on disks of random sizes that fill up, then grow; where that may not be
    done, under random limits on the size of a file.

    Returns:
        Runs, and how many of them failed as they should and were finished by the next.
    """
    random, until = Random(seed), time.monotonic() + 60 * minutes
    mounts = may_mount()
    counts = {"disks" if mounts else "limits": 0, "filled": 0}
    root = Path(tempfile.mkdtemp(prefix="slic-environment-"))
    try:
        material = Material(root)
        names = sorted(material.cases())
        while time.monotonic() < until:
            name = random.choice(names)
            folder = material.folder()
            filled = _on_small_disk if mounts else _under_a_limit
            counts["filled"] += filled(material, name, folder, random)
            counts["disks" if mounts else "limits"] += 1
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return counts


def _on_small_disk(material: Material, name: str, folder: Path, random: Random) -> bool:
    case, aside = material.cases()[name], material.folder()
    case.begin(aside)
    used = sum(4096 + file.lstat().st_size for file in aside.rglob("*")) // 1024
    room = random.randrange(0, SIZES[name.split()[0]])
    with small_disk(folder, max(4, used + room)):
        shutil.copytree(aside, folder, symlinks=True, dirs_exist_ok=True)
        code, said = run_limited(case, folder, limits={})
        if code:
            check_said(code, said)
            grow(folder)
            finish(material, name, folder)
    return bool(code)


def _under_a_limit(material: Material, name: str, folder: Path, random: Random) -> bool:
    case = material.cases()[name]
    case.begin(folder)
    limit = 1024 * random.randrange(1, SIZES[name.split()[0]])
    code, said = run_limited(case, folder, limits={resource.RLIMIT_FSIZE: limit})
    if code:
        check_said(code, said)
        finish(material, name, folder)
    return bool(code)
