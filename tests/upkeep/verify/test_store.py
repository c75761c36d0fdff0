"""Every kind of damage to a store is found and repaired, and prep restores what was removed."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slic.cache import ClipStore, Entry, View
from slic.cache.entries import COLUMNS
from slic.cache.metadata import CHECKSUM, group, read_metadata, write_metadata
from slic.cache.writers import aside_name
from slic.errors import StoreError
from slic.prep.flow import prep_flow
from slic.upkeep.verify.store import verify_store

Damage = Callable[[Path], Any]


def contents(path: Path) -> dict[str, Any]:
    """All that a store holds, and the names of its files."""
    store = ClipStore(path)
    files = [p for p in sorted(path.rglob("*")) if p.is_file()]
    arrays = [p for p in files if p.parent.parent.name in ("frames", "flow")]
    return {
        "attributes": store.attributes,
        "rows": store.index.entries(),
        "files": [p.relative_to(path).as_posix() for p in files if p.name != "lock"],
        "arrays": {p.relative_to(path).as_posix(): p.read_bytes() for p in arrays},
    }


def flip(file: Path, place: int, bit: int = 2) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 1 << bit
    file.write_bytes(data)


def entries(path: Path) -> list[Entry]:
    store = ClipStore(path)
    found = store.entries()
    store.index.close()
    return found


def folder(path: Path, view: View, number: int = 0) -> Path:
    return path / view / entries(path)[number].key


def sql(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path / "index" / "index.sqlite")
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_name("between"))
    other.rename(one)
    one.with_name("between").rename(other)


def in_array(view: View, change: Callable[[Path], Any]) -> Damage:
    return lambda path: change(folder(path, view))


def without(meta: dict, name: str) -> dict:
    attributes = {k: v for k, v in meta["attributes"].items() if k != name}
    return {**meta, "attributes": attributes}


def remove_checksums(path: Path) -> None:
    """Turn a store into one from before metadata and rows had checksums."""
    extra = {"path", "settings", "source_bytes", "remark", "fingerprint", CHECKSUM}
    for file in path.rglob("zarr.json"):
        meta = json.loads(file.read_text())
        meta["attributes"] = {k: v for k, v in meta["attributes"].items() if k not in extra}
        file.write_text(json.dumps(meta))
    columns = ", ".join(f'"{name}"' for name in COLUMNS)
    types = ", ".join(f'"{n}" {"TEXT PRIMARY KEY" if n == "id" else ""}' for n in COLUMNS)
    sql(
        path,
        "ALTER TABLE videos RENAME TO before",
        f"CREATE TABLE videos ({types}) WITHOUT ROWID",
        f"INSERT INTO videos SELECT {columns} FROM before",
        "DROP TABLE before",
    )


# --- sound stores ---------------------------------------------------------------------------


def test_a_sound_store_has_no_faults_and_is_not_touched(own: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in own.rglob("*")}
    report = verify_store(own)
    assert (report.faults, report.notes, report.sound) == ([], [], True)
    assert report.checked["videos"] == 7
    shards = [p.stat().st_size for p in own.rglob("c.*")]
    indices = 6 * (16 * (4 + 3) + 2 * 4)  # of 4 frames and 3 fields a video
    assert report.checked["bytes"] == sum(shards) - indices
    assert verify_store(own, repair=True).faults == []
    after = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in own.rglob("*")}
    assert {p: s for p, s in after.items() if p in before and p.name != "lock"} == {
        p: s for p, s in before.items() if p.name != "lock"
    }


@pytest.mark.slow
def test_processes_find_what_one_finds(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(folder(own, "frames", 1) / "c.0.0.0.0", 50)
    flip(folder(own, "flow", 3) / "c.0.0.0.0", 50)
    here = verify_store(own)
    monkeypatch.setattr("slic.upkeep.verify.store.FEW_VIDEOS", 0)
    assert len(here.faults) == 2
    assert verify_store(own, workers=2).faults == here.faults


def test_a_store_from_before_checksums_is_sound(own: Path) -> None:
    remove_checksums(own)
    assert verify_store(own).faults == []


# --- each kind of damage ---------------------------------------------------------------------

CHUNK = "c.0.0.0.0"
IN_VIEWS: dict[str, Callable[[Path], Any]] = {
    "bit of a chunk": lambda array: flip(array / CHUNK, 100),
    "bit of the shard's index": lambda array: flip(array / CHUNK, -20),
    "bit of the metadata": lambda array: flip(array / "zarr.json", 700),
    "cut short": lambda array: os.truncate(array / CHUNK, 300),
    "no shard": lambda array: (array / CHUNK).unlink(),
    "no metadata": lambda array: (array / "zarr.json").unlink(),
    "no array": shutil.rmtree,
    "other metadata": lambda array: (array / "zarr.json").write_text('{"attributes": {}}'),
}


@pytest.mark.parametrize("kind", IN_VIEWS)
@pytest.mark.parametrize("view", ["frames", "flow"])
def test_damage_to_an_array_removes_what_prep_makes_again(own: Path, view: View, kind: str) -> None:
    before = entries(own)
    IN_VIEWS[kind](folder(own, view))
    found = verify_store(own)
    assert [(f.where, f.what.split(":")[0]) for f in found.faults] == [(before[0].id, view)]
    assert not found.sound
    report = verify_store(own, repair=True)
    assert (report.faults, report.repaired, report.sound) == (found.faults, 1, True)
    assert verify_store(own).faults == []
    left = before[1:] if view == "frames" else [replace(before[0], flow=None), *before[1:]]
    assert entries(own) == left
    assert before[0].key not in ClipStore(own).keys(view)


def broken_row(path: Path) -> None:
    sql(path, f"UPDATE videos SET label = 'other' WHERE id = '{entries(path)[2].id}'")


def flip_in_index(path: Path) -> None:
    file = path / "index" / "index.sqlite"
    flip(file, file.read_bytes().index(entries(path)[1].source_digest.encode()))  # type: ignore[union-attr]


def forget_flow(path: Path) -> None:
    """As a writer leaves it that is killed between an array of flow and its row."""
    store = ClipStore(path, writable=True)
    store.index.forget_flow([store.ids[2]])
    store.index.close()


IN_STORE: dict[str, Damage] = {
    "flow that is not in the index": forget_flow,
    "row that slic did not write": broken_row,
    "bit of a row": flip_in_index,
    "lost row": lambda p: sql(p, f"DELETE FROM videos WHERE id = '{entries(p)[3].id}'"),
    "all rows lost": lambda p: sql(p, "DELETE FROM videos"),
    "no table": lambda p: sql(p, "DROP TABLE videos"),
    "failed, with an array": lambda p: sql(p, "UPDATE videos SET reason = 'no'"),
    "no folder of the index": lambda p: shutil.rmtree(p / "index"),
    "half an index": lambda p: os.truncate(p / "index" / "index.sqlite", 5000),
    "index that is none": lambda p: (p / "index" / "index.sqlite").write_bytes(b"none" * 500),
    "no root": lambda p: (p / "zarr.json").unlink(),
    "bit of the root": lambda p: flip(p / "zarr.json", 90),
    "no group": lambda p: (p / "flow" / "zarr.json").unlink(),
    "array under another key": lambda p: shutil.copytree(
        folder(p, "frames"), p / "frames" / "other-0123456789abcdef"
    ),
    "leftover": lambda p: (p / "index" / "writing" / aside_name("video")).mkdir(),
    "leftover of metadata": lambda p: (p / ".zarr.json.0123abcd").write_text("{"),
}


@pytest.mark.parametrize("kind", IN_STORE)
def test_damage_to_the_index_and_root_is_repaired_without_decoding(
    own: Path, small: Path, small_set: Path, kind: str
) -> None:
    IN_STORE[kind](own)
    assert verify_store(own).faults
    assert verify_store(own, repair=True).sound
    assert verify_store(own).faults == []
    assert prep_flow(str(small_set), store=str(own), workers=1).written == 0
    assert contents(own) == contents(small)


@pytest.mark.parametrize("view", ["frames", "flow"])
def test_swapped_arrays_are_both_found(own: Path, view: View) -> None:
    one, other = entries(own)[1], entries(own)[4]
    swap(folder(own, view, 1), folder(own, view, 4))
    report = verify_store(own, repair=True)
    assert [f.where for f in report.faults] == sorted([one.id, other.id])
    assert verify_store(own).faults == []


@pytest.mark.parametrize(("view", "changed"), [("frames", "short_side"), ("flow", "warps")])
def test_parameters_of_no_stored_video_are_replaced(own: Path, view: View, changed: str) -> None:
    store = ClipStore(own, writable=True)
    right = store.attributes
    store.set_settings(view, {**right[view], changed: 64})
    del store
    report = verify_store(own, repair=True)
    assert [f.where for f in report.faults] == ["zarr.json"]
    assert ClipStore(own).attributes == right


def test_parameters_that_are_not_recorded_are_no_fault(own: Path) -> None:
    write_metadata(own / "zarr.json", group({"format": 1}))
    report = verify_store(own)
    assert (report.faults, len(report.notes)) == ([], 1)


@pytest.mark.parametrize(("view", "name"), [("frames", "settings"), ("flow", "id")])
def test_an_array_that_differs_from_its_row_is_found(own: Path, view: View, name: str) -> None:
    file = folder(own, view) / "zarr.json"
    meta = read_metadata(file)
    write_metadata(file, {**meta, "attributes": {**meta["attributes"], name: "other"}})
    assert [f.where for f in verify_store(own).faults] == [entries(own)[0].id]


def test_videos_of_other_parameters_are_removed(own: Path) -> None:
    store = ClipStore(own, writable=True)
    old = [e.id for e in store.entries()[:2]]
    for entry in store.entries()[:2]:
        store.index.put(replace(entry, settings="of before"))
        file = own / "frames" / entry.key / "zarr.json"
        meta = read_metadata(file)
        meta["attributes"]["settings"] = "of before"
        write_metadata(file, meta)
    del store
    assert ClipStore(own).outdated(entries(own)) == old
    report = verify_store(own, repair=True)
    assert [f.where for f in report.faults] == old
    assert len(entries(own)) == 4
    assert verify_store(own).faults == []


def test_a_newer_format_is_refused_and_left_alone(own: Path) -> None:
    meta = read_metadata(own / "zarr.json")
    write_metadata(own / "zarr.json", {**meta, "attributes": {**meta["attributes"], "format": 2}})
    before = (own / "zarr.json").read_bytes()
    for repair in (False, True):
        with pytest.raises(StoreError, match="format 2"):
            verify_store(own, repair=repair)
    assert (own / "zarr.json").read_bytes() == before


# --- files of others ----------------------------------------------------------------------


def test_files_of_others_are_reported_and_never_removed(own: Path) -> None:
    places = ["notes.txt", "frames/README", "index/dump.csv", "frames/my videos/a.avi"]
    for place in places:
        (own / place).parent.mkdir(exist_ok=True)
        (own / place).write_text("mine")
    told = {*places, "frames/my videos"} - {"frames/my videos/a.avi"}
    report = verify_store(own, repair=True)
    assert {f.where for f in report.faults} == told
    assert (report.repaired, report.sound) == (0, False)
    assert all((own / place).read_text() == "mine" for place in places)


# --- other processes -----------------------------------------------------------------


@pytest.fixture
def writer(own: Path) -> Any:
    """Another process that has the store open for writing, until its stdin closes."""
    code = (
        "import sys; from slic.cache import ClipStore\n"
        "store = ClipStore(sys.argv[1], writable=True); print(flush=True); sys.stdin.read()"
    )
    pipes: dict = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, str(own)], **pipes) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        yield process
        process.kill()


def test_a_store_being_written_is_checked_but_not_repaired(own: Path, writer: Any) -> None:
    (own / "index" / "writing" / aside_name("under way")).mkdir()
    shutil.copytree(folder(own, "frames"), own / "frames" / "entered-next-0123456789abcdef")
    flip(folder(own, "flow") / CHUNK, 50)
    assert [f.where for f in verify_store(own).faults] == [entries(own)[0].id]
    with pytest.raises(StoreError, match="being written"):
        verify_store(own, repair=True)
    assert folder(own, "flow").exists()
    writer.kill()
    writer.wait()
    assert len(verify_store(own, repair=True).faults) == 3
    assert verify_store(own).faults == []


def test_without_locks_recent_files_prevent_the_repair(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("slic.cache.writers.fcntl.flock", refuse)
    leftover = own / "index" / "writing" / "may be written"
    leftover.mkdir()
    with pytest.raises(StoreError, match="being written"):
        verify_store(own, repair=True)
    os.utime(leftover, (time.time() - 90_000,) * 2)
    assert verify_store(own, repair=True).repaired == 1


# --- random damage, all at once --------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_repaired_and_prepared_a_store_equals_a_new_one(
    own: Path, small: Path, small_set: Path, seed: int
) -> None:
    rng = random.Random(seed)
    damaged = 0
    for number in range(6):
        view: View = rng.choice(["frames", "flow"])
        kind = rng.choice([*IN_VIEWS, "none"])
        if kind != "none":
            IN_VIEWS[kind](folder(own, view, number))
            damaged += 1
    whole = ["row that slic did not write", "bit of the root", "no group"]
    for kind in sorted(rng.sample(whole, 2), key=whole.index):
        IN_STORE[kind](own)
    assert len(verify_store(own).faults) >= damaged
    assert verify_store(own, repair=True).sound
    assert verify_store(own).faults == []
    prep_flow(str(small_set), store=str(own), workers=1)
    assert contents(own) == contents(small)
