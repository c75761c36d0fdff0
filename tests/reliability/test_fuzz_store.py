"""Clip stores as strangers or failing disks make them: refused by a line, or read as written."""

import json
import os
import random
import shutil
import sqlite3
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from fuzzing import NASTY, as_json, changed_somewhere, fuzz, mutated, outcome, soak

from slic.cache import ClipStore, Codec, Entry, video_key
from slic.cache.codec import decode_flow, decode_frame, encode_flow, encode_frame
from slic.cache.index import COLUMNS
from slic.cache.metadata import sealed
from slic.errors import DamagedChunk, StoreError

FRAMES, HEIGHT, WIDTH = 6, 24, 32
IDS = {"Run/a.avi": Codec("jpeg", quality=90), "Hop/b c.avi": Codec("zstd", quality=0)}


def picture(channels: int, seed: int) -> np.ndarray:
    grid = np.mgrid[:HEIGHT, :WIDTH].sum(axis=0)[..., None]
    return ((grid * (seed + 3) + 40 * np.arange(channels)) % 256).astype(np.uint8)


def make(folder: Path) -> None:
    """`pristine`: a store of two videos with flow."""
    store = ClipStore.create(folder / "pristine.zarr")
    store.set_settings("frames", {"quality": 90})
    for video, codec in IDS.items():
        with store.write(video, view="frames", codec=codec) as writer:
            for number in range(FRAMES):
                writer.append(picture(3, number))
            writer.close({"source": "d"})
            store.publish(writer, video, view="frames")
        with store.write(video, view="flow", codec=codec) as writer:
            for number in range(FRAMES - 1):
                writer.append(picture(2, number))
            writer.close({"bound": 3.0, "fingerprint": "f"})
            store.publish(writer, video, view="flow")
        store.index.put(
            Entry(
                *(video, video_key(video), video, "Run", None, "train", None, None),
                *(FRAMES, HEIGHT, WIDTH, 25.0, "s", 1, 2, "d", None, None, "f"),
            )
        )
    store.index.close()


def read_all(path: Path) -> dict[tuple[str, str], np.ndarray]:
    """All that a store's reader gives; refusals of single videos leave these out."""
    store = ClipStore(path)
    found = {}
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


def unlike(path: Path, folder: Path) -> list[tuple[str, str]]:
    """Which clips read from a store differ from the pristine one's."""
    right = read_all(folder / "pristine.zarr")
    found = read_all(path)
    return [key for key in found if key in right and not np.array_equal(found[key], right[key])]


def own(folder: Path) -> Path:
    path = folder / "own.zarr"
    shutil.rmtree(path, ignore_errors=True)
    return Path(shutil.copytree(folder / "pristine.zarr", path))


def files(path: Path, name: str) -> list[Path]:
    return sorted(found for found in path.rglob(name) if found.is_file())


def bytes_case(folder: Path, rng: random.Random) -> str:
    path = own(folder)
    file = rng.choice(files(path, rng.choice(["zarr.json", "c.*", "index.sqlite"])))
    file.write_bytes(mutated(file.read_bytes(), rng))

    def read() -> None:
        differing = unlike(path, folder)
        assert not differing, f"{file.name} mutated: {differing} read as something else"

    return outcome(read)


def json_case(folder: Path, rng: random.Random) -> str:
    path = own(folder)
    file = rng.choice(files(path, "zarr.json"))
    document = changed_somewhere(json.loads(file.read_bytes()), rng)
    if rng.random() < 0.6 and isinstance(document, dict):
        attributes = document.get("attributes")
        if isinstance(attributes, dict):  # a stranger can seal it, too
            document = sealed(document)
    file.write_bytes(as_json(document))
    return outcome(lambda: read_all(path))


def row_case(folder: Path, rng: random.Random) -> str:
    path = own(folder)
    nasty = [*(v for v in NASTY if not isinstance(v, (list, dict))), b"\xff\0", 2**62, 1e300]
    nasty = [v for v in nasty if not isinstance(v, int) or abs(v) < 2**63]
    connection = sqlite3.connect(path / "index" / "index.sqlite")
    connection.execute("PRAGMA synchronous = OFF")
    with connection:
        for _ in range(rng.choice([1, 1, 2])):
            column, value = rng.choice(COLUMNS), rng.choice(nasty)
            which = rng.choice(list(IDS))
            try:
                sql = f'UPDATE videos SET "{column}" = ? WHERE id = ?'
                connection.execute(sql, (value, which))
            except sqlite3.IntegrityError:
                pass
    connection.close()
    return outcome(lambda: read_all(path))


def codec_case(_: Path, rng: random.Random) -> str:
    """A frame's bytes, as plain Zarr hands them to the codec."""
    if rng.random() < 0.5:
        data, out = encode_frame(picture(3, 1), quality=90), np.empty((HEIGHT, WIDTH, 3), np.uint8)
        decode = decode_frame
    else:
        data, out = encode_flow(picture(2, 1), quality=95), np.empty((HEIGHT, WIDTH, 2), np.uint8)
        decode = decode_flow
    for _ in range(rng.choice([1, 1, 4])):
        data = mutated(data, rng)
    try:
        decode(data, out)
    except (DamagedChunk, ValueError):
        return "refused"
    return "accepted"


CASES = {"bytes": bytes_case, "json": json_case, "row": row_case, "codec": codec_case}
test_mutated_files = fuzz(make, bytes_case, examples=80)
test_mutated_metadata = fuzz(make, json_case, examples=60)
test_mutated_rows = fuzz(make, row_case, examples=60)
test_mutated_pictures = fuzz(make, codec_case, examples=300)


def soak_fuzz_store(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes, an equal share each."""
    share = minutes / len(CASES)
    return {name: soak(make, case, seed=seed, minutes=share) for name, case in CASES.items()}


# --- what was found, and what a stranger may try ---------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make(tmp_path)
    return own(tmp_path)


def sql(path: Path, *lines: str, arguments: tuple = ()) -> None:
    connection = sqlite3.connect(path / "index" / "index.sqlite")
    with connection:
        for line in lines:
            connection.execute(line, arguments)
    connection.close()


def read_first(path: Path) -> None:
    store = ClipStore(path)
    store.entries()
    for video in store.ids:
        store.read(video, 0, 2)


def refusal(path: Path) -> str:
    with pytest.raises((StoreError, DamagedChunk)) as caught:
        read_first(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("key", ["../../secret", "/etc", ".", "", video_key("Hop/b c.avi")])
def test_a_key_does_not_lead_out_of_the_store(path: Path, key: str) -> None:
    shutil.copytree(path / "frames" / video_key("Run/a.avi"), path.parent / "secret")
    sql(path, "UPDATE videos SET key = ? WHERE id = 'Run/a.avi'", arguments=(key,))
    assert "another key" in refusal(path)


@pytest.mark.parametrize(
    "lines",
    [
        [
            "ALTER TABLE videos RENAME TO other",
            "CREATE VIEW videos AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
            " SELECT o.* FROM n, other o",
        ],
        ["CREATE TRIGGER t AFTER INSERT ON videos BEGIN DELETE FROM videos; END"],
        ["CREATE VIRTUAL TABLE more USING fts5(x)"],
        ["DROP TABLE videos", "CREATE VIRTUAL TABLE videos USING fts5(id, key, path)"],
        ["ALTER TABLE videos ADD COLUMN bomb AS (zeroblob(1000000000))"],
        ["DROP TABLE videos", "CREATE TABLE videos (id TEXT, key TEXT)"],
        ["DROP TABLE videos", "CREATE TABLE cats (name TEXT)"],
        ["UPDATE videos SET label = zeroblob(2000000)"],
        ["UPDATE videos SET label = 'a' || char(10) || 'b'"],
        ["UPDATE videos SET frames = 9223372036854775807"],
    ],
)
def test_an_index_that_is_more_than_a_table(path: Path, lines: list[str]) -> None:
    sql(path, *lines)
    assert "index cannot be read" in refusal(path)
    if lines[0].startswith("UPDATE"):
        return
    with pytest.raises(StoreError):
        ClipStore(path, writable=True).index.put(Entry("x", "x", "x", *[None] * 5))


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


def retold(path: Path, shape: list[int], *, frames: int) -> Path:
    """A store whose metadata and index agree on another shape of a video."""
    file = path / "frames" / video_key("Run/a.avi") / "zarr.json"
    document = json.loads(file.read_bytes())
    document["shape"] = shape
    file.write_text(json.dumps(sealed(document)))
    values = (frames, shape[1], shape[2])
    where = "UPDATE videos SET frames = ?, height = ?, width = ? WHERE id = 'Run/a.avi'"
    sql(path, where, arguments=values)
    return path


@pytest.mark.parametrize(
    "shape", [[6, 65_535, 65_535, 3], [6, 10**6, 10**6, 3], [6, 2**62, 1, 3], [6, 1, 1, 3]]
)
def test_sizes_that_metadata_and_index_agree_on(path: Path, shape: list[int]) -> None:
    refusal(retold(path, shape, frames=6))


def with_chunk(path: Path, video: str, chunk: bytes) -> Path:
    """A store whose first frame of a video is these bytes, with right checksums."""
    folder = path / "frames" / video_key(video)
    data = chunk + struct.pack("<I", google_crc32c.value(chunk))
    index = np.array([[0, len(data)]] * FRAMES, dtype="<u8").tobytes()
    end = struct.pack("<I", google_crc32c.value(index))
    (folder / "c.0.0.0.0").write_bytes(data + index + end)
    return path


def test_pictures_of_another_size_and_bombs(path: Path) -> None:
    from numcodecs.zstd import Zstd

    for side in (100, 4000):
        big = encode_frame(np.zeros((side, side, 3), np.uint8), quality=90)
        said = refusal(with_chunk(path, "Run/a.avi", big))
        assert "100x100" in said or "out of place" in said
    shutil.rmtree(path / "frames" / video_key("Run/a.avi"))
    sql(path, "DELETE FROM videos WHERE id = 'Run/a.avi'")
    whole = HEIGHT * WIDTH * 3
    for size in (whole - 1, whole + 1, 10, 50_000_000):
        chunk = bytes(Zstd().encode(np.zeros(size, np.uint8)))
        assert "another size" in refusal(with_chunk(path, "Hop/b c.avi", chunk))
    unsaid = bytes.fromhex("28b52ffd0058") + bytes.fromhex("020010 00") * 400
    assert "another size" in refusal(with_chunk(path, "Hop/b c.avi", unsaid))


@pytest.mark.parametrize("span", [(2**63, 8), (0, 2**63), (2**64 - 8, 16), (8, 2**62), (0, 0)])
def test_spans_outside_the_shard(path: Path, span: tuple[int, int]) -> None:
    shard = path / "frames" / video_key("Run/a.avi") / "c.0.0.0.0"
    index = np.array([span] * FRAMES, dtype="<u8").tobytes()
    body = shard.read_bytes()[: -len(index) - 4]
    shard.write_bytes(body + index + struct.pack("<I", google_crc32c.value(index)))
    refusal(path)


@pytest.mark.parametrize("name", ["zarr.json", "c.0.0.0.0"])
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_what_is_no_file_is_not_waited_for(path: Path, name: str, kind: str) -> None:
    file = path / "frames" / video_key("Run/a.avi") / name
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    refusal(path)


def test_plain_zarr_meets_errors_and_no_crash(path: Path) -> None:
    shard = path / "frames" / video_key("Run/a.avi") / "c.0.0.0.0"
    whole, rng = shard.read_bytes(), random.Random(0)
    right = zarr.open_group(path, mode="r")["frames"][video_key("Run/a.avi")][:]
    seen = 0
    for _ in range(60):
        shard.write_bytes(mutated(whole, rng))
        try:
            found = zarr.open_group(path, mode="r")["frames"][video_key("Run/a.avi")][:]
        except Exception:
            seen += 1
        else:
            assert np.array_equal(found, right)
    assert seen > 20


def test_a_schema_of_which_sqlite_cannot_even_complain(tmp_path: Path) -> None:
    make(tmp_path)
    assert bytes_case(tmp_path, random.Random(110_000_925)) == "refused"
