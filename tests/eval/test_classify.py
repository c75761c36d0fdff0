from pathlib import Path

import numpy as np
import pytest

from slic.errors import LabelsMissing
from slic.eval.cached import Parts
from slic.eval.classify import classify, probe
from slic.runs import find_run


def blobs(seed: int, *, classes: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    names = np.array([f"c{i}" for i in range(classes)]).repeat(each)
    rows = np.eye(classes)[np.arange(classes).repeat(each)] * 8
    return (rows + rng.normal(size=rows.shape)).astype(np.float32), names


def test_separable_classes_are_told_apart() -> None:
    train, train_labels = blobs(0, classes=6, each=20)
    test, test_labels = blobs(1, classes=6, each=10)
    assert probe(Parts(test, test_labels, train, train_labels)) == {1: 1.0, 5: 1.0}


def test_unrelated_labels_give_chance() -> None:
    train, train_labels = blobs(0, classes=6, each=40)
    test, test_labels = blobs(1, classes=6, each=40)
    shuffled = np.random.default_rng(2).permutation(train_labels)
    # 240 draws at 1/6: 0.167 +- 0.024.
    assert probe(Parts(test, test_labels, train, shuffled))[1] < 0.35


def test_a_class_never_trained_on_counts_as_wrong() -> None:
    train, train_labels = blobs(0, classes=3, each=20)
    test, test_labels = blobs(1, classes=3, each=10)
    renamed = np.where(test_labels == "c2", "unseen", test_labels)
    assert probe(Parts(test, renamed, train, train_labels))[1] == pytest.approx(2 / 3)


def test_one_class_is_not_enough() -> None:
    train, train_labels = blobs(0, classes=1, each=5)
    with pytest.raises(LabelsMissing, match="two classes"):
        probe(Parts(train, train_labels, train, train_labels))


def test_probe_of_a_run(work: Path) -> None:
    result = classify(find_run(None), workers=0, say=str)
    assert (result["mode"], result["train"], result["test"]) == ("linear", 18, 6)
    assert 0 <= result["top1"] <= result["top5"] == 1.0
    again = classify(find_run(None), workers=0, say=str)
    assert again == result
