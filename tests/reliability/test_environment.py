"""Full disks, read-only stores, sources that vanish or change, few open files: one line each.

A limit on the size of a file makes real writes fail, those of SQLite and PyTorch among them, and
needs no privilege; `soak_environment` fills real disks besides, where it may mount them.
"""

import contextlib
import errno
import os
import resource
import shutil
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import Material
from environments import check_said, finish, run_limited

import slic.prep.frames_video as video_module
import slic.prep.tvl1.device as device_module
from slic.cache import ClipStore, Entry, video_key
from slic.cache.index import Index
from slic.demo.drawn import draw_dataset
from slic.errors import DiskError, InputError, StoreError, WorkError
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames
from slic.prep.space import Estimate, say_needed
from slic.prep.workers import executor

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Draw a data set of six videos."""
    draw_dataset(tmp_path / "set", actions=2, groups=3, clips=1, frames=6, size=(32, 24))
    return tmp_path / "set"


@pytest.fixture
def serial(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run the jobs of `prep frames` in this process."""

    def run(work: Callable, jobs: list, *, workers: int, on_units: Any = None) -> Iterator[Any]:
        yield from map(work, jobs)

    monkeypatch.setattr(executor, "run_jobs", run)
    yield
    video_module.close_decoder()


def some(videos: Path, number: int = 3) -> Path:
    return sorted(videos.rglob("*.avi"))[number]


# --- commands --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kilobytes", "said"),
    [
        ("prep frames", 2, "index.sqlite: the index cannot be written"),
        ("train", 40, ": File too large; "),
    ],
)
def test_files_that_cannot_grow(material: Material, name: str, kilobytes: int, said: str) -> None:
    case, folder = material.cases()[name], material.folder()
    case.begin(folder)
    code, told = run_limited(case, folder, limits={resource.RLIMIT_FSIZE: 1024 * kilobytes})
    assert code == 1, told
    check_said(code, told, path=said)
    finish(material, name, folder, made="index" not in said)


@pytest.mark.slow
@pytest.mark.parametrize("handles", [16, 64])
def test_few_open_files(material: Material, handles: int) -> None:
    """It works, or one line names `ulimit -n`."""
    case, folder = material.cases()["prep frames"], material.folder()
    code, said = run_limited(case, folder, limits={resource.RLIMIT_NOFILE: handles})
    assert code == 1 or handles > 16
    if code:
        check_said(code, said, path="ulimit -n")
    finish(material, "prep frames", folder)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_store_that_may_not_be_written(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Refused by what the system would say, as root is denied nothing."""
    path = tmp_path / "s.zarr"

    def refuse(folder: Path, *_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(folder))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(DiskError, match=r"s\.zarr: .*; choose another place"):
            prep_frames(str(videos), store=str(path))
    assert prep_frames(str(videos), store=str(path)).written == 6


def test_full_index_is_no_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    ClipStore.create(path)
    index = Index(path / "index" / "index.sqlite", writable=True)
    pages = index._open().execute("PRAGMA page_count").fetchone()[0]
    index._open().execute(f"PRAGMA max_page_count = {pages}")

    def fill() -> None:
        for number in range(2000):
            key = video_key(f"v{number}")
            index.put(Entry(key, key, key, None, None, None, None, None))

    with pytest.raises(DiskError, match=r"index\.sqlite: No space left on device; free"):
        fill()
    assert sqlite3.connect(index.path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


# --- sources ---------------------------------------------------------------------------------


def reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]) -> None:
    """Let something happen to each file between its reading and the end of its decoding."""
    write = video_module._write

    def after(job: Any, entry: Any, blocks: Iterator, *more: Any) -> Any:
        def decoded() -> Iterator[Any]:
            yield from blocks
            act(job.root / job.video.path)

        return write(job, entry, decoded(), *more)

    monkeypatch.setattr(video_module, "_write", after)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("how", ["grows", "is replaced", "is replaced by one of its size and time"])
def test_file_that_changes_while_it_is_read(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Read once more; what is stored and its digest are of one content."""
    store, changing = tmp_path / "s.zarr", some(videos)
    other = tmp_path / "other.avi"
    shutil.copy(some(videos, 5), other)
    changed: list[Path] = []

    def change(path: Path) -> None:
        if path != changing or changed:
            return
        changed.append(path)
        if how == "grows":
            with path.open("ab") as file:
                file.write(bytes(100))
        else:
            stat = path.stat()
            if "size" in how:
                content = bytearray(path.read_bytes())
                content[-40] ^= 1
                other.write_bytes(content)
                os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            os.replace(other, path)

    with monkeypatch.context() as patch:
        reading(patch, change)
        result = prep_frames(str(videos), store=str(store))
    assert changed
    assert (result.written, result.failed) == (6, 0)
    again = prep_frames(str(videos), store=str(store))
    assert (again.written, again.skipped) == (0, 6)
    (tmp_path / "fresh").mkdir()
    prep_frames(str(videos), store=str(tmp_path / "fresh" / "s.zarr"))
    fresh = ClipStore(tmp_path / "fresh" / "s.zarr")
    for entry in ClipStore(store).entries():
        assert entry.source_digest == fresh.entry(entry.id).source_digest
        clips = [s.read(entry.id, 0, entry.frames or 0) for s in (fresh, ClipStore(store))]
        np.testing.assert_array_equal(*clips)


@pytest.mark.usefixtures("serial")
def test_file_that_always_changes_is_tried_again_by_the_next_run(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, changing = tmp_path / "s.zarr", some(videos)

    def touch(path: Path) -> None:
        if path == changing:
            with path.open("ab") as file:
                file.write(bytes(10))

    with monkeypatch.context() as patch:
        reading(patch, touch)
        result = prep_frames(str(videos), store=str(store))
    ((video, reason),) = result.failures
    assert video.endswith(changing.name)
    assert "changed" in reason
    assert prep_frames(str(videos), store=str(store)).written == 1


@pytest.mark.usefixtures("serial")
def test_file_that_may_not_be_read_fails_alone(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, denied = tmp_path / "s.zarr", some(videos)
    read = video_module.read_source

    def reads(path: Path) -> Any:
        if path == denied:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(video_module, "read_source", reads)
        result = prep_frames(str(videos), store=str(store))
    assert (result.written, result.failed) == (5, 1)
    assert result.failures[0][1] == "cannot be read: Permission denied"
    assert prep_frames(str(videos), store=str(store)).written == 1  # without --retry


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("overwrite", [False, True])
def test_data_set_that_vanishes_takes_no_stored_video_with_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """As when what was mounted there is mounted no more: an empty folder is left."""
    store, aside = tmp_path / "s.zarr", tmp_path / "aside"
    prep_frames(str(videos), store=str(store), limit=None if overwrite else 3)
    with monkeypatch.context() as patch:
        done: list[Path] = []

        def vanish(path: Path) -> None:
            done.append(path)
            if len(done) == 2:
                aside.mkdir()
                for item in videos.iterdir():
                    item.rename(aside / item.name)

        reading(patch, vanish)
        with pytest.raises(DiskError, match=r"set: No such file or directory; it was removed"):
            prep_frames(str(videos), store=str(store), overwrite=overwrite)
    kept = ClipStore(store)
    assert len(kept.ids) == (6 if overwrite else 4)
    for entry in kept.entries():
        assert len(kept.read(entry.id, 0, entry.frames or 0)) == 6
    assert kept.failures() == []
    for item in aside.iterdir():
        item.rename(videos / item.name)
    assert prep_frames(str(videos), store=str(store)).written == (0 if overwrite else 2)


def test_store_that_vanishes_is_not_called_damaged(material: Material, tmp_path: Path) -> None:
    path = Path(shutil.copytree(material.frames_store, tmp_path / "s.zarr"))
    reader = ClipStore(path)
    entry = reader.entries()[0]
    shutil.rmtree(path)
    with pytest.raises(DiskError, match=r"s\.zarr.*removed"):
        reader.read(entry.id, 0, 4)


def test_no_open_file_left_is_no_damage(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ClipStore(material.frames_store)
    entry = reader.entries()[0]

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("slic.cache.shards.open_regular", refuse)
        with pytest.raises(DiskError, match="ulimit -n"):
            reader.read(entry.id, 0, 4)
    assert reader.read(entry.id, 0, 4).shape[0] == 4


# --- what is needed is said ------------------------------------------------------------------


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("codec", ["jpeg", pytest.param("zstd", marks=pytest.mark.slow)])
def test_estimate_comes_near_what_is_taken(tmp_path: Path, codec: Any) -> None:
    draw_dataset(tmp_path / "set", actions=2, groups=4, clips=3, frames=16, size=(96, 72), seed=5)
    path = tmp_path / "s.zarr"
    first = prep_frames(str(tmp_path / "set"), store=str(path), codec=codec)
    frames = taken(path)
    assert first.estimated_bytes == pytest.approx(frames, rel=0.25)
    assert prep_frames(str(tmp_path / "set"), store=str(path), codec=codec).estimated_bytes == 0
    flow = prep_flow(str(path), workers=1, bound=3.0)
    assert flow.estimated_bytes == pytest.approx(taken(path) - frames, rel=0.35)
    assert prep_flow(str(path), workers=1, bound=3.0).estimated_bytes == 0


def taken(path: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))


@pytest.mark.parametrize(("free", "refused"), [(999, True), (1000, False), (10**9, False)])
def test_what_clearly_does_not_fit_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, refused: bool
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))
    expect = pytest.raises(StoreError, match="--limit") if refused else contextlib.nullcontext()
    with expect:
        say_needed(tmp_path / "s.zarr", Estimate(2000, 1000), refuse=True)
    say_needed(tmp_path / "s.zarr", Estimate(2000, 1000), refuse=False)


@pytest.mark.usefixtures("serial")
def test_refused_run_writes_no_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 1000))
        with pytest.raises(StoreError, match=r"s\.zarr: about .* needed, 1\.0 kB free in"):
            prep_frames(str(videos), store=str(tmp_path / "s.zarr"))
    assert ClipStore(tmp_path / "s.zarr").ids == []
    assert prep_frames(str(videos), store=str(tmp_path / "s.zarr")).written == 6


# --- devices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried"), WorkError, "its memory is full"),
        (RuntimeError("CUDA error: ECC\nmore"), WorkError, "fails: CUDA error: ECC; use 'cpu'"),
    ],
)
def test_device_that_is_there_but_fails(
    monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type, said: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(device_module.torch, "empty", fail)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(kind, match=said):
        device_module.check_device("torch", "cuda:1")
    if not isinstance(error, torch.OutOfMemoryError):
        with pytest.raises(InputError, match="does not exist here"):
            device_module.check_device("torch", "cuda:2")
