"""Damaged clip stores: refused in one line, or read as they were written; no other file touched."""

import contextlib
import json
import os
import random
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzzing import NASTY, as_json, changed_somewhere, fuzz, mutated, outcome, soak

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.entries import COLUMNS
from slic.errors import DamagedChunk, StoreError

FRAMES, HEIGHT, WIDTH = 6, 24, 32
IDS = {"Run/a.avi": Codec("jpeg", quality=90), "Hop/b c.avi": Codec("zstd", quality=0)}


def picture(channels: int, seed: int) -> np.ndarray:
    grid = np.mgrid[:HEIGHT, :WIDTH].sum(axis=0)[..., None]
    return ((grid * (seed + 3) + 40 * np.arange(channels)) % 256).astype(np.uint8)


def make(folder: Path) -> None:
    """Write `pristine.zarr`: a store of two videos with flow."""
    store = ClipStore.create(folder / "pristine.zarr")
    store.set_settings("frames", {"quality": 90})
    for video, codec in IDS.items():
        for view, channels, attributes in (
            ("frames", 3, {"source": "d"}),
            ("flow", 2, {"bound": 3.0, "fingerprint": "f"}),
        ):
            with store.write(video, view=view, codec=codec) as writer:  # type: ignore[arg-type]
                for number in range(FRAMES - (view == "flow")):
                    writer.append(picture(channels, number))
                writer.close(attributes)  # type: ignore[arg-type]
                store.publish(writer, video, view=view)  # type: ignore[arg-type]
        store.index.put(
            Entry(
                *(video, video_key(video), video, "Run", None, "train", None, None),
                *(FRAMES, HEIGHT, WIDTH, 25.0, "s", 1, 2, "d", None, None, "f"),
            )
        )
    store.index.close()


def read_all(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """Read everything; refusals of single videos leave these out."""
    store, found = ClipStore(path), {}
    try:
        store.entries(), store.failures(), store.digest(flow=True), store.settings("frames")
        for video in store.ids:
            for view in ("frames", "flow"):

                def read(video: str = video, view: Any = view) -> None:
                    found[video, view] = store.read(video, 0, FRAMES, view=view)
                    if view == "flow":
                        assert store.flow_bound(video) > 0

                outcome(read)
    finally:
        store.index.close()
    return found


def own(folder: Path) -> Path:
    """Copy the pristine store, for a test to change."""
    path = folder / "own.zarr"
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(folder / "pristine.zarr", path))


def case(folder: Path, rng: random.Random) -> str:
    """Damage one file, change one value of its metadata, or one of the index."""
    path, kind = own(folder), rng.choice(["bytes", "bytes", "json", "row"])
    if kind == "row":
        change_row(path, rng)
    else:
        name = "zarr.json" if kind == "json" else rng.choice(["zarr.json", "c.*", "index.sqlite"])
        file = rng.choice(sorted(found for found in path.rglob(name) if found.is_file()))
        data = file.read_bytes()
        document = as_json(changed_somewhere(json.loads(data), rng)) if kind == "json" else b""
        file.write_bytes(document or mutated(data, rng))

    def read() -> None:
        right, found = read_all(folder / "pristine.zarr"), read_all(path)
        wrong = [k for k in found if k in right and not np.array_equal(found[k], right[k])]
        assert not wrong, f"{wrong} read as something else"

    return outcome(read)


def change_row(path: Path, rng: random.Random) -> None:
    nasty = [value for value in NASTY if not isinstance(value, (list, dict))] + [b"\xff\0", 1e300]
    nasty = [value for value in nasty if not isinstance(value, int) or abs(value) < 2**63]
    column, which = rng.choice(COLUMNS), rng.choice(list(IDS))
    with contextlib.suppress(sqlite3.IntegrityError):
        sql(path, f'UPDATE videos SET "{column}" = ? WHERE id = ?', rng.choice(nasty), which)


def sql(path: Path, line: str, *arguments: Any) -> None:
    connection = sqlite3.connect(path / "index" / "index.sqlite")
    with connection:
        connection.execute(line, arguments)
    connection.close()


test_mutated_files = fuzz(make, case, examples=100)


def soak_fuzz_store(seed: int, minutes: float) -> dict[str, Any]:
    """Damage stores until the time is over."""
    return soak(make, case, seed=seed, minutes=minutes)


# --- a store from somebody else --------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(tmp_path)
    return own(tmp_path)


def refusal(path: Path) -> str:
    """Read a store, which must be refused; return the message."""

    def read() -> None:
        store = ClipStore(path)
        store.entries()
        for video in store.ids:
            store.read(video, 0, 2)

    with pytest.raises((StoreError, DamagedChunk)) as caught:
        read()
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("key", ["../../secret", "/etc", ".", "", video_key("Hop/b c.avi")])
def test_a_key_does_not_lead_out_of_the_store(path: Path, key: str) -> None:
    shutil.copytree(path / "frames" / video_key("Run/a.avi"), path.parent / "secret")
    sql(path, "UPDATE videos SET key = ? WHERE id = 'Run/a.avi'", key)
    assert "another key" in refusal(path)


@pytest.mark.parametrize(
    "line",
    [
        "CREATE TRIGGER t AFTER INSERT ON videos BEGIN DELETE FROM videos; END",
        "ALTER TABLE videos RENAME TO cats",
        "UPDATE videos SET label = 'a' || char(10) || 'b'",
        "UPDATE videos SET frames = 9223372036854775807",
    ],
)
def test_an_index_of_another_kind_is_refused(path: Path, line: str) -> None:
    sql(path, line)
    assert "index" in refusal(path)


def test_a_journal_deletes_no_other_file(path: Path, tmp_path: Path) -> None:
    """SQLite deletes the super-journal that a journal names once it has rolled back."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    index = path / "index" / "index.sqlite"
    if (child := os.fork()) == 0:
        connection = sqlite3.connect(index)
        connection.execute("PRAGMA cache_size = 1")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE big (x)")
        connection.executemany("INSERT INTO big VALUES (?)", [("x" * 100,)] * 2000)
        os._exit(0)
    os.waitpid(child, 0)
    journal = index.with_name("index.sqlite-journal")
    assert journal.stat().st_size > 512
    name = str(victim).encode()
    tail = struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    with journal.open("ab") as file:
        file.write(struct.pack(">I", 0x40000000 // 4096 + 1) + name + tail)
    assert "another file" in refusal(path)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["zarr.json", "c.0.0.0.0"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_pipes_and_devices_are_not_read(path: Path, name: str, kind: str) -> None:
    file = path / "frames" / video_key("Run/a.avi") / name
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    refusal(path)
