import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from slic.embed.cached import Parts
from slic.errors import LabelsMissing, StoreError
from slic.eval.retrieve import recall_of, retrieve
from slic.runs import find_run


def recall_by_numpy(path: str, feature: str, ks: list[int]) -> dict[str, float]:
    """Recall from the file alone: full cosine matrix, full sort."""
    with h5py.File(path) as file:
        rows = file[feature][:].astype(np.float64)
        labels, split = file["label"].asstr()[:], file["split"].asstr()[:]
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries, gallery = split == "test", split == "train"
    order = np.argsort(-rows[queries] @ rows[gallery].T, axis=1, kind="stable")
    hits = labels[gallery][order] == labels[queries][:, None]
    return {str(k): float(hits[:, :k].any(axis=1).mean()) for k in ks}


@pytest.mark.parametrize("feature", ["backbone", "projection"])
def test_recall_is_that_of_the_cached_embeddings(work: Path, feature: str) -> None:
    result = retrieve(find_run(None), ks=[1, 2, 5, 100], feature=feature, workers=0, say=str)
    assert result["recall"] == pytest.approx(
        recall_by_numpy(result["cache"], feature, [1, 2, 5, 100])
    )
    assert (result["queries"], result["gallery"], result["feature"]) == (6, 18, feature)
    # One of 3 classes is always among all 18 videos.
    assert result["recall"]["100"] == 1.0


def test_recall_worked_out_by_hand() -> None:
    test = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    # Cosines to the first query: 0.9.., 0.7.., 0; to the second: 0.3.., 0.7.., 1.
    train = np.array([[3.0, 1.0], [1.0, 1.0], [0.0, 5.0]], dtype=np.float32)
    parts = Parts(test, np.array(["a", "b"]), train, np.array(["b", "a", "c"]))
    recall, per_class = recall_of(parts, [1, 2, 3])
    assert recall == {"1": 0.0, "2": 0.5, "3": 1.0}
    assert per_class == {"a": 0.0, "b": 0.0}


def test_answers_from_the_cache_without_the_store(work: Path) -> None:
    before = retrieve(find_run(None), workers=0, say=str)
    os.unlink("ucf101.zarr")
    said: list[str] = []
    after = retrieve(find_run(None), workers=0, say=said.append)
    assert after["recall"] == before["recall"]
    assert len(said) == 1
    assert "is missing" in said[0]


def test_a_cache_is_not_computed_twice(work: Path) -> None:
    first = retrieve(find_run(None), workers=0, say=str)
    stamp = os.stat(first["cache"]).st_mtime_ns
    again = retrieve(find_run(None), workers=0, say=str)
    assert (again["cache"], os.stat(first["cache"]).st_mtime_ns) == (first["cache"], stamp)
    other = retrieve(find_run(None), clips=1, workers=0, say=str)
    assert other["cache"] != first["cache"]


def test_no_store_and_no_cache(work: Path) -> None:
    os.unlink("ucf101.zarr")
    with pytest.raises(StoreError, match=r"ucf101\.zarr: no such store"):
        retrieve(find_run(None), workers=0, say=str)
    with pytest.raises(StoreError, match=r"other\.zarr"):
        retrieve(find_run(None), store="other.zarr", workers=0, say=str)


def test_transfer_to_another_store(work: Path, drawn: Path) -> None:
    from slic.prep.frames import prep_frames

    prep_frames(str(drawn), store="other.zarr", limit=12, workers=1)
    run = find_run(None)
    own = retrieve(run, workers=0, say=str)
    other = retrieve(run, store="other.zarr", workers=0, say=str)
    assert other["store"] == "other.zarr"
    assert other["queries"] + other["gallery"] == 12
    assert other["cache"] != own["cache"]
    assert other["recall"] == pytest.approx(recall_by_numpy(other["cache"], "backbone", [1, 5, 10]))


def test_labels_missing(work: Path, drawn: Path) -> None:
    from slic.prep.frames import prep_frames

    prep_frames(str(drawn), store="flat.zarr", layout="flat", limit=4, workers=1)
    with pytest.raises(LabelsMissing, match=r"flat\.zarr"):
        retrieve(find_run(None), store="flat.zarr", workers=0, say=str)


def test_all_splits_are_means_and_sums(work: Path) -> None:
    each = [retrieve(find_run(None), split=n, workers=0, say=str) for n in (1, 2, 3)]
    said: list[str] = []
    result = retrieve(find_run(None), split="all", workers=0, say=said.append)
    assert result["split"] == "all"
    for k in ("1", "5", "10"):
        mean = np.mean([one["recall"][k] for one in each])
        assert result["recall"][k] == pytest.approx(mean)
    assert result["queries"] == sum(one["queries"] for one in each)
    assert {n: of["recall"] for n, of in result["splits"].items()} == {
        n: one["recall"] for n, one in zip((1, 2, 3), each, strict=True)
    }
    # Of splits 2 and 3 the run has trained on test videos, and that is said.
    assert [line.split(":")[0] for line in said if "pretrained" in line] == ["split 2", "split 3"]
    assert result["pretrained_on"] == 1


def test_a_split_is_refused_before_anything_is_embedded(work: Path) -> None:
    run = find_run(None)
    before = sorted(run.embeddings.iterdir())
    with pytest.raises(StoreError, match="no split 7"):
        retrieve(run, split=7, workers=0, say=str)
    assert sorted(run.embeddings.iterdir()) == before
