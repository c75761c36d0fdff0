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
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from cases import Material
from environments import check_said, finish, run_limited

import slic.prep.frames_video as video_module
import slic.prep.space as space_module
import slic.prep.tvl1.device as device_module
from slic.cache import ClipStore, Entry, video_key
from slic.cache.hdf5 import write_hdf5
from slic.cache.index import Index
from slic.demo.drawn import draw_dataset
from slic.encoders.tensor_files import save_tensors
from slic.errors import DiskError, InputError, StoreError, WorkError
from slic.prep.flow import prep_flow
from slic.prep.frames import prep_frames
from slic.prep.space import Estimate, estimate, say_needed
from slic.prep.workers import executor
from slic.runtime.disk import atomic_write, check_writable, to_disk_error

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Twelve drawn videos."""
    draw_dataset(tmp_path / "set", actions=2, groups=3, clips=2, frames=6, size=(32, 24))
    return tmp_path / "set"


@pytest.fixture
def serial(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Jobs of `prep frames` run in this process."""

    def run(work: Callable, jobs: list, *, workers: int, counted: Any = None) -> Iterator[Any]:
        yield from map(work, jobs)

    monkeypatch.setattr(executor, "run_jobs", run)
    yield
    video_module.close_decoder()


def some(videos: Path, number: int = 3) -> Path:
    return sorted(videos.rglob("*.avi"))[number]


# --- whole commands --------------------------------------------------------------------------


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
    assert prep_frames(str(videos), store=str(path)).written == 12


# --- writing ---------------------------------------------------------------------------------


def test_what_was_there_stays_when_the_disk_fills_up(tmp_path: Path) -> None:
    """At any number of bytes; in a child, as HDF5 has ended processes by it."""
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"before")
    code = f"""
import resource, sys
from pathlib import Path
import numpy as np, torch
from slic.cache.hdf5 import write_hdf5
from slic.runtime.disk import atomic_write
from slic.errors import DiskError
from slic.encoders.tensor_files import save_tensors

rows = np.random.default_rng(0).random((400, 16), np.float32)

def tensors(path):
    save_tensors(path, {{"rows": torch.from_numpy(rows)}})

def hdf5(path):
    write_hdf5(path, {{"rows": rows}})

def plain(path):
    with atomic_write(path) as file:
        file.write(rows.tobytes())

for limit in {[0, 1, 100, 4096, *Random(1).sample(range(25_000), 12)]}:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for write in (tensors, hdf5, plain):
        try:
            write(Path(sys.argv[1]))
        except DiskError as error:
            assert str(error).startswith(sys.argv[1] + ": File too large; "), error
        else:
            raise SystemExit(f"written whole within {{limit}} bytes")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert path.read_bytes() == b"before"
    assert list(path.parent.iterdir()) == [path]


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DiskError, match="pipe"), atomic_write(tmp_path / "pipe"):
        pass
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_whole_files_can_be_read(tmp_path: Path) -> None:
    rows = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    save_tensors(tmp_path / "new" / "t", {"rows": torch.from_numpy(rows)})
    write_hdf5(tmp_path / "new" / "h", {"rows": rows})
    assert torch.equal(torch.load(tmp_path / "new" / "t")["rows"], torch.from_numpy(rows))
    with h5py.File(tmp_path / "new" / "h", "r") as file:
        np.testing.assert_array_equal(file["rows"][:], rows)


def test_errors_that_are_none_of_the_disk_are_left_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"^of another kind$"), atomic_write(tmp_path / "x"):
        raise RuntimeError("of another kind")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "free some space there"),
        (errno.EROFS, "choose another place"),
        (errno.EACCES, "choose another place"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOENT, "gone"),
        (errno.EIO, "run the same command again"),
    ],
)
def test_each_refusal_says_where_and_what_to_do(code: int, advice: str) -> None:
    said = str(to_disk_error(Path("a") / "b", OSError(code, "whatever")))
    assert said.startswith(f"{Path('a') / 'b'}: {os.strerror(code)}; ")
    assert advice in said
    assert "\n" not in said


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="file/folder: "):
        check_writable(tmp_path / "file" / "folder")
    check_writable(tmp_path / "new" / "folder")
    assert list((tmp_path / "new" / "folder").iterdir()) == []


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
    shutil.copy(some(videos, 7), other)
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
    assert (result.written, result.failed) == (12, 0)
    again = prep_frames(str(videos), store=str(store))
    assert (again.written, again.skipped) == (0, 12)
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
    assert (result.written, result.failed) == (11, 1)
    assert result.failures[0][1] == "cannot be read: Permission denied"
    assert prep_frames(str(videos), store=str(store)).written == 1  # without --retry


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("overwrite", [False, True])
def test_data_set_that_vanishes_takes_no_stored_video_with_it(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    """As when what was mounted there is mounted no more: an empty folder is left."""
    store, aside = tmp_path / "s.zarr", tmp_path / "aside"
    prep_frames(str(videos), store=str(store), limit=None if overwrite else 5)
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
    assert len(kept.ids) == (12 if overwrite else 6)
    for entry in kept.entries():
        assert len(kept.read(entry.id, 0, entry.frames or 0)) == 6
    assert kept.failures() == []
    for item in aside.iterdir():
        item.rename(videos / item.name)
    assert prep_frames(str(videos), store=str(store)).written == (0 if overwrite else 6)


def test_store_that_vanishes_is_not_called_damaged(store: ClipStore, tmp_path: Path) -> None:
    path = Path(shutil.copytree(store.path, tmp_path / "s.zarr"))
    reader = ClipStore(path)
    entry = reader.entries()[0]
    shutil.rmtree(path)
    with pytest.raises(DiskError, match=r"s\.zarr.*gone"):
        reader.read(entry.id, 0, 4)


def test_no_open_file_left_is_no_damage(
    store: ClipStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(store.path, tmp_path / "s.zarr"))
    reader = ClipStore(path)
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
@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_estimate_comes_near_what_is_taken(tmp_path: Path, codec: Any) -> None:
    draw_dataset(tmp_path / "set", actions=2, groups=4, clips=3, frames=16, size=(96, 72), seed=5)
    path = tmp_path / "s.zarr"
    first = prep_frames(str(tmp_path / "set"), store=str(path), codec=codec)
    frames = taken(path)
    assert first.estimated_bytes == pytest.approx(frames, rel=0.25)
    assert prep_frames(str(tmp_path / "set"), store=str(path), codec=codec).estimated_bytes == 0
    if codec == "jpeg":
        flow = prep_flow(str(path), workers=2, bound=3.0)
        assert flow.estimated_bytes == pytest.approx(taken(path) - frames, rel=0.35)
        assert prep_flow(str(path), workers=2, bound=3.0).estimated_bytes == 0


def taken(path: Path) -> int:
    return sum(file.lstat().st_blocks * 512 for file in path.rglob("*"))


@pytest.mark.parametrize("seed", range(5))
def test_ratio_estimate_of_known_sizes(seed: int) -> None:
    random = Random(seed)
    weights = [random.uniform(1e5, 2e6) for _ in range(random.choice([1, 3, 16, 300, 5000]))]
    bytes_ = [weight * random.uniform(0.8, 1.2) for weight in weights]
    jobs = list(range(len(weights)))
    asked: list[int] = []

    def measure(job: int) -> float:
        asked.append(job)
        return bytes_[job]

    found = estimate(jobs, weight=weights.__getitem__, measure=measure)
    true = sum(bytes_) + len(jobs) * space_module.OVERHEAD
    assert len(asked) == len(set(asked)) <= space_module.VIDEOS
    assert found.bytes == pytest.approx(true, rel=0.15)
    assert found.least <= found.bytes
    if len(jobs) <= space_module.VIDEOS:
        assert found.bytes == found.least == pytest.approx(true, abs=1)


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
    assert prep_frames(str(videos), store=str(tmp_path / "s.zarr")).written == 12


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
