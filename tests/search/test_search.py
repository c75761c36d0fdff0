"""Videos like this one."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from slic.cache import ClipStore
from slic.errors import InputError
from slic.runs import find_run
from slic.search import search

HERE = {"device": "cpu", "workers": 0, "say": str}


@pytest.fixture
def run(work: Path):
    return find_run(None)


def brute_force(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Cosine similarity to every row, in float64, one row at a time."""
    a = query.astype(np.float64)
    return np.array([a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in rows.astype(float)])


def part_of(video: Path, target: Path, *, begin: int, count: int) -> Path:
    """Some frames of a video as a file of its own."""
    source = cv2.VideoCapture(str(video))
    frames = [frame for ok, frame in iter(source.read, (False, None)) if ok]
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"MJPG"), 25, (width, height))
    for frame in frames[begin : begin + count]:
        writer.write(frame)
    writer.release()
    return target


@pytest.mark.parametrize("feature", ["backbone", "projection"])
def test_a_video_of_the_store_finds_the_others_as_brute_force_does(run, feature):
    stored = ClipStore(run.store).entries()
    query = stored[5].id
    found = search(run, [query], k=7, feature=feature, **HERE)
    from slic.cache import EmbeddingCache

    cache = EmbeddingCache(found["cache"])
    rows = getattr(cache, feature)
    similar = brute_force(rows, rows[5])
    similar[5] = -2
    best = np.argsort(-similar)[:7]
    results = found["results"]
    assert [row["rank"] for row in results] == list(range(1, 8))
    np.testing.assert_allclose([r["similarity"] for r in results], similar[best], atol=1e-6)
    assert {row["id"] for row in results} == {stored[i].id for i in best}
    by_id = {entry.id: entry for entry in stored}
    assert all(row["label"] == by_id[row["id"]].label for row in results)
    assert all(row["path"] == by_id[row["id"]].path for row in results)


def test_a_clip_cut_from_a_stored_video_finds_that_video_first(run, drawn, tmp_path):
    for number, entry in enumerate(ClipStore(run.store).entries()[::5]):
        clip = part_of(drawn / entry.path, tmp_path / f"cut{number}.avi", begin=1, count=17)
        found = search(run, [str(clip)], k=1, clips=10, **HERE)
        assert found["results"][0]["id"] == entry.id


def test_several_queries_and_one_that_cannot_be_read(run, drawn, tmp_path, slic):
    entries = ClipStore(run.store).entries()
    broken = tmp_path / "broken [bold].mp4"
    broken.write_bytes(b"no video" * 100)
    words = [str(drawn / entries[0].path), str(broken), entries[9].id]
    code, out, err = slic("search", *words, "--k", "2", "--json", "--workers", "0")
    result = json.loads(out)
    assert code == 1
    assert [row["query"] for row in result["results"]] == [words[0]] * 2 + [words[2]] * 2
    assert [failure["query"] for failure in result["failures"]] == [str(broken)]
    assert str(broken) in err


def test_what_is_neither_file_nor_id_is_refused(run, slic):
    code, out, err = slic("search", "nowhere.mp4", "--json")
    assert (code, out) == (2, "")
    assert "nowhere.mp4" in err
    with pytest.raises(InputError, match="--k 0"):
        search(run, [ClipStore(run.store).ids[0]], k=0, **HERE)


def test_an_id_that_may_be_meant_is_named(run, slic):
    wanted = ClipStore(run.store).ids[3]
    for typed in (wanted.rsplit("/", 1)[-1], wanted.replace("v_", "w_")):
        code, _, err = slic("search", typed)
        assert code == 2
        assert wanted in err
    assert "did you mean" not in slic("search", "%%%%")[2]


def test_a_store_whose_name_cannot_stand_in_a_cache(run, tmp_path, slic):
    place = tmp_path / os.fsdecode(b"m\xff.zarr")
    place.symlink_to(run.store.resolve())
    code, out, err = slic("search", ClipStore(run.store).ids[0], "--store", str(place))
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_queries_are_looked_at_before_a_store_is_embedded(run, tmp_path, monkeypatch, slic):
    from slic.embed import cached

    monkeypatch.setattr(cached, "embed", None)
    for file in run.embeddings.iterdir():
        file.unlink()
    code, _, err = slic("search", "typo.mp4")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    code, _, err = slic("search", str(tmp_path / "broken.mp4"))
    assert code == 1
    assert "broken.mp4" in err


def test_a_store_that_is_gone_is_searched_from_its_cache(run, drawn, work):
    entries = ClipStore(run.store).entries()
    before = search(run, [entries[0].id], k=3, **HERE)
    (work / "ucf101.zarr").unlink()
    after = search(run, [entries[0].id], k=3, **HERE)
    assert [r["id"] for r in after["results"]] == [r["id"] for r in before["results"]]
    by_file = search(run, [str(drawn / entries[0].path)], k=1, **HERE)
    assert by_file["results"][0]["id"] == entries[0].id
