"""Reading clips from a store, against a plain loop over what Zarr reads."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from slic.cache import ClipStore, Codec, Entry, View, clipstore, video_key
from slic.cache.metadata import read_metadata, write_metadata
from slic.cache.writers import WriterLock, aside_name
from slic.errors import DamagedChunk, StoreError
from slic.prep.info import store_info

JPEG = Codec("jpeg", quality=90)
LONG, PAIR, ONE, BARE = "Run/long.avi", "Run/pair.avi", "Hop/one.avi", "Hop/no flow.avi"
FRAMES = {LONG: 11, PAIR: 2, ONE: 1, BARE: 4}


def noise(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def put(store: ClipStore, video: str, frames: np.ndarray, *, flow: np.ndarray | None) -> None:
    """Store one video by the same steps as prep."""
    count, height, width, _ = frames.shape
    digest = f"digest of {video}"
    with store.write(video, view="frames", codec=JPEG) as writer:
        for frame in frames:
            writer.append(frame)
        writer.close({"id": video, "fps": 25.0, "source": digest})
        store.publish(writer, video, view="frames")
    entry = Entry(video, video_key(video), video, video.split("/")[0], None, "train", None, None)
    entry = replace(entry, frames=count, height=height, width=width, fps=25.0)
    store.index.put(replace(entry, source_digest=digest, settings="s"))
    if flow is not None:
        with store.write(video, view="flow", codec=JPEG) as writer:
            for field in flow:
                writer.append(field)
            writer.close({"id": video, "bound": 2.5}, empty_shape=(height, width, 2))
            store.publish(writer, video, view="flow")
        store.index.set_flow(store.entry(video), "f")


def make_store(path: Path) -> Path:
    store = ClipStore.create(path)
    for seed, (video, count) in enumerate(FRAMES.items()):
        frames = noise(count, 13, 21, 3, seed=seed)
        flow = None if video == BARE else noise(count - 1, 13, 21, 2, seed=100 + seed)
        put(store, video, frames, flow=flow)
    store.index.put(Entry("bad.avi", "k", "bad.avi", None, None, "train", None, None, reason="no"))
    store.index.close()
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests read only."""
    return make_store(tmp_path_factory.mktemp("stores") / "small.zarr")


@pytest.fixture
def own(path: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(path, tmp_path / "own.zarr"))


def array(path: Path, video: str, view: View) -> np.ndarray:
    return zarr.open_array(path / view / video_key(video), mode="r")[:]


# --- reading ---------------------------------------------------------------------------------


@pytest.mark.parametrize("video", [LONG, PAIR, ONE])
@pytest.mark.parametrize(("count", "stride"), [(1, 1), (4, 1), (4, 3), (16, 1), (25, 4), (3, 50)])
def test_clips_are_those_of_a_plain_loop(path: Path, video: str, count: int, stride: int) -> None:
    store = ClipStore(path)
    frames, flow = array(path, video, "frames"), array(path, video, "flow")
    total = len(frames)
    for start in range(total):
        clip = store.read(video, start, count, stride=stride)
        fields = store.read(video, start, count, stride=stride, view="flow")
        assert clip.shape == (count, 13, 21, 3)
        assert fields.shape == (count, 13, 21, 2)
        assert clip.dtype == fields.dtype == np.uint8
        for i in range(count):
            position = (start + i * stride) % total
            np.testing.assert_array_equal(clip[i], frames[position])
            if total == 1:
                assert (fields[i] == 128).all()
            else:
                # The last frame has no next one: it repeats the flow before.
                np.testing.assert_array_equal(fields[i], flow[min(position, total - 2)])


def test_flow_in_pixels_is_the_levels_by_the_bound(path: Path) -> None:
    store, flow = ClipStore(path), array(path, LONG, "flow").astype(float)
    clip = store.read_flow(LONG, 9, 4, stride=1)
    assert (clip.shape, clip.dtype) == ((4, 13, 21, 2), np.float32)
    # The bound is 2.5 px at level 255; fields 9, and again for the join, 0 and 1.
    np.testing.assert_allclose(clip, (flow[[9, 9, 0, 1]] - 128) * (2.5 / 127), rtol=1e-6)
    skipping = store.read_flow(LONG, 1, 3, stride=4)
    np.testing.assert_allclose(skipping, (flow[[1, 5, 9]] - 128) * (2.5 / 127), rtol=1e-6)
    assert not store.read_flow(ONE, 0, 3).any()


@pytest.mark.parametrize(
    ("start", "count", "stride"), [(-1, 1, 1), (11, 1, 1), (0, 0, 1), (0, -2, 1), (0, 1, 0)]
)
def test_positions_outside_the_video(path: Path, start: int, count: int, stride: int) -> None:
    with pytest.raises(StoreError, match=r"Run/long\.avi: no clip of .* in 11 frames"):
        ClipStore(path).read(LONG, start, count, stride=stride)


def test_unknown_failed_and_flowless_videos(path: Path) -> None:
    store = ClipStore(path)
    with pytest.raises(StoreError, match=r"small\.zarr: contains no video 'none\.avi'$"):
        store.read("none.avi", 0, 1)
    with pytest.raises(StoreError, match=r"contains no video 'bad\.avi' \(no\)"):
        store.read("bad.avi", 0, 1)
    with pytest.raises(StoreError, match=r"no flow\.avi has no flow; run `slic prep flow"):
        store.read(BARE, 0, 1, view="flow")
    with pytest.raises(StoreError, match="unknown view 'depth'"):
        store.read(LONG, 0, 1, view="depth")  # type: ignore[arg-type]
    assert store.read(BARE, 0, 5).shape == (5, 13, 21, 3)


def test_listing(path: Path) -> None:
    store = ClipStore(path)
    assert store.name == "small"
    assert store.ids == sorted(FRAMES)
    assert [e.id for e in store.failures()] == ["bad.avi"]
    assert store.entry(LONG).frames == 11
    assert store.keys("frames") == {video_key(v) for v in FRAMES}
    assert store.keys("flow") == {video_key(v) for v in FRAMES if v != BARE}
    assert store_info(str(path))["bytes"] == sum(
        f.stat().st_size for f in path.rglob("*") if f.is_file()
    )


def test_plain_zarr_opens_the_store_without_a_warning(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
    arrays = {name for name, node in members.items() if isinstance(node, zarr.Array)}
    wanted = {f"frames/{video_key(v)}" for v in FRAMES}
    wanted |= {f"flow/{video_key(v)}" for v in FRAMES if v != BARE}
    assert arrays == wanted | {"index"}
    assert dict(zarr.open_group(path, mode="r").attrs)["format"] == 1


# --- digests ------------------------------------------------------------------------


def test_digest_follows_content_and_labels(own: Path) -> None:
    store = ClipStore(own, writable=True)
    before = store.digest()
    assert ClipStore(own).digest() == before
    entry = store.entry(LONG)
    for changed in (
        replace(entry, label="Jump"),
        replace(entry, split1="test"),
        replace(entry, source_digest="other"),
        replace(entry, settings="other"),
    ):
        store.index.put(changed)
        assert store.digest() != before
    store.index.put(entry)
    assert store.digest() == before
    store.index.put(replace(store.failures()[0], reason="another reason"))
    assert store.digest() == before


# --- processes and threads -------------------------------------------------------------------


def test_pickled_store_reads_the_same(path: Path) -> None:
    store = ClipStore(path)
    expected = store.read(LONG, 3, 12)
    again = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(again.read(LONG, 3, 12), expected)
    assert again.ids == store.ids


# In a process of its own: pytest's has threads, which forbid a fork.
_FORKED = """
import os, sys
from slic.cache import ClipStore
store = ClipStore(sys.argv[1])
first = store.read("Run/long.avi", 3, 12)
for _ in range(3):
    child = os.fork()
    if not child:
        same = (store.read("Run/long.avi", 3, 12) == first).all()
        fresh = store.read("Run/pair.avi", 0, 2, view="flow").shape == (2, 13, 21, 2)
        os._exit(0 if same and fresh and len(store.ids) == 4 else 1)
    assert len(store.ids) == 4
    assert os.waitpid(child, 0)[1] == 0, "in the child"
print("same")
"""


def test_forked_process_reads_the_same(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _FORKED, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "same\n", done.stderr


# --- stores that are none --------------------------------------------------------------------


def refused(path: Path, *, create: bool = False) -> str:
    with pytest.raises(StoreError) as caught:
        ClipStore.create(path) if create else ClipStore(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no such store; create one with `slic prep frames DATASET`" in refused(
        tmp_path / "x.zarr"
    )


def test_file_instead_of_a_folder(tmp_path: Path) -> None:
    file = tmp_path / "x.zarr"
    file.write_text("mine")
    assert "no such store" in refused(file)
    assert "exists but is not a clip store; choose another --store" in refused(file, create=True)
    assert file.read_text() == "mine"


def test_foreign_folder_is_left_as_it_is(tmp_path: Path) -> None:
    for names in (["notes.txt"], ["frames/0001.jpg"], ["index"], ["flow/a/b"]):
        folder = tmp_path / names[0].replace("/", "-")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("mine")
        before = sorted(folder.rglob("*"))
        assert "not a clip store (it has no zarr.json)" in refused(folder)
        assert "exists but is not a clip store" in refused(folder, create=True)
        assert sorted(folder.rglob("*")) == before


def test_zarr_group_of_others(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "x.zarr", mode="w", attributes={"by": "others"})
    before = sorted((tmp_path / "x.zarr").rglob("*"))
    for create in (False, True):
        assert "zarr.json has no slic format" in refused(tmp_path / "x.zarr", create=create)
    assert sorted((tmp_path / "x.zarr").rglob("*")) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"attributes": []}', '{"attributes": 1}'])
def test_damaged_root_metadata(own: Path, text: str) -> None:
    (own / "zarr.json").write_text(text)
    assert "not a clip store" in refused(own)
    assert "not a clip store" in refused(own, create=True)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (2, "format 2, but this slic reads up to 1; upgrade it"),
        (0, "has no slic format"),
        ("1", "has no slic format"),
    ],
)
def test_other_formats(own: Path, found: object, said: str) -> None:
    meta = read_metadata(own / "zarr.json")
    meta["attributes"]["format"] = found
    write_metadata(own / "zarr.json", meta)
    assert said in refused(own)
    assert said in refused(own, create=True)


@pytest.mark.parametrize("lost", ["index/index.sqlite", "index"])
def test_missing_index(own: Path, lost: str) -> None:
    target = own / lost
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert "the store has no index; run `slic cache verify" in refused(own)
    with pytest.raises(StoreError, match="no index"):
        ClipStore(own, writable=True)
    # That is what `prep frames` does, and it makes a new one.
    assert ClipStore.create(own).entries() == []
    assert ClipStore(own).entries() == []


def test_making_a_store_again_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "x.zarr"
    ClipStore.create(path).index.close()
    for lost in ("index/index.sqlite", "zarr.json", "flow/zarr.json", "frames"):
        target = path / lost
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    store = ClipStore.create(path)
    put(store, LONG, noise(3, 8, 8, 3, seed=0), flow=None)
    assert ClipStore(path).read(LONG, 0, 3).shape == (3, 8, 8, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(zarr.open_group(path, mode="r").members(max_depth=None)) == 4


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["c.0.0.0.0", "zarr.json", "."])
@pytest.mark.parametrize("view", ["frames", "flow"])
def test_lost_files_name_the_video(own: Path, view: View, lost: str) -> None:
    target = own / view / video_key(LONG) / lost
    shutil.rmtree(target) if lost == "." else target.unlink()
    with pytest.raises(DamagedChunk, match=r"Run/long\.avi: .* damaged") as caught:
        ClipStore(own).read(LONG, 0, 2, view=view)
    assert "\n" not in str(caught.value)
    # Its neighbours are none the worse.
    assert ClipStore(own).read(PAIR, 0, 2, view=view).shape[0] == 2


def test_array_of_another_source_than_the_index_says(own: Path) -> None:
    store = ClipStore(own, writable=True)
    store.index.put(replace(store.entry(LONG), source_digest="of an older file"))
    with pytest.raises(DamagedChunk, match="another video file than the one in the index"):
        ClipStore(own).read(LONG, 0, 2)


@pytest.mark.parametrize("bound", [None, "2.5", 0, -1])
def test_damaged_bound(own: Path, bound: object) -> None:
    file = own / "flow" / video_key(LONG) / "zarr.json"
    meta = json.loads(file.read_text())
    meta["attributes"]["bound"] = bound
    write_metadata(file, meta)
    with pytest.raises(DamagedChunk, match=r"Run/long\.avi: flow damaged \(no valid bound"):
        ClipStore(own).flow_bound(LONG)


# --- writing ---------------------------------------------------------------------------------


def leftovers(path: Path) -> list[Path]:
    return list((path / "index" / "writing").iterdir())


def test_publish_against_another_process(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer fills the place between the two renames."""
    store = ClipStore(own, writable=True)
    target = own / "frames" / video_key(LONG)
    rename = Path.rename
    seen: list[Path] = []

    def racing(self: Path, to: Path) -> Path:
        if Path(to) == target and not seen:
            seen.append(self)
            shutil.copytree(self, target)
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", racing)
    frames = np.full((2, 8, 8, 3), 90, np.uint8)
    put(store, LONG, frames, flow=None)
    assert seen
    np.testing.assert_array_equal(store.read(LONG, 0, 2), frames)
    assert leftovers(own) == []


def test_flow_of_other_frames_is_seen_on_reading(own: Path) -> None:
    store = ClipStore(own, writable=True)
    with store.write(LONG, view="flow", codec=JPEG) as writer:
        for field in noise(10, 13, 21, 2, seed=9):
            writer.append(field)
        writer.close({"id": LONG, "bound": 2.5, "fingerprint": "of the frames before"})
        store.publish(writer, LONG, view="flow")
    with pytest.raises(DamagedChunk, match="flow of other frames"):
        ClipStore(own).read(LONG, 0, 2, view="flow")
    assert store.index.set_flow(store.entry(LONG), "of the frames before")
    assert ClipStore(own).read(LONG, 0, 2, view="flow").shape == (2, 13, 21, 2)


# --- what killed writers left ----------------------------------------------------------------


def leave(path: Path, name: str, *, hours: float = 0) -> None:
    folder = path / "index" / "writing" / name
    folder.mkdir()
    (folder / "c.0.0.0.0").write_bytes(b"half a shard")
    then = time.time() - 3600 * hours
    os.utime(folder, (then, then))


def test_leftovers_of_this_host_go_at_once_and_of_others_after_a_day(own: Path) -> None:
    leave(own, aside_name("ours"))
    leave(own, "theirs.another-host.0123abcd", hours=23)
    leave(own, "old.another-host.0123abcd", hours=25)
    leave(own, "nobody's", hours=23)
    ClipStore(own, writable=True).clear_leftovers()
    assert {item.name for item in leftovers(own)} == {"theirs.another-host.0123abcd", "nobody's"}


def test_leftovers_stay_while_another_writes(own: Path) -> None:
    code = (
        "import sys; from slic.cache import ClipStore\n"
        "store = ClipStore(sys.argv[1], writable=True); print(flush=True); sys.stdin.read()"
    )
    pipes: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    leave(own, aside_name("may be written"))
    store = ClipStore(own, writable=True)
    with subprocess.Popen([sys.executable, "-c", code, str(own)], **pipes) as other:
        other.stdout.readline()  # type: ignore[union-attr]
        store.clear_leftovers()
        assert len(leftovers(own)) == 1
        other.kill()
    store.clear_leftovers()
    assert leftovers(own) == []


def test_a_store_under_repair_is_not_written(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slic.cache.writers.PATIENCE_S", 0.2)
    with WriterLock(own).alone() as company:
        assert company == "alone"
        with pytest.raises(StoreError, match="is being repaired"):
            ClipStore(own, writable=True)
        assert ClipStore(own).read(LONG, 0, 2).shape == (2, 13, 21, 3)
    ClipStore(own, writable=True)


def test_settings_of_both_views_survive_a_race(own: Path) -> None:
    both: list[tuple[Any, Any]] = [("frames", "short_side"), ("flow", "bound")]
    stores = [ClipStore(own, writable=True) for _ in both]

    def record(number: int) -> None:
        view, name = both[number]
        for value in range(20):
            stores[number].set_settings(view, {name: value})
        stores[number].index.close()

    threads = [threading.Thread(target=record, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ClipStore(own).settings("frames") == {"short_side": 19}
    assert ClipStore(own).settings("flow") == {"bound": 19}


def test_settings_that_another_process_has_changed_are_not_replaced(own: Path) -> None:
    first, second = ClipStore(own, writable=True), ClipStore(own, writable=True)
    first.set_settings("frames", {"short_side": 128})
    with pytest.raises(StoreError, match="another process has just recorded other"):
        second.set_settings("frames", {"short_side": 64})
    second.set_settings("frames", {"short_side": 128})
    assert ClipStore(own).settings("frames") == {"short_side": 128}


def test_reader_cannot_write(path: Path) -> None:
    with pytest.raises(StoreError, match="open for reading only"):
        ClipStore(path).index.put(Entry("x", "x", "x", None, None, None, None, None))


def test_a_store_that_can_be_seen_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment of its making another process finds no store yet, or an empty one."""
    path, seen = tmp_path / "s.zarr", []
    real_write, real_index = clipstore.write_metadata, clipstore.Index

    def look() -> None:
        try:
            seen.append(ClipStore(path).ids)
        except StoreError as error:
            seen.append(str(error))

    def write(*arguments: Any) -> None:
        real_write(*arguments)
        look()

    def index(*arguments: Any, **options: Any) -> Any:
        made = real_index(*arguments, **options)
        if options.get("writable"):
            look()
        return made

    monkeypatch.setattr(clipstore, "write_metadata", write)
    monkeypatch.setattr(clipstore, "Index", index)
    ClipStore.create(path).index.close()
    assert "no zarr.json" in seen[0]
    assert seen[-1] == []
    assert all(found == [] or "no zarr.json" in found for found in seen)


def test_a_flipped_bit_in_the_name_of_a_checksum_is_seen(own: Path) -> None:
    for path in sorted(own.rglob("zarr.json")):
        text = path.read_bytes()
        assert text.count(b'"crc32c"') >= 1
        place = text.rindex(b'"crc32c"') + 2
        path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(ValueError, match="checksum"):
            read_metadata(path)
        path.write_bytes(text)
        read_metadata(path)
