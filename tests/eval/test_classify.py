import json
from pathlib import Path

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.embed.cached import Parts
from slic.errors import InputError, LabelsMissing, WorkError
from slic.eval.classify import classify
from slic.eval.linear import probe
from slic.eval.outcome import Outcome, measure
from slic.runs import find_run


def blobs(seed: int, *, classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = np.array([f"c{i}" for i in range(classes)]).repeat(each)
    rows = np.eye(classes)[np.arange(classes).repeat(each)] * 8
    return (rows + rng.normal(size=rows.shape)).astype(np.float32), names


def probed(parts: Parts) -> Outcome:
    classes, probabilities = probe(parts)
    return measure(probabilities, classes, parts.test_labels)


def test_separable_classes_are_told_apart() -> None:
    train, train_labels = blobs(0, classes=6, each=20)
    test, test_labels = blobs(1, classes=6, each=10)
    found = probed(Parts(test, test_labels, train, train_labels))
    assert (found.top1, found.top5) == (1.0, 1.0)
    assert np.array_equal(found.matrix, np.eye(6) * 10)


def test_one_class_is_not_enough() -> None:
    train, train_labels = blobs(0, classes=1, each=5)
    with pytest.raises(LabelsMissing, match="two classes"):
        probe(Parts(train, train_labels, train, train_labels))


def test_measures_worked_out_by_hand() -> None:
    scores = np.array(
        [
            [0.5, 0.2, 0.1, 0.1, 0.06, 0.04],  # b: right
            [0.3, 0.4, 0.1, 0.1, 0.06, 0.04],  # b: taken for d
            [0.1, 0.2, 0.3, 0.2, 0.15, 0.05],  # z: last of six, not among five
            [0.9, 0.02, 0.02, 0.02, 0.02, 0.02],  # a: never trained on
        ]
    )
    labels = np.array(["b", "b", "z", "a"])
    found = measure(scores, ["b", "d", "f", "h", "j", "z"], labels)
    assert (found.top1, found.top5) == (0.25, 0.5)
    assert found.per_class == {"a": 0.0, "b": 0.5, "z": 0.0}
    assert found.classes == ["a", "b", "d", "f", "h", "j", "z"]
    assert found.predicted.tolist() == ["b", "d", "f", "b"]
    rows = {name: row.tolist() for name, row in zip(found.classes, found.matrix, strict=True)}
    assert rows["b"] == [0, 1, 1, 0, 0, 0, 0]
    assert rows["z"] == [0, 0, 0, 1, 0, 0, 0]
    assert rows["a"] == [0, 1, 0, 0, 0, 0, 0]
    assert found.matrix.sum() == 4


@pytest.mark.parametrize("seed", range(2))
def test_measures_agree_with_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, confusion_matrix, top_k_accuracy_score

    rng = np.random.default_rng(seed)
    classes = [f"c{i:02d}" for i in range(int(rng.integers(6, 15)))]
    labels = rng.choice(classes, 60)
    scores = rng.random((60, len(classes)))
    found = measure(scores, classes, labels)
    assert found.top1 == pytest.approx(accuracy_score(labels, found.predicted))
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, scores, k=5, labels=classes))
    assert np.array_equal(found.matrix, confusion_matrix(labels, found.predicted, labels=classes))


def test_no_numbers_are_no_result() -> None:
    with pytest.raises(WorkError, match="NaN"):
        measure(np.full((2, 2), np.nan), ["a", "b"], np.array(["a", "b"]))


def test_every_prediction_of_a_probe_is_kept(work: Path) -> None:
    result = classify(find_run(None), split=2, workers=0, say=str)
    assert (result["mode"], result["train"], result["test"]) == ("linear", 18, 6)
    assert classify(find_run(None), split=2, workers=0, say=str) == result
    content = json.loads(Path(result["confusion"]).read_text())
    assert content["classes"] == sorted(result["per_class"])
    entries = [e for e in ClipStore("ucf101.zarr").entries() if e.split2 == "test"]
    rows = content["predictions"]
    assert {v: row["label"] for v, row in rows.items()} == {e.id: e.label for e in entries}
    right = [row["label"] == row["predicted"] for row in rows.values()]
    assert np.mean(right) == pytest.approx(result["top1"])
    assert np.trace(content["matrix"]) == sum(right)
    assert np.mean(list(result["per_class"].values())) == pytest.approx(result["top1"])
    other = classify(find_run(None), split=2, clips=1, workers=0, say=str)
    assert other["confusion"] != result["confusion"]


WRONG = [
    ({"options": {"epochs": 3}}, "--epochs has no effect in --mode linear"),
    ({"mode": "finetune", "feature": "projection"}, "--feature projection"),
    ({"mode": "finetune", "options": {"epochs": 0}}, "--epochs 0"),
    ({"mode": "finetune", "options": {"batch_size": 0}}, "--batch-size 0"),
    ({"mode": "finetune", "options": {"lr": 0.0}}, "--lr 0"),
    ({"mode": "finetune", "options": {"lr": float("nan")}}, "--lr nan"),
    ({"mode": "finetune", "options": {"dropout": 1.0}}, "--dropout 1.0"),
    ({"mode": "finetune", "options": {"seed": 2**64}}, "--seed"),
    ({"mode": "finetune", "options": {"crops": 3}}, "--crops 3"),
    ({"clips": 0}, "--clips 0"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_impossible_values_are_named(work: Path, arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        classify(find_run(None), workers=0, say=str, **arguments)
