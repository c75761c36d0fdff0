"""The SQLite index of a store."""

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from slic.cache.entries import Entry
from slic.cache.index import Index
from slic.cache.index_rows import SUM
from slic.datasets.videos import Video
from slic.errors import DiskError, StoreError


def entry(name: str, **more: object) -> Entry:
    return replace(Entry(name, f"key-{name}", name, "Run", "g1", "train", None, "test"), **more)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path / "index.sqlite", writable=True)


def test_every_field_comes_back(index: Index) -> None:
    whole = Entry(
        id="a/ü 'x'.avi",
        key="k",
        path="a/x.avi",
        label='Say "hi"',
        group="g",
        split1="train",
        split2="test",
        split3="unused",
        frames=7,
        height=27,
        width=33,
        fps=29.97,
        settings="abc",
        source_bytes=2**40,
        source_mtime_ns=1_700_000_000_123_456_789,
        source_digest="d",
        reason=None,
        remark="odd",
        flow="f",
    )
    index.put(whole)
    assert index.entry(whole.id) == whole
    assert [whole.split(n) for n in (1, 2, 3, 4)] == ["train", "test", "unused", None]
    index.put(entry("b"))
    assert index.entry("b") == entry("b")
    assert index.entry("c") is None


def test_rows_are_fields_of_stored_videos_in_order(index: Index) -> None:
    index.put(entry("b", frames=2))
    index.put(entry("c", reason="broken"))
    index.put(entry("a", frames=3))
    assert list(index.rows("id", "group", "frames")) == [("a", "g1", 3), ("b", "g1", 2)]


def test_entries_of_videos_that_failed_or_did_not(index: Index) -> None:
    for name, reason in (("b", None), ("d", "no"), ("a", "broken"), ("c", None)):
        index.put(entry(name, reason=reason))
    assert [e.id for e in index.entries()] == ["a", "b", "c", "d"]
    assert [e.id for e in index.entries(failed=False)] == ["b", "c"]
    assert [e.id for e in index.entries(failed=True)] == ["a", "d"]


def test_entries_have_repeated_texts_in_common(index: Index) -> None:
    # A number that equals another stays of its kind.
    index.put(replace(entry("a", frames=25, fps=25.0, settings="s", remark="r"), path="a"))
    index.put(replace(entry("b", frames=30, fps=30.0, settings="s", remark="r"), path="other"))
    first, second = index.entries()
    for name in ("label", "group", "split1", "split3", "settings"):
        assert getattr(first, name) is getattr(second, name) is not None
    assert first.path is first.id
    assert second.path == "other"
    assert isinstance(first.fps, float)
    assert isinstance(first.frames, int)


def test_set_flow(index: Index) -> None:
    index.put(entry("a"))
    index.put(entry("b"))
    assert index.set_flow(entry("a"), "f")
    assert index.entries() == [entry("a", flow="f"), entry("b")]
    index.forget_flow(["a"])
    assert index.entry("a") == entry("a")


@pytest.mark.parametrize("changed", [{"source_digest": "of another file"}, {"settings": "new"}])
def test_flow_of_frames_that_were_replaced_is_not_noted(index: Index, changed: dict) -> None:
    seen = entry("a", source_digest="of a file", settings="old")
    index.put(replace(seen, **changed))
    assert not index.set_flow(seen, "f")
    assert not index.set_flow(entry("unknown"), "f")
    assert index.entries() == [replace(seen, **changed)]


def test_relabel_counts_what_changes_and_touches_nothing_else(index: Index) -> None:
    for name in ("a", "b", "c", "d"):
        index.put(entry(name, frames=5, flow="f"))
    same = Video("a", "a", "Run", "g1", {1: "train", 3: "test"})
    videos = [
        replace(same, id="d", label=None),  # the order is not that of the ids
        same,
        replace(same, id="b", label="Jump"),
        replace(same, id="c", splits={1: "test"}),
        replace(same, id="not stored", label="Jump"),
    ]
    assert index.relabel(videos) == 3
    assert index.relabel(videos) == 0
    assert index.relabel([]) == 0
    rest = {"frames": 5, "flow": "f"}
    assert index.entries() == [
        entry("a", **rest),
        entry("b", label="Jump", **rest),
        entry("c", split1="test", split3=None, **rest),
        entry("d", label=None, **rest),
    ]


def test_two_writers_share_a_file(tmp_path: Path) -> None:
    def put(writer: int) -> None:
        index = Index(tmp_path / "index.sqlite", writable=True)
        for number in range(20):
            index.put(entry(f"{writer}-{number:02d}"))
        index.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, range(2)))
    index = Index(tmp_path / "index.sqlite")
    wanted = [f"{writer}-{number:02d}" for writer in range(2) for number in range(20)]
    assert [e.id for e in index.entries()] == wanted


def test_name_with_characters_of_a_uri(tmp_path: Path) -> None:
    folder = tmp_path / "100% a?b#c"
    folder.mkdir()
    Index(folder / "index.sqlite", writable=True).put(entry("a"))
    assert Index(folder / "index.sqlite").entries() == [entry("a")]
    assert [item.name for item in folder.iterdir()] == ["index.sqlite"]


def test_missing_file_is_not_made_by_a_reader(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match=r"index\.sqlite: No such file"):
        Index(tmp_path / "index.sqlite").entries()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"this is no database " * 100])
def test_damaged_file_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index.sqlite").write_bytes(content)
    with pytest.raises(StoreError) as caught:
        Index(tmp_path / "index.sqlite").entries()
    assert "index.sqlite: the index cannot be read" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_database_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is no database " * 100)
    with pytest.raises(StoreError, match=r"cannot be written.*run `slic cache verify"):
        Index(tmp_path / "index.sqlite", writable=True)


_KILLED_WRITER = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("PRAGMA cache_size = 1")
connection.execute("UPDATE videos SET label = 'half written'")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_reader_rolls_back_what_a_killed_writer_left(index: Index) -> None:
    wanted = [entry(f"{number:04d}", remark="x" * 200) for number in range(200)]
    index._open().execute("PRAGMA synchronous = OFF")  # the test's own rows need not be durable
    for row in wanted:
        index.put(row)
    index.close()
    done = subprocess.run([sys.executable, "-c", _KILLED_WRITER, str(index.path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert index.path.with_name("index.sqlite-journal").exists()
    assert Index(index.path).entries() == wanted


_FORKED_WHILE_WRITING = """
import gc, os, sys, time
from pathlib import Path
import slic.cache.index
from slic.cache.index import Index

slic.cache.index.LOCK_TIMEOUT_S = 0.1
index = Index(Path(sys.argv[1]), writable=True)
connection = index._open()
connection.execute("PRAGMA cache_size = 1")  # so that half of it stands in the file already
connection.execute("UPDATE videos SET label = 'new'")
child = os.fork()
if child == 0:
    try:
        index.entries()
    except Exception as error:
        locked = "locked" in str(error)
    del connection
    index.close()
    gc.collect()
    os._exit(0 if locked else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
connection.commit()
"""


def test_a_fork_does_not_undo_what_its_parent_writes(index: Index) -> None:
    index._open().execute("PRAGMA synchronous = OFF")  # the test's own rows need not be durable
    for number in range(200):
        index.put(entry(f"{number:04d}", remark="x" * 200))
    index.close()
    script = [sys.executable, "-c", _FORKED_WHILE_WRITING, str(index.path)]
    done = subprocess.run(script, timeout=60, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert {e.label for e in index.entries()} == {"new"}
    assert len(index.entries()) == 200


def test_columns_are_the_fields(index: Index) -> None:
    with sqlite3.connect(index.path) as connection:
        found = [row[1] for row in connection.execute("PRAGMA table_info(videos)")]
    connection.close()
    assert found == [*(field.name for field in fields(Entry)), SUM]
