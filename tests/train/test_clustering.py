import warnings

import numpy as np
import pytest
import torch

from slic.errors import InputError, LabelsMissing, WorkError
from slic.train.clustering import finch, kmeans, label_codes, singleton_labels


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack((np.cos(radians), np.sin(radians)), axis=1)


def reference(rows: np.ndarray, partition: int = 0) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pynndescent is not installed")
        from finch import FINCH
    return FINCH(rows.astype(np.float32), distance="cosine", verbose=False)[0][:, partition]


def smallest_gap(rows: np.ndarray) -> float:
    """Least difference of a row's two best similarities: what float32 must resolve."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -2)
    best = np.partition(similarity, -2, axis=1)[:, -2:]
    return float((best[:, 1] - best[:, 0]).min())


def test_finch_by_hand():
    # First neighbours 1, 0, 1 chain the first three; 4 and 3 find each other.
    labels = finch(at_angles(0, 10, 25, 90, 100))
    assert labels.tolist() == [0, 0, 0, 1, 1]
    assert labels.dtype == np.int64


def test_clusters_are_numbered_by_their_first_row():
    assert finch(at_angles(90, 0, 100, 10, 200, 210)).tolist() == [0, 1, 0, 1, 2, 2]


@pytest.mark.parametrize("n", [2, 3, 50, 2000])
def test_finch_gives_the_labels_of_finch_clust(n):
    rows = np.random.default_rng(8).normal(size=(n, 32)) * 3
    assert n == 2 or smallest_gap(rows) > 1e-6  # far from ties, else the labels are not defined
    np.testing.assert_array_equal(finch(rows), reference(rows))


@pytest.mark.parametrize("partition", [0, 1, 2])
def test_coarser_partitions_are_those_of_finch_clust(partition):
    centres = np.random.default_rng(1).normal(size=(40, 16))
    rows = np.repeat(centres, 30, axis=0) + np.random.default_rng(2).normal(size=(1200, 16)) * 0.4
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = finch(rows, partition=partition)
    np.testing.assert_array_equal(labels, reference(rows, partition))


def test_a_partition_that_there_is_not_is_the_coarsest_one():
    rows = np.random.default_rng(3).normal(size=(300, 8))
    counts = [finch(rows, partition=p).max() + 1 for p in range(9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[1] > counts[-1] == counts[-2] >= 2
    assert finch(at_angles(0, 10), partition=5).tolist() == [0, 0]
    with pytest.raises(InputError, match="partition -1"):
        finch(rows, partition=-1)


def test_kmeans_finds_clusters_that_lie_apart():
    centres = np.eye(6)[:5] * np.arange(1, 6)[:, None]  # of different lengths: cosine counts
    truth = np.arange(200) * 3 % 5
    rows = centres[truth] + np.random.default_rng(0).normal(size=(200, 6)) * 0.02
    # A random start may put two centres into one cluster; one of several finds them all.
    found = [kmeans(rows, 5, seed=seed) for seed in range(8)]
    _, first = np.unique(truth, return_index=True)
    expected = first.argsort().argsort()[truth]
    assert any(np.array_equal(labels, expected) for labels in found)
    assert all(labels[0] == 0 and labels.max() <= 4 for labels in found)
    np.testing.assert_array_equal(kmeans(rows, 5, seed=3), kmeans(rows, 5, seed=3))
    for count in (0, 201):
        with pytest.raises(InputError, match=f"{count} clusters of 200"):
            kmeans(rows, count)


def test_a_row_belongs_to_its_nearest_mean():
    rows = np.random.default_rng(4).normal(size=(400, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = kmeans(rows, 12, seed=1)
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(labels.max() + 1)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    # Converged, but for the few that still move when the rounds end.
    assert ((rows @ means.T).argmax(axis=1) == labels).mean() > 0.95


def test_duplicated_rows_share_a_cluster():
    labels = finch(np.repeat(at_angles(0, 90, 200), 2, axis=0))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("rows", [np.zeros((7, 3)), np.ones((300, 5))])
def test_collapsed_embeddings_do_not_crash(rows):
    labels = finch(rows)
    counts = np.bincount(labels)
    assert labels.shape == (len(rows),)
    assert counts.min() >= 2  # nobody is alone: each has a neighbour that is not itself


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_of_a_graph_and_of_any_precision(dtype):
    rows = torch.tensor(at_angles(0, 10, 90, 100), dtype=dtype, requires_grad=True)
    labels = finch(rows)
    assert isinstance(labels, np.ndarray)
    assert labels.tolist() == [0, 0, 1, 1]


def test_one_row_is_one_cluster():
    labels = finch(np.ones((1, 4)))
    assert labels.tolist() == [0]
    assert labels.dtype == np.int64


def test_what_finch_refuses():
    with pytest.raises(InputError, match="there are no embeddings to cluster"):
        finch(np.empty((0, 4)))
    with pytest.raises(InputError, match=r"must have shape \(N, D\), got \(4,\)"):
        finch(np.ones(4))


@pytest.mark.parametrize("n", [1, 6])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_counted(n, bad):
    rows = np.ones((n, 4))
    rows[0, 2] = bad
    with pytest.raises(WorkError, match=f"1 of {n} rows of embeddings hold NaN or infinity"):
        finch(rows)


def test_singletons():
    assert singleton_labels(3).tolist() == [0, 1, 2]
    assert singleton_labels(0).dtype == np.int64


def test_label_codes_number_the_labels_in_sorted_order():
    codes = label_codes(["swim", "box", "swim", "run"])
    assert codes.tolist() == [2, 0, 2, 1]
    assert codes.dtype == np.int64
    assert label_codes(np.array(["b", "a"])).tolist() == [1, 0]


def test_label_codes_count_what_is_missing():
    with pytest.raises(LabelsMissing, match="2 of 4 videos have no label"):
        label_codes(["a", None, "", "b"])
