"""A flipped bit in any file of a store is found by verify, or changes nothing that is read."""

import random
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from slic.cache import ClipStore
from slic.demo.drawn import draw_dataset
from slic.errors import SlicError
from slic.prep.flow import prep_flow
from slic.upkeep.verify.store import verify_store


def make_store(folder: Path) -> Path:
    """2 drawn videos of 3 frames, 24x16, with flow, and a file that is no video."""
    draw_dataset(folder / "set", actions=1, groups=2, clips=1, frames=3, size=(24, 16))
    (folder / "set" / "broken.avi").write_bytes(b"no video")
    prep_flow(str(folder / "set"), store=str(folder / "small.zarr"), workers=1)
    return folder / "small.zarr"


def everything(path: Path) -> list[Any]:
    """All that is read of a store."""
    store = ClipStore(path)
    found: list[Any] = [store.attributes, store.index.entries(), store.digest(flow=True)]
    for entry in store.entries():
        for view in ("frames", "flow"):
            found.append(store.read(entry.id, 0, entry.frames or 0, view=view).tobytes())  # type: ignore[arg-type]
        found.append(store.flow_attributes(entry.id))
    return found


def flip_bits(store: Path, rng: random.Random, own: Path) -> str:
    """Flip one bit of a copy: `found`, `harmless`, or the file and bit that went undetected."""
    files = sorted(p for p in store.rglob("*") if p.is_file() and p.stat().st_size)
    # Half of the draws go by size, so that small files have their share.
    sizes = [p.stat().st_size for p in files] if rng.random() < 0.5 else None
    file = rng.choices(files, sizes)[0]
    data = bytearray(file.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    shutil.rmtree(own, ignore_errors=True)
    shutil.copytree(store, own)
    (own / file.relative_to(store)).write_bytes(data)
    try:
        if verify_store(own).faults:
            return "found"
        return "harmless" if everything(own) == everything(store) else f"{file}: bit {bit}"
    except SlicError:
        return "found"  # refused in one line: a newer format, say


def soak_bit_flips(seed: int, minutes: float) -> dict[str, Any]:
    """Flip bits of a small store, one at a time, until the time is over.

    Returns:
        Counts of `found` and `harmless`, and `undetected`, a line each.
    """
    rng, until = random.Random(seed), time.monotonic() + 60 * minutes
    counts: dict[str, Any] = {"found": 0, "harmless": 0, "undetected": []}
    with TemporaryDirectory(prefix="slic-soak-") as folder:
        store = make_store(Path(folder))
        while time.monotonic() < until:
            kind = flip_bits(store, rng, Path(folder) / "own.zarr")
            if kind in counts:
                counts[kind] += 1
            else:
                counts["undetected"].append(kind)
    return counts


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small store."""
    return make_store(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_no_flipped_bit_goes_undetected(tiny: Path, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    kinds = [flip_bits(tiny, rng, tmp_path / "own.zarr") for _ in range(40)]
    assert set(kinds) <= {"found", "harmless"}
    assert kinds.count("found") > 25
