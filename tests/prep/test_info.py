"""`prep info` of a store whose index is written by hand."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from slic.cache import ClipStore, Entry
from slic.cache.entries import fingerprint
from slic.prep.info import store_info


@pytest.fixture
def path(tmp_path: Path) -> Path:
    store = ClipStore.create(tmp_path / "s.zarr")
    current = fingerprint({"short_side": 128})
    run = Entry("a", "a", "a", "Run", None, "train", "test", None, frames=10, settings=current)
    store.set_settings("frames", {"short_side": 128})
    for entry in (
        replace(run, flow="f"),
        replace(run, id="b", split1="test", frames=7, remark="decoding stopped after 7 frames"),
        replace(run, id="c", label="Hop", split2=None, frames=1, flow="f", settings="x"),
        replace(run, id="d", label=None, split1="unused", split2=None, frames=2),
        replace(run, id="e", label="Fly", frames=None, reason="no frame decodes"),
    ):
        store.index.put(entry)
    store.index.close()
    return tmp_path / "s.zarr"


def test_counts(path: Path) -> None:
    info = store_info(str(path))
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    assert info == {
        "store": str(path),
        "videos": 4,
        "frames": 20,
        "flow": 2,
        "labels": 2,
        "splits": {"1": {"test": 1, "train": 2, "unused": 1}, "2": {"test": 2}},
        "failed": [{"id": "e", "reason": "no frame decodes"}],
        "damaged": [{"id": "b", "reason": "decoding stopped after 7 frames"}],
        "outdated": ["c"],
        "bytes": size,
        "settings": {"frames": {"short_side": 128}, "flow": None},
    }
    assert json.loads(json.dumps(info)) == info


def test_preparing_again_lists_what_is_only_partly_stored(
    slic, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["prep", "frames", str(drawn), "--store", "s.zarr", "--limit", "3", "--json"]
    assert json.loads(slic(*words)[1])["damaged"] == []
    store = ClipStore("s.zarr", writable=True)
    entry = store.entries()[1]
    store.index.put(replace(entry, remark="decoding stopped after 7 frames"))
    code, out, err = slic(*words)
    reason = {"id": entry.id, "reason": "decoding stopped after 7 frames"}
    assert (code, json.loads(out)["damaged"]) == (0, [reason])
    assert f"damaged: {entry.id}: decoding stopped after 7 frames" in err
