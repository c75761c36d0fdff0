"""Embedding caches and clusters.h5 as strangers or failing disks make them."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from fuzzing import fuzz, mutated, outcome, soak

from slic.cache import EmbeddingCache
from slic.cache.clusterings import record_clusters
from slic.cache.embeddings import write_embeddings
from slic.cache.hdf5 import seal_of
from slic.cache.text_heaps import check_text_heaps
from slic.errors import CacheError, CheckpointError

IDS = [f"Run/{number}.avi" for number in range(20)]
ROWS = np.random.default_rng(0).normal(size=(20, 16)).astype(np.float32)
NAMES = ("video", "backbone", "projection", "label", "split")


def make(folder: Path) -> None:
    write_embeddings(
        folder / "pristine.h5",
        IDS,
        backbone=ROWS,
        projection=np.repeat(ROWS, 8, axis=1),
        labels=["Run"] * 20,
        splits={1: ["train", "test"] * 10},
        attributes={"checkpoint": "e1-abc", "clips": 10},
    )
    record_clusters(folder / "clusters.h5", 0, dict.fromkeys(IDS, 1))
    with h5py.File(folder / "secret.h5", "w") as file:
        for name in NAMES:
            file[name] = ROWS
    (folder / "secret.bin").write_bytes(b"secret" * 10_000)


def sound(path: Path) -> None:
    """Read a cache; what is accepted is what its attributes promise."""
    cache = EmbeddingCache(path)
    assert cache.backbone.dtype == cache.projection.dtype == np.float32
    assert cache.backbone.ndim == cache.projection.ndim == 2
    columns = [cache.ids, cache.backbone, cache.projection, *cache.splits.values()]
    assert {len(column) for column in columns} == {len(cache.ids)}
    assert len(set(cache.ids.tolist())) == len(cache.ids)
    assert "secret" not in str(cache.ids)


def bytes_case(folder: Path, rng: random.Random) -> str:
    path = folder / "own.h5"
    path.write_bytes(mutated((folder / "pristine.h5").read_bytes(), rng))
    return outcome(lambda: sound(path))


def resealed_case(folder: Path, rng: random.Random) -> str:
    """Damage that a stranger has sealed, so that HDF5 itself would see it."""
    path = folder / "own.h5"
    body = mutated((folder / "pristine.h5").read_bytes()[:-12], rng)
    path.write_bytes(body + seal_of(body))
    return outcome(lambda: sound(path))


def clusters_case(folder: Path, rng: random.Random) -> str:
    path = folder / "own-clusters.h5"
    path.write_bytes(mutated((folder / "clusters.h5").read_bytes(), rng))
    return outcome(lambda: record_clusters(path, 1, dict.fromkeys(IDS, 2)))


def _replace(file: h5py.File, name: str, **how: Any) -> None:
    del file[name]
    file.create_dataset(name, **how)


def _external(file: h5py.File, name: str) -> None:
    secret = str(Path(file.filename).with_name("secret.bin"))
    _replace(file, name, shape=(20, 16), dtype="f4", external=[(secret, 0, 1280)])


def _virtual(file: h5py.File, name: str) -> None:
    secret = str(Path(file.filename).with_name("secret.h5"))
    layout = h5py.VirtualLayout(shape=(20, 16), dtype="f4")
    layout[:] = h5py.VirtualSource(secret, "backbone", shape=(20, 16))
    del file[name]
    file.create_virtual_dataset(name, layout)


def _link(file: h5py.File, name: str, link: object) -> None:
    del file[name]
    file[name] = link


def _group(file: h5py.File, name: str) -> None:
    del file[name]
    file.create_group(name)


CHANGES: dict[str, Callable[[h5py.File, str], None]] = {
    "external storage": _external,
    "virtual": _virtual,
    "external link": lambda f, n: _link(f, n, h5py.ExternalLink("secret.h5", f"/{n}")),
    "soft link": lambda f, n: _link(f, n, h5py.SoftLink("/backbone")),
    "dangling link": lambda f, n: _link(f, n, h5py.SoftLink("/nowhere")),
    "group": _group,
    "null": lambda f, n: _replace(f, n, data=h5py.Empty("f4")),
    "scalar": lambda f, n: _replace(f, n, data=np.float32(1)),
    "whole numbers": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.int32)),
    "half": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.float16)),
    "complex": lambda f, n: _replace(f, n, data=np.ones((20, 16), np.complex64)),
    "one dimension more": lambda f, n: _replace(f, n, data=np.ones((20, 16, 2), np.float32)),
    "bomb": lambda f, n: _replace(
        f, n, shape=(20, 2**36), dtype="f4", chunks=(1, 2**16), fillvalue=1
    ),
    "long bomb": lambda f, n: _replace(f, n, shape=(2**40,), dtype="i1", chunks=(2**16,)),
    "texts bomb": lambda f, n: _replace(
        f, n, shape=(2**36,), dtype=h5py.string_dtype(), chunks=(2**12,)
    ),
    "gzip": lambda f, n: _replace(f, n, data=np.zeros((20, 16), np.float32), compression="gzip"),
    "lzf": lambda f, n: _replace(f, n, data=np.zeros((20, 16), np.float32), compression="lzf"),
    "references": lambda f, n: _replace(f, n, data=[f.ref] * 20, dtype=h5py.ref_dtype),
    "lists": lambda f, n: _replace(f, n, shape=(20,), dtype=h5py.vlen_dtype(np.float32)),
    "opaque": lambda f, n: _replace(f, n, data=np.zeros(20, np.dtype("V8"))),
    "records": lambda f, n: _replace(f, n, data=np.zeros(20, [("a", "f4"), ("b", "S4")])),
    "long text": lambda f, n: _replace(
        f, n, data=["x" * 10**6] + ["y"] * 19, dtype=h5py.string_dtype()
    ),
    "twice": lambda f, n: _replace(f, n, data=["Run/0.avi"] * 20, dtype=h5py.string_dtype()),
    "no UTF-8": lambda f, n: _replace(f, n, data=[b"\xff\xfe"] * 20, dtype=h5py.string_dtype()),
}
ATTRIBUTES: dict[str, Any] = {
    "format": [0, -1, 2, 10**18, 1.5, np.inf, np.nan, "1", [1], np.ones((2, 2)), h5py.Empty("i4")],
    "extra": [h5py.Empty("f4"), [1, 2, 3], np.void(b"x"), "a\nb", 10**18, np.inf],
}


def change_case(folder: Path, rng: random.Random) -> str:
    """One data set or attribute replaced by what is no such thing."""
    path = folder / "own.h5"
    path.write_bytes((folder / "pristine.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        if rng.random() < 0.2:
            name = rng.choice(list(ATTRIBUTES))
            file.attrs[name] = rng.choice(ATTRIBUTES[name])
        else:
            CHANGES[rng.choice(list(CHANGES))](file, rng.choice(NAMES))
    return outcome(lambda: sound(path))


CASES = {
    "bytes": bytes_case,
    "resealed": resealed_case,
    "clusters": clusters_case,
    "changes": change_case,
}
test_mutated_caches = fuzz(make, bytes_case, examples=200)
test_damage_that_is_sealed = fuzz(make, resealed_case, examples=150)
test_mutated_clusters = fuzz(make, clusters_case, examples=100)
test_caches_of_other_content = fuzz(make, change_case, examples=150)


def soak_fuzz_caches(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes, an equal share each."""
    share = minutes / len(CASES)
    return {name: soak(make, case, seed=seed, minutes=share) for name, case in CASES.items()}


# --- each thing that a stranger may try ------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["video", "backbone", "split"])
def test_what_is_not_the_files_own_rows(tmp_path: Path, change: str, name: str) -> None:
    make(tmp_path)
    path = tmp_path / "pristine.h5"
    with h5py.File(path, "r+") as file:
        CHANGES[change](file, name)
    with pytest.raises(CacheError) as caught:
        EmbeddingCache(path)
    assert len(str(caught.value).splitlines()) == 1


def test_one_text_shared_by_many_rows_fills_no_memory(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "pristine.h5"
    with h5py.File(path, "r+") as file:
        many = ["x" * 4000, *map(str, range(100_000))]
        _replace(file, "video", data=many, dtype=h5py.string_dtype())
    with pytest.raises(CacheError, match="texts of 4000 characters"):
        EmbeddingCache(path)


@pytest.mark.parametrize("value", ["epoch00000", "video"])
def test_damaged_clusters_are_told_apart_from_those_of_other_videos(
    tmp_path: Path, value: str
) -> None:
    make(tmp_path)
    path = tmp_path / "clusters.h5"
    with h5py.File(path, "r+") as file:
        _replace(file, value, data=np.ones((20, 2)))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="move it away"):
        record_clusters(path, 1, dict.fromkeys(IDS, 2))
    assert path.read_bytes() == before


def heap_object(number: int, size: int, data: bytes) -> bytes:
    return struct.pack("<HHIQ", number, 1, 0, size) + data


def heap(*objects: bytes, size: int | None = None) -> bytes:
    body = b"".join(objects)
    return struct.pack("<5s3xQ", b"GCOL\x01", 16 + len(body) if size is None else size) + body


SOUND_HEAPS = {
    "objects and free space": heap(
        heap_object(1, 3, b"abc".ljust(8, b"\0")),
        heap_object(7, 8, b"12345678"),
        heap_object(0, 40, bytes(24)),
    ),
    "an empty text": heap(heap_object(1, 0, b""), heap_object(2, 1, b"x".ljust(8, b"\0"))),
    "a rest too small for an object": heap(heap_object(1, 8, bytes(8)), bytes(8)),
    "no heap at all": b"GCO" * 40,
    "a text that begins as a heap does": heap(
        heap_object(1, 15, b"GCOL\x01 clip1.avi\0"), heap_object(2, 8, b"GCOL\x01abc")
    ),
}
DAMAGED_HEAPS = {
    "free space of no size": heap(heap_object(1, 8, bytes(8)), bytes(32)),
    "free space smaller than its header": heap(heap_object(0, 8, bytes(24))),
    "beyond the end": heap(heap_object(1, 100, bytes(8))),
    "a size that wraps around": heap(heap_object(1, 2**64 - 16, bytes(8))),
    "a size of all ones": heap(heap_object(1, 2**64 - 1, bytes(8))),
    "a heap that ends after the file": heap(heap_object(1, 8, bytes(8)), size=4096),
    "a heap of no size": heap(heap_object(1, 8, bytes(8)), size=0),
    "a heap's name at the end": b"GCOL\x01",
}


@pytest.mark.parametrize("before", [b"", b"GCOL\x01"[:4], bytes(77)])
@pytest.mark.parametrize("kind", SOUND_HEAPS)
def test_sound_texts_are_walked_to_the_end(tmp_path: Path, kind: str, before: bytes) -> None:
    path = tmp_path / "heaps"
    path.write_bytes(before + SOUND_HEAPS[kind] * 2)
    with path.open("rb") as file:
        check_text_heaps(file)


@pytest.mark.parametrize("before", [b"", SOUND_HEAPS["objects and free space"]])
@pytest.mark.parametrize("kind", DAMAGED_HEAPS)
def test_texts_that_hdf5_might_never_leave(tmp_path: Path, kind: str, before: bytes) -> None:
    path = tmp_path / "heaps"
    path.write_bytes(before + DAMAGED_HEAPS[kind])
    with path.open("rb") as file, pytest.raises(ValueError, match="its texts are"):
        check_text_heaps(file)
