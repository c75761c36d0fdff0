import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from slic.cache import EmbeddingCache
from slic.eval.classify import classify
from slic.report.confusion import confusions
from slic.report.gallery import split_neighbours
from slic.runs import Run, find_run


def matrix_of(section: dict) -> np.ndarray:
    size = len(section["classes"])
    matrix = np.zeros((size, size), int)
    for true, taken, count in section["cells"]:
        assert count > 0
        matrix[true, taken] += count
    return matrix


def sections(run: Run, cache: EmbeddingCache, *, split: int = 1) -> tuple[list[dict], list[str]]:
    found = split_neighbours(cache, split=split, feature="backbone")
    return confusions(run, cache, found=found, split=split)


def test_the_nearest_neighbour_s_label(work: Path, cache_of):
    rng = np.random.default_rng(2)
    labels = [f"c{n}" for n in rng.integers(0, 5, 90)]
    rows, parts = rng.normal(size=(90, 4)), ["train", "test", "unused"] * 30
    parts[labels.index("c4")] = "unused"
    ((section,), remarks) = sections(find_run(None), cache_of(rows, labels, parts))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    true, taken = [], []
    for i in range(90):
        if parts[i] == "test":
            others = [j for j in range(90) if parts[j] == "train"]
            true.append(labels[i])
            taken.append(labels[max(others, key=lambda j: unit[i] @ unit[j])])
    assert section["key"] == "neighbour"
    np.testing.assert_array_equal(
        matrix_of(section), confusion_matrix(true, taken, labels=section["classes"])
    )
    assert remarks == []


def test_nothing_without_labels(work: Path, cache_of):
    assert sections(find_run(None), cache_of(np.eye(4))) == ([], [])


@pytest.fixture
def classified(work: Path) -> tuple[Run, EmbeddingCache, Path]:
    """A run with the result of a linear layer, and the embeddings it is of."""
    run = find_run(None)
    result = classify(run, workers=0, say=str)
    return run, EmbeddingCache(result["cache"]), Path(result["confusion"])


def test_a_classifier_s_predictions(classified):
    run, cache, file = classified
    (neighbour, linear), remarks = sections(run, cache)
    assert ([neighbour["key"], linear["key"]], remarks) == (["neighbour", "linear"], [])
    rows = json.loads(file.read_text())["predictions"].values()
    np.testing.assert_array_equal(
        matrix_of(linear),
        confusion_matrix(
            [row["label"] for row in rows],
            [row["predicted"] for row in rows],
            labels=linear["classes"],
        ),
    )
    right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    assert f"{100 * right:.1f} % of {len(rows)} test videos" in linear["note"]


def test_several_of_a_kind_have_keys_of_their_own(classified):
    run, cache, _ = classified
    classify(run, feature="projection", workers=0, say=str)
    found, _ = sections(run, cache)
    assert [section["key"] for section in found] == ["neighbour", "linear", "linear-2"]
    assert len({section["title"] for section in found}) == 3


def test_of_another_split_store_or_checkpoint(classified):
    run, cache, file = classified
    assert [s["key"] for s in sections(run, cache, split=2)[0]] == ["neighbour"]
    content = json.loads(file.read_text())
    content["cache"] = content["cache"].replace("-e0000", "-e0009")
    file.write_text(json.dumps(content))
    found, remarks = sections(run, cache)
    assert [section["key"] for section in found] == ["neighbour"]
    assert len(remarks) == 1
    assert "1 classifier" in remarks[0]
    cache.attributes["store"] = "other"
    assert sections(run, cache) == (found, [])


@pytest.mark.slow
def test_augmented_and_finetuned_too(classified):
    run, cache, _ = classified
    options = {"epochs": 1, "batch_size": 8}
    for mode in ("finetune", "linear-augmented"):
        classify(run, mode=mode, clips=1, options=options, device="cpu", workers=0, say=str)
    found, remarks = sections(run, cache)
    keys = ["neighbour", "linear", "linear-augmented", "finetune"]
    assert ([section["key"] for section in found], remarks) == (keys, [])


def test_damaged_files_are_named_and_left_out(classified):
    run, cache, file = classified
    whole = json.loads(file.read_text())
    rows = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    wrong = [{"matrix": m} for m in (None, rows[:1], [*rows[:2], 7], [*rows[:2], [7, -8, 9]])]
    wrong += [{"classes": names} for names in (None, ["a", "a", "b"])] + [{"top1": 7.0}]
    for content in ("", "{", "[]", *(json.dumps(whole | change) for change in wrong)):
        file.write_text(content)
        found, (remark,) = sections(run, cache)
        assert [section["key"] for section in found] == ["neighbour"]
        assert file.name in remark
        assert str(run.path.resolve()) not in remark
