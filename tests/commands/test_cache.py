"""`slic cache` as typed: what it prints, removes, and exits with."""

import json
import shutil
from pathlib import Path

import h5py
import pytest

from slic.cache import ClipStore
from slic.embed.cached import cached_embeddings
from slic.embed.embedding import Protocol
from slic.runs import find_run


@pytest.fixture
def cached(work: Path) -> Path:
    """The trained run's folder, with an evaluation's cache of the drawn store."""
    protocol = Protocol(1, 4, 1, 16)
    how = {"protocol": protocol, "split": 1, "device": "cpu", "workers": 0, "say": str}
    cached_embeddings(find_run(None), store=None, **how)  # type: ignore[arg-type]
    return find_run(None).path


def own_store(work: Path) -> Path:
    """A copy in place of the link to the drawn store."""
    path = work / "ucf101.zarr"
    target = path.resolve()
    path.unlink()
    return Path(shutil.copytree(target, path))


def test_verify_finds_repairs_and_prep_fills_in(work: Path, slic, drawn: Path) -> None:
    store = own_store(work)
    entry = ClipStore(store).entries()[5]
    shard = store / "flow" / entry.key / "c.0.0.0.0"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    code, out, err = slic("cache", "verify", "ucf101.zarr", "--json")
    result = json.loads(out)
    assert code == 1
    assert [fault["where"] for fault in result["faults"]] == [entry.id]
    assert set(result["faults"][0]) == {"what", "where", "repair"}
    assert entry.id in err
    assert slic("cache", "verify", "ucf101.zarr")[0] == 1
    code, out, _ = slic("cache", "verify", "ucf101.zarr", "--repair", "--json")
    assert (code, json.loads(out)["repaired"]) == (0, 1)
    assert slic("cache", "verify", "ucf101.zarr")[0] == 0
    code, out, _ = slic("prep", "flow", "ucf101.zarr", "--bound", "3", "--json")
    assert (code, json.loads(out)["written"]) == (0, 1)
    assert shard.read_bytes() == whole


def test_verify_a_run_by_name_and_path(cached: Path, slic) -> None:
    for name in (cached.name, str(cached)):
        code, out, _ = slic("cache", "verify", name, "--json")
        result = json.loads(out)
        assert (code, result["kind"], result["faults"], result["notes"]) == (0, "run", [], [])
    (cached / "config.toml").write_text("")
    assert slic("cache", "verify", cached.name, "--repair")[0] == 1


@pytest.mark.parametrize("name", ["nothing", "notes", "notes/a.txt"])
def test_verify_refuses_what_is_neither(work: Path, slic, name: str) -> None:
    (work / "notes").mkdir()
    (work / "notes" / "a.txt").write_text("mine")
    code, out, err = slic("cache", "verify", name, "--repair")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert name in err
    assert (work / "notes" / "a.txt").read_text() == "mine"


def test_list_tells_what_is_current(cached: Path, work: Path, slic) -> None:
    result = json.loads(slic("cache", "list", "--json")[1])
    assert [store["videos"] for store in result["stores"]] == [24]
    assert [run["path"] for run in result["runs"]] == [str(cached)]
    caches = {cache["training"]: cache for cache in result["caches"]}
    assert {c["state"] for c in caches.values()} == {"current"}
    assert (caches[True]["videos"], caches[False]["videos"]) == (18, 24)
    assert caches[False]["bytes"] == Path(caches[False]["path"]).stat().st_size
    assert result["bytes"] == sum(c["bytes"] for c in caches.values())
    assert result["outdated_bytes"] == 0
    out = slic("cache", "list")[1]
    assert caches[False]["checkpoint"] in out


def test_an_empty_folder_lists_nothing(tmp_path: Path, slic) -> None:
    result = json.loads(slic("cache", "list", str(tmp_path), "--json")[1])
    assert (result["stores"], result["runs"], result["caches"]) == ([], [], [])
    assert slic("cache", "list", str(tmp_path / "none"))[0] == 2


def test_clean_shows_and_then_removes_what_is_outdated(cached: Path, work: Path, slic) -> None:
    store = ClipStore(own_store(work), writable=True)
    store.index._write_rows("DELETE FROM videos WHERE id = ?", [(store.ids[0],)])
    del store
    leftover = cached / "checkpoints" / ".latest.01234567"
    leftover.write_text("half")
    old = next(p for p in (cached / "embeddings").iterdir() if "-train" not in p.name)
    before = sorted(work.rglob("*"))
    code, out, _ = slic("cache", "clean", "--json")
    result = json.loads(out)
    assert (code, result["removed"]) == (0, 0)
    assert {Path(file["path"]).name for file in result["files"]} == {leftover.name, old.name}
    assert sorted(p for p in work.rglob("*") if p.name != "lock") == [
        p for p in before if p.name != "lock"
    ]
    assert slic("cache", "clean")[0] == 0
    assert old.exists()
    code, out, _ = slic("cache", "clean", str(cached), "--yes", "--json")
    assert (code, json.loads(out)["removed"]) == (0, 2)
    gone = {p for p in before if not p.exists()}
    assert {p.name for p in gone} == {leftover.name, old.name}
    assert json.loads(slic("cache", "clean", "--json")[1])["files"] == []


def test_a_cache_of_an_earlier_format_is_outdated(cached: Path, slic) -> None:
    old = next(p for p in (cached / "embeddings").iterdir() if "-train" not in p.name)
    with h5py.File(old, "r+") as content:
        content.attrs["format"] = 1
    caches = json.loads(slic("cache", "list", "--json")[1])["caches"]
    assert {c["path"]: c["state"] for c in caches}[str(old)] == "old format"
    files = json.loads(slic("cache", "clean", "--json")[1])["files"]
    assert [file["path"] for file in files] == [str(old)]


def test_a_cache_whose_store_is_gone_stays(cached: Path, work: Path, slic) -> None:
    (work / "ucf101.zarr").unlink()
    states = {c["state"] for c in json.loads(slic("cache", "list", "--json")[1])["caches"]}
    assert states == {"current", "store not here"}
    assert json.loads(slic("cache", "clean", "--yes", "--json")[1])["removed"] == 0
