import math

import numpy as np
import pytest

from slic.errors import InputError, LabelsMissing, WorkError
from slic.metrics import (
    cluster_agreement,
    missing_labels,
    per_class_recall,
    recall_at_k,
    topk_accuracy,
)

QUERIES = ["run", "run", "swim", "box"]
NEIGHBOURS = [
    ["run", "swim", "box"],  # hit at 1
    ["swim", "box", "run"],  # hit at 3
    ["box", "swim", "swim"],  # hit at 2
    ["run", "run", "swim"],  # no hit
]


def test_recall_by_hand():
    assert recall_at_k(QUERIES, NEIGHBOURS, [1, 2, 3]) == {1: 0.25, 2: 0.5, 3: 0.75}
    assert recall_at_k(QUERIES, NEIGHBOURS, (20, 1)) == {20: 0.75, 1: 0.25}
    assert recall_at_k(["a", "abc"], [["ab"], ["abc"]], [1]) == {1: 0.5}


def test_recall_agrees_with_a_naive_loop_on_integer_labels():
    random = np.random.default_rng(0)
    query, neighbour = random.integers(9, size=200), random.integers(9, size=(200, 20))
    recall = recall_at_k(query, neighbour, [1, 5, 10, 20])
    for k, value in recall.items():
        hits = sum(1 for q, row in zip(query, neighbour, strict=True) if q in row[:k])
        assert value == hits / 200
        assert type(value) is float


def test_neighbours_without_a_label_are_never_hits():
    assert recall_at_k(["a", "b"], [[None, "a"], ["", "a"]], [1, 2]) == {1: 0.0, 2: 0.5}


@pytest.mark.parametrize("labels", [["a", "", "b"], ["a", None, "b"]])
def test_queries_without_a_label_are_counted(labels):
    with pytest.raises(LabelsMissing, match="1 of 3 queries have no label"):
        recall_at_k(labels, [["a"], ["a"], ["a"]], [1])


@pytest.mark.parametrize(
    ("query", "neighbour", "k", "message"),
    [
        (["a", "b"], [["a"]], 1, r"\(2,\) and neighbour labels \(1, 1\)"),
        (["a"], ["a"], 1, r"neighbour labels \(1,\)"),
        (["a"], [["a"]], 0, "k must be 1 or more, got 0"),
        (np.empty(0, dtype=str), np.empty((0, 3), dtype=str), 1, "with a query or more"),
        (["1"], [[1]], 1, "no two of them can be equal"),
        (["a"], [[b"a"]], 1, "no two of them can be equal"),
    ],
)
def test_what_recall_refuses(query, neighbour, k, message):
    with pytest.raises(InputError, match=message):
        recall_at_k(query, neighbour, [k])


def test_per_class_recall_by_hand():
    assert per_class_recall(QUERIES, NEIGHBOURS) == {"box": 0.0, "run": 0.5, "swim": 0.0}
    assert per_class_recall(QUERIES, NEIGHBOURS, 2) == {"box": 0.0, "run": 0.5, "swim": 1.0}
    assert list(per_class_recall([7, 3], [[7], [7]])) == [3, 7]


def test_missing_labels():
    assert missing_labels(["a", ""]).tolist() == [False, True]
    assert missing_labels([["a", None], ["", "b"]]).tolist() == [[False, True], [True, False]]
    assert missing_labels([0, -1]).tolist() == [False, False]
    assert missing_labels([0.0, np.nan]).tolist() == [False, True]
    assert missing_labels(np.array(["a", float("nan")], dtype=object)).tolist() == [False, True]


def test_agreement_by_hand():
    # Two classes of two; clusters {0}, {1}, {2, 3}: I = H(classes) = log 2, H(clusters) =
    # 1.5 log 2, so NMI = 1 / mean(1, 1.5) = 0.8.
    # AMI: over the 6 ways to place the pair, I is log 2 in 2 (pair within a class). In 4 the pair
    # is split: H(classes | clusters) = 0.5 log 2, so I = 0.5 log 2. E[I] = 2/3 log 2.
    nmi, ami = cluster_agreement(["a", "a", "b", "b"], [0, 1, 2, 2])
    assert nmi == pytest.approx(0.8)
    assert ami == pytest.approx((1 - 2 / 3) / (1.25 - 2 / 3))


@pytest.mark.parametrize("nothing", [None, ""])
def test_agreement_leaves_out_what_has_no_label(nothing):
    full = cluster_agreement(["a", "a", "b", "b"], [0, 1, 2, 2])
    assert cluster_agreement(["a", nothing, "a", "b", "b"], [0, 2, 1, 2, 2]) == pytest.approx(full)
    assert cluster_agreement([nothing, nothing], [0, 1]) == (None, None)


def test_agreement_of_chance_is_adjusted_away():
    random = np.random.default_rng(0)
    nmi, ami = cluster_agreement(random.integers(10, size=2000), random.integers(500, size=2000))
    assert nmi > 0.2
    assert abs(ami) < 0.02


def test_topk_by_hand():
    scores = [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]
    targets = [1, 1, 0]  # ranked first, second, third
    assert [topk_accuracy(scores, targets, k) for k in (1, 2, 3, 9)] == [1 / 3, 2 / 3, 1, 1]


def test_topk_agrees_with_a_stable_sort_with_ties():
    random = np.random.default_rng(0)
    scores, targets = random.integers(4, size=(300, 8)), random.integers(8, size=300)
    order = np.argsort(-scores, axis=1, kind="stable")
    for k in (1, 3, 5):
        hits = sum(1 for row, target in zip(order, targets, strict=True) if target in row[:k])
        assert topk_accuracy(scores, targets, k) == hits / 300


def test_what_topk_and_agreement_refuse():
    with pytest.raises(InputError, match=r"labels \(2,\) and clusters \(3,\)"):
        cluster_agreement(["a", "b"], [0, 1, 2])
    with pytest.raises(WorkError, match="1 of 2 items have scores that are NaN"):
        topk_accuracy([[math.nan, 1], [0, 1]], [0, 0], 1)
    for target in (2, -1):
        with pytest.raises(InputError, match="must lie in 0 to 1"):
            topk_accuracy([[0.0, 1.0]], [target], 1)
    with pytest.raises(InputError, match=r"must be \(N, C\), \(N,\)"):
        topk_accuracy([[0.0, 1.0]], [0, 1], 1)
    with pytest.raises(InputError, match="k must be 1 or more"):
        topk_accuracy([[0.0, 1.0]], [0], 0)
