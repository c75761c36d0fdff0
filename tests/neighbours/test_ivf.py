"""The IVF index: its recall is what a naive recount finds, and what it misses is known."""

import re

import numpy as np
import pytest

from slic.neighbours import ivf
from slic.neighbours.exact import first_neighbours, nearest, unit_float32
from slic.neighbours.ivf import RECALL, IvfIndex, build_ivf_index, first_neighbours_of
from slic.train.clustering import finch


def units(count: int, width: int = 8, *, clusters: int = 40, noise: float = 0.4, seed: int = 0):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(clusters, width))
    rows = centres[random.integers(clusters, size=count)] + noise * random.normal(
        size=(count, width)
    )
    return unit_float32(rows, name="rows")


def silent(line: str) -> None:
    raise AssertionError(line)


def recounted(lists: IvfIndex, rows: np.ndarray, asked: np.ndarray) -> float:
    """Share of the k nearest others of some rows that their lists hold, one by one in float64."""
    home = np.empty(len(rows), dtype=int)
    for number, (begin, end) in enumerate(zip(lists.offsets[:-1], lists.offsets[1:], strict=True)):
        home[lists.order[begin:end]] = number
    found = 0
    for row in asked:
        unit = rows[row].astype(float)
        similarity = rows @ unit
        similarity[row] = -2
        best = np.argsort(-similarity, kind="stable")[: lists.k]
        probed = np.argsort(-(lists.centres @ unit), kind="stable")[: lists.probes]
        found += int(np.isin(home[best], probed).sum())
    return found / (len(asked) * lists.k)


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Which rows choose the lists to look at, and which tell the recall, by place."""
    taken: dict[str, np.ndarray] = {}

    def spy(name: str) -> None:
        of = getattr(ivf, name)

        def spied(lists: IvfIndex, asked: np.ndarray):
            taken[name] = asked
            return of(lists, asked)

        monkeypatch.setattr(ivf, name, spied)

    spy("_required_probes")
    spy("_recall")
    return taken


@pytest.mark.parametrize(("count", "k"), [(2, 1), (3, 5), (57, 1), (600, 1), (997, 10)])
@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_the_recall_is_that_of_a_naive_recount(samples, count, k, noise):
    rows = units(count, noise=noise)
    lists = build_ivf_index(rows, k=k)
    chose, judged = (lists.order[samples[name]] for name in ("_required_probes", "_recall"))
    assert sorted(lists.order.tolist()) == list(range(count))
    np.testing.assert_array_equal(lists.rows, rows[lists.order])
    # Fewer than are drawn, so that each row is in one sample or the other.
    assert sorted([*chose, *judged]) == list(range(count))
    assert lists.sample == len(judged) == (count + 1) // 2
    assert lists.recall == pytest.approx(recounted(lists, rows, judged), abs=1e-9)
    assert recounted(lists, rows, chose) >= RECALL
    fewer = IvfIndex(**{**vars(lists), "probes": lists.probes - 1})
    assert lists.probes == 1 or recounted(fewer, rows, chose) < RECALL


def test_each_row_stands_in_the_list_of_its_nearest_centre():
    rows = units(500)
    lists = build_ivf_index(rows, k=1)
    home = np.repeat(np.arange(len(lists.centres)), np.diff(lists.offsets))
    np.testing.assert_array_equal((lists.rows @ lists.centres.T).argmax(axis=1), home)


def check(answer, expected: np.ndarray, rows: np.ndarray, queries: np.ndarray) -> None:
    """Similarities are as expected, those of the rows named, and no row is named twice.

    Which of two rows comes first may depend on the last bits, which blocks of another size change.
    """
    similarity, found = answer
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    np.testing.assert_allclose(np.einsum("qd,qkd->qk", queries, rows[found]), expected, atol=1e-6)
    assert all(len(set(each)) == len(each) for each in found.tolist())


@pytest.mark.parametrize("k", [1, 3, 20])
def test_answers_are_the_nearest_of_the_lists_looked_at(k, monkeypatch):
    monkeypatch.setattr(ivf, "WORTHWHILE", 1)
    rows, queries = units(801, noise=1.0), units(33, noise=1.0, seed=5)
    lists = build_ivf_index(rows, k=20)
    home = np.repeat(np.arange(len(lists.centres)), np.diff(lists.offsets))[lists.order.argsort()]
    expected = []
    for query in queries:
        probed = np.argsort(-(lists.centres @ query))[: lists.probes]
        cosine = np.where(np.isin(home, probed), rows @ query, -2)
        expected.append(np.sort(cosine)[::-1][:k])
    check(lists.nearest(queries, k=k), np.array(expected), rows, queries)


@pytest.mark.parametrize("k", [6, 31, 300, 1000])
def test_very_many_or_more_than_the_lists_hold_are_found_exactly(k, monkeypatch):
    monkeypatch.setattr(ivf, "MAX_NEIGHBOURS", 5)
    rows, queries = units(300, noise=0.05), units(9, noise=1.0, seed=2)
    lists = build_ivf_index(rows, k=5)
    check(lists.nearest(queries, k=k), nearest(queries, rows, k=k)[0], rows, queries)
    monkeypatch.setattr(ivf, "MAX_NEIGHBOURS", 300)
    monkeypatch.setattr(ivf, "WORTHWHILE", 1)
    one = IvfIndex(**{**vars(lists), "probes": 1})  # no list holds so many
    check(one.nearest(queries, k=200), nearest(queries, rows, k=200)[0], rows, queries)


@pytest.mark.parametrize("size", [997, 400])
def test_the_same_rows_give_the_same_lists(size):
    first, second = (build_ivf_index(units(size), k=1) for _ in range(2))
    assert first.summary == second.summary
    np.testing.assert_array_equal(first.order, second.order)


def test_first_neighbours_by_lists_are_said_and_as_many_right_as_said(monkeypatch):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 900)
    rows, said = units(900, noise=0.3), []
    found = first_neighbours_of(rows, say=said.append)
    [line] = said
    assert "900 rows" in line
    assert "120 lists" in line
    told = re.search(r"([\d.]+) % of the nearest .* sample of 450", line)
    assert told is not None
    assert (found == first_neighbours(rows)).mean() == pytest.approx(float(told[1]) / 100, abs=0.02)
    assert (found != np.arange(900)).all()
    first_neighbours_of(rows[1:], say=silent)


def test_rows_without_lists_to_speak_of_are_searched_exactly(monkeypatch):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 2)
    rows, said = units(500, width=64, noise=50.0), []
    found = first_neighbours_of(rows, say=said.append)
    np.testing.assert_array_equal(found, first_neighbours(rows))
    lists = build_ivf_index(rows, k=1)
    assert said == [lists.summary]
    assert "exact search" in said[0]
    assert "%" not in said[0]
    queries = units(7, width=64, noise=50.0, seed=4)
    check(lists.nearest(queries, k=3), nearest(queries, rows, k=3)[0], rows, queries)


@pytest.mark.parametrize("partition", [0, 1, 2])
def test_finch_by_lists_finds_clusters_that_lie_apart_as_it_does_exactly(monkeypatch, partition):
    rows = units(300, width=16, clusters=12, noise=0.2)
    exact, said = finch(rows, partition=partition, say=silent), []
    assert exact.max() > 0
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 200)
    monkeypatch.setattr(ivf, "RECALL", 1.0)
    np.testing.assert_array_equal(finch(rows, partition=partition, say=said.append), exact)
    assert len(said) == 1  # the means are few


@pytest.mark.parametrize("copies", [2, 5, 90])
def test_a_duplicated_row_is_never_its_own_neighbour(monkeypatch, copies):
    monkeypatch.setattr(ivf, "APPROXIMATE_FROM", 2)
    kinds = np.arange(6 * copies) % 6
    found = first_neighbours_of(np.eye(6, dtype=np.float32)[kinds], say=str)
    assert (found != np.arange(len(kinds))).all()
    np.testing.assert_array_equal(kinds[found], kinds)
