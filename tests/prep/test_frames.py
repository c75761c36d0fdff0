"""`prep frames` on small videos of one colour each, so that a mix-up of videos shows."""

import csv
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import slic.prep.frames as frames_module
import slic.prep.frames_video as video_module
from slic.cache import ClipStore, video_key
from slic.datasets.videos import Video
from slic.errors import DamagedChunk, DecodeError, InputError, StoreError
from slic.prep.frames import FrameJob, prep_frames
from slic.prep.store import sample
from slic.prep.workers import executor
from tests.videos import write_video

COLOURS = {
    "red.avi": (200, 30, 40),
    "green.avi": (30, 180, 50),
    "blue.avi": (30, 60, 210),
    "grey.avi": (120, 120, 120),
    "white.avi": (250, 250, 250),
}
LABELS = {"red.avi": "Run", "green.avi": "Run", "blue.avi": "Hop", "grey.avi": "Hop"}
FRAMES = 3


def write_colour(path: Path, colour: tuple[int, int, int], *, frames: int = FRAMES) -> None:
    write_video(path, [np.full((32, 48, 3), colour, np.uint8)] * frames, rate=10)


def write_csv(root: Path, rows: Iterable[tuple[str, str, str]]) -> str:
    with (root / "set.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    return str(root / "set.csv")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("originals")
    for name, colour in COLOURS.items():
        write_colour(root / name, colour)
    return root


@pytest.fixture
def data(originals: Path, tmp_path: Path) -> str:
    """A csv of the coloured videos, in a folder of its own."""
    root = Path(shutil.copytree(originals, tmp_path / "videos"))
    return write_csv(root, [(name, LABELS.get(name, "Sit"), "train") for name in COLOURS])


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Jobs run in this process; the ids of the videos that are decoded."""
    ids: list[str] = []

    def serial(work: Callable, jobs: Iterable[FrameJob], **_: Any) -> Iterator[Any]:
        for job in jobs:
            ids.append(job.video.id)
            yield work(job)

    monkeypatch.setattr(executor, "run_jobs", serial)
    return ids


@pytest.fixture
def path(data: str, tmp_path: Path, done: list[str]) -> Path:
    """A store of the coloured videos."""
    prep_frames(data, store=str(tmp_path / "s.zarr"))
    return tmp_path / "s.zarr"


def files(path: Path) -> dict[str, int]:
    """Every file with the time it was written, but the index's."""
    found = {str(p.relative_to(path)): p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    return {name: at for name, at in found.items() if "sqlite" not in name}


def check_colours(path: Path, names: Iterable[str] = COLOURS) -> None:
    store = ClipStore(path)
    assert store.ids == sorted(names)
    for name in names:
        clip = store.read(name, 0, FRAMES)
        assert np.abs(clip.astype(int) - COLOURS[name]).max() < 25, name


# --- once and again --------------------------------------------------------------------------


def test_first_and_second_run(data: str, tmp_path: Path, done: list[str]) -> None:
    path = tmp_path / "s.zarr"
    first = prep_frames(data, store=str(path))
    assert first.json() == {
        "store": str(path),
        "videos": 5,
        "written": 5,
        "skipped": 0,
        "failed": 0,
        "frames": 15,
        "seconds": first.seconds,
        "failures": [],
        "damaged": [],
        "estimated_bytes": first.estimated_bytes,
    }
    check_colours(path)
    entry = ClipStore(path).entry("red.avi")
    assert (entry.frames, entry.height, entry.width, entry.fps) == (3, 32, 48, 10.0)
    assert (entry.label, entry.split1, entry.split2) == ("Run", "train", None)
    assert entry.source_bytes == (tmp_path / "videos" / "red.avi").stat().st_size
    group = zarr.open_group(path, mode="r")
    assert group.attrs["frames"] == {"short_side": 128, "codec": "jpeg", "quality": 90}
    attributes = dict(group["frames"][video_key("red.avi")].attrs)
    del attributes["crc32c"]
    assert attributes == {
        "id": "red.avi",
        "path": "red.avi",
        "fps": 10.0,
        "settings": entry.settings,
        "source_bytes": entry.source_bytes,
        "remark": None,
        "source": entry.source_digest,
    }

    before = files(path)
    second = prep_frames(data, store=str(path))
    assert (second.written, second.skipped, second.failed, second.frames) == (0, 5, 0, 0)
    assert len(done) == 5
    assert files(path) == before


def test_in_worker_processes_and_the_default_store(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = prep_frames(data, workers=2)
    assert (result.store, result.written, result.failed) == ("set.zarr", 5, 0)
    check_colours(tmp_path / "set.zarr")


def test_limit_is_a_stable_sample(data: str, tmp_path: Path, done: list[str]) -> None:
    path = tmp_path / "s.zarr"
    first = prep_frames(data, store=str(path), limit=2)
    assert (first.videos, first.written) == (2, 2)
    chosen = set(done)
    assert prep_frames(data, store=str(path), limit=2).written == 0
    wider = prep_frames(data, store=str(path), limit=4)
    assert (wider.videos, wider.written, wider.skipped) == (4, 2, 2)
    assert chosen < set(done)
    assert prep_frames(data, store=str(path)).written == 1
    assert sorted(done) == sorted(COLOURS)


def test_sample_is_spread_and_independent_of_order() -> None:
    videos = [Video(f"{n // 100}/{n:04d}.avi", "p") for n in range(1000)]
    chosen = sample(videos, 200)
    assert len(chosen) == 200
    assert {v.id for v in chosen} == {v.id for v in sample(videos[::-1], 200)}
    assert {v.id for v in sample(videos, 50)} < {v.id for v in chosen}
    assert [v.id for v in chosen] == sorted(v.id for v in chosen)
    per_folder = [sum(v.id.startswith(f"{n}/") for v in chosen) for n in range(10)]
    # Binomial (100, 0.2): 20 +- 4 each.
    assert 5 <= min(per_folder) <= max(per_folder) <= 36
    assert sample(videos, None) == sample(videos, 1000) == sample(videos, 2000) == videos


# --- videos that fail ------------------------------------------------------------------------


def test_bad_video_among_good_ones(data: str, tmp_path: Path, done: list[str]) -> None:
    path, bad, empty = (
        tmp_path / "s.zarr",
        tmp_path / "videos/grey.avi",
        tmp_path / "videos/white.avi",
    )
    bad.write_text("no video at all")
    empty.write_bytes(b"")
    first = prep_frames(data, store=str(path))
    assert (first.written, first.failed, first.new_failures) == (3, 2, 2)
    reasons = dict(first.failures)
    assert sorted(reasons) == ["grey.avi", "white.avi"]
    assert "pyav: " in reasons["grey.avi"]
    assert "\n" not in reasons["grey.avi"]
    assert reasons["white.avi"] == "the file is empty"
    check_colours(path, ["red.avi", "green.avi", "blue.avi"])
    assert len(ClipStore(path).keys("frames")) == 3

    again = prep_frames(data, store=str(path))
    assert (again.written, again.skipped, again.failed, again.new_failures) == (0, 3, 2, 0)
    assert dict(again.failures) == reasons
    assert len(done) == 5

    retried = prep_frames(data, store=str(path), retry=True)
    assert (retried.written, retried.failed, retried.new_failures) == (0, 2, 2)
    assert sorted(done[5:]) == ["grey.avi", "white.avi"]

    # A file that has been mended needs no --retry.
    write_colour(bad, COLOURS["grey.avi"])
    mended = prep_frames(data, store=str(path))
    assert (mended.written, mended.skipped, mended.failed) == (1, 3, 1)
    check_colours(path, ["red.avi", "green.avi", "blue.avi", "grey.avi"])


def test_stored_video_whose_file_turns_bad_is_no_longer_there(
    data: str, tmp_path: Path, path: Path
) -> None:
    (tmp_path / "videos" / "grey.avi").write_text("no video at all")
    result = prep_frames(data, store=str(path))
    assert (result.written, result.skipped, result.failed) == (0, 4, 1)
    assert video_key("grey.avi") not in ClipStore(path).keys("frames")
    with pytest.raises(StoreError, match=r"contains no video 'grey\.avi' \(pyav"):
        ClipStore(path).read("grey.avi", 0, 1)


def test_decoding_that_fails_after_some_frames_leaves_none(
    data: str, tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **more: Any) -> Iterator[np.ndarray]:
        yield np.zeros((7, 8, 8, 3), np.uint8)
        raise DecodeError("pyav: on purpose")

    monkeypatch.setattr(video_module.GuardedDecoder, "blocks", failing)
    result = prep_frames(data, store=str(tmp_path / "s.zarr"))
    assert (result.written, result.failed) == (0, 5)
    assert ClipStore(tmp_path / "s.zarr").keys("frames") == set()
    assert list((tmp_path / "s.zarr" / "index" / "writing").iterdir()) == []


# --- parameters ------------------------------------------------------------------------------


def test_other_parameters_are_refused_and_overwrite_replaces(data: str, path: Path) -> None:
    before = files(path)
    with pytest.raises(StoreError) as caught:
        prep_frames(data, store=str(path), short_side=16)
    assert str(caught.value) == (
        f"{path}: holds frames with other parameters (short_side 128 -> 16);"
        " give --overwrite to replace them, or another --store"
    )
    with pytest.raises(StoreError, match=r"codec jpeg -> zstd, quality 90 -> None"):
        prep_frames(data, store=str(path), codec="zstd")
    assert files(path) == before

    result = prep_frames(data, store=str(path), short_side=16, overwrite=True)
    assert (result.written, result.skipped) == (5, 0)
    assert ClipStore(path).read("red.avi", 0, 1).shape == (1, 16, 24, 3)
    assert prep_frames(data, store=str(path), short_side=16).written == 0
    check_colours(path)


# --- sources that change ---------------------------------------------------------------------


def test_replaced_file_is_decoded_again(
    data: str, tmp_path: Path, done: list[str], path: Path
) -> None:
    store = ClipStore(path, writable=True)
    store.index.set_flow(store.entry("red.avi"), "of the red frames")
    shutil.copytree(path / "frames" / video_key("red.avi"), path / "flow" / video_key("red.avi"))
    write_colour(tmp_path / "videos" / "red.avi", (10, 10, 10), frames=4)
    result = prep_frames(data, store=str(path))
    assert (result.written, result.skipped) == (1, 4)
    assert done[5:] == ["red.avi"]
    entry = ClipStore(path).entry("red.avi")
    assert (entry.frames, entry.flow) == (4, None)
    assert ClipStore(path).read("red.avi", 0, 4).max() < 40
    # Flow of frames that are gone is gone too, for readers of plain Zarr as well.
    assert ClipStore(path).keys("flow") == set()


def test_touched_file_is_read_once_only(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    os.utime(tmp_path / "videos" / "red.avi", (1, 1))
    prep_frames(data, store=str(path))

    def forbidden(path: Path) -> None:
        raise AssertionError(f"{path} is read again")

    monkeypatch.setattr(frames_module, "read_source", forbidden)
    assert prep_frames(data, store=str(path)).skipped == 5


def test_file_of_the_same_size_and_another_time(
    data: str, tmp_path: Path, done: list[str], path: Path
) -> None:
    video = tmp_path / "videos" / "red.avi"
    content = bytearray(video.read_bytes())
    content[-1] ^= 1
    video.write_bytes(content)
    os.utime(video, (1, 1))
    assert prep_frames(data, store=str(path)).written == 1
    assert done[5:] == ["red.avi"]


# --- labels ----------------------------------------------------------------------------------


def test_relabelling_decodes_nothing(tmp_path: Path, done: list[str], path: Path) -> None:
    before = files(path)
    rows = [
        (name, "Fly" if name == "red.avi" else LABELS.get(name, "Sit"), "train") for name in COLOURS
    ]
    rows[1] = (*rows[1][:2], "test")
    result = prep_frames(write_csv(tmp_path / "videos", rows[::-1]), store=str(path), limit=1)
    assert result.written == 0
    assert "label, group or split of 2 stored videos updated" in result.notes
    entries = {e.id: (e.label, e.split1) for e in ClipStore(path).entries()}
    assert entries == {name: (label, split) for name, label, split in rows}
    assert len(done) == 5
    assert files(path) == before
    again = prep_frames(str(tmp_path / "videos" / "set.csv"), store=str(path))
    assert not [note for note in again.notes if "updated" in note]


def test_videos_that_left_the_data_set_are_told(data: str, tmp_path: Path, path: Path) -> None:
    fewer = write_csv(tmp_path / "videos", [("red.avi", "Run", "train")])
    result = prep_frames(fewer, store=str(path))
    assert result.videos == 1
    assert f"{path} also holds 4 videos that are not in this data set" in result.notes


# --- crashes ---------------------------------------------------------------------------------


def test_vanished_array_is_made_again(data: str, path: Path) -> None:
    shutil.rmtree(path / "frames" / video_key("red.avi"))
    assert prep_frames(data, store=str(path)).written == 1
    check_colours(path)


def test_killed_between_array_and_entry_of_a_replaced_video(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    write_colour(tmp_path / "videos" / "red.avi", (10, 10, 10))

    def killed(self: Any, entry: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("slic.cache.index.Index.put", killed)
        with pytest.raises(KeyboardInterrupt):
            prep_frames(data, store=str(path))
    # The new array stands beside the old entry: not to be read as if they belonged together.
    with pytest.raises(DamagedChunk, match=r"red\.avi: frames damaged"):
        ClipStore(path).read("red.avi", 0, 1)
    assert prep_frames(data, store=str(path)).written == 1
    assert ClipStore(path).read("red.avi", 0, 1).max() < 40


def test_overwrite_that_was_stopped_is_finished_by_the_next_run(
    data: str, monkeypatch: pytest.MonkeyPatch, path: Path
) -> None:
    real, decoded = frames_module.store_frames, []

    def stopping(job: FrameJob) -> Any:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(job.video.id)
        return real(job)

    with monkeypatch.context() as patch:
        patch.setattr(frames_module, "store_frames", stopping)
        with pytest.raises(KeyboardInterrupt):
            prep_frames(data, store=str(path), short_side=16, overwrite=True)
    store = ClipStore(path)
    assert store.outdated(store.entries()) == sorted(set(COLOURS) - set(decoded))
    assert {store.read(name, 0, 1).shape[1] for name in decoded} == {16}
    check_colours(path)
    with pytest.raises(StoreError, match="frames with other parameters"):
        prep_frames(data, store=str(path))
    again = prep_frames(data, store=str(path), short_side=16)
    assert (again.written, again.skipped) == (3, 2)
    store = ClipStore(path)
    assert store.outdated(store.entries()) == []
    assert {store.read(name, 0, 1).shape[1] for name in COLOURS} == {16}


def test_overwriting_takes_nothing_with_it_that_cannot_be_read_now(
    data: str, tmp_path: Path, done: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, gone = tmp_path / "s.zarr", tmp_path / "videos" / "red.avi"
    prep_frames(data, store=str(path))
    before, real = ClipStore(path).entry("red.avi"), frames_module.store_frames

    def vanishing(job: FrameJob) -> Any:
        if job.video.id == "red.avi":
            gone.rename(tmp_path / "elsewhere")
        return real(job)

    with monkeypatch.context() as patch:
        patch.setattr(frames_module, "store_frames", vanishing)
        result = prep_frames(data, store=str(path), overwrite=True)
    assert (result.written, result.failed, result.new_failures) == (4, 1, 1)
    assert result.failures[0][0] == "red.avi"
    assert ClipStore(path).entry("red.avi") == before
    check_colours(path)
    (tmp_path / "elsewhere").rename(gone)
    assert prep_frames(data, store=str(path)).written == 0


# --- places that are no store ----------------------------------------------------------------


def test_store_as_data_set(data: str, tmp_path: Path, done: list[str]) -> None:
    path = tmp_path / "s.zarr"
    prep_frames(data, store=str(path), limit=1)
    with pytest.raises(StoreError, match="is a store; give the data set its frames come from"):
        prep_frames(str(path))
    with pytest.raises(InputError, match="is a store already; omit --store"):
        prep_frames(str(path), store=str(tmp_path / "other.zarr"))
    assert not (tmp_path / "other.zarr").exists()


def test_no_store_is_made_for_no_data_set(tmp_path: Path, done: list[str]) -> None:
    with pytest.raises(InputError):
        prep_frames(str(tmp_path / "none"), store=str(tmp_path / "s.zarr"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError):
        prep_frames(str(tmp_path / "empty"), store=str(tmp_path / "s.zarr"))
    assert not (tmp_path / "s.zarr").exists()
