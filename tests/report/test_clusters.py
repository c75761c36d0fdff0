import warnings
from collections import Counter

import numpy as np
import pytest

from slic.cache.clusterings import (
    Clusterings,
    clustering_name,
    epoch_of,
    read_clusterings,
    record_clusters,
)
from slic.page.videos import Videos
from slic.report.changes import agreement, changes, columns_of, merged, shared
from slic.report.clusters import clusters
from slic.report.partition import labels_of, partition


def of(*columns: list[int], ids: list[str] | None = None) -> Clusterings:
    """Clusterings of epochs 0, 5, 10, ..."""
    named = {clustering_name(5 * i): np.array(c, np.int64) for i, c in enumerate(columns)}
    return Clusterings(ids or [f"v{i}" for i in range(len(columns[0]))], named)


def table() -> Videos:
    return Videos(None, [], split=1, clusters={})


def section(found: Clusterings, known: dict | None = None, *, seed: int = 0) -> dict:
    return clusters(found, table(), known=known or {}, seed=seed)[0]


def test_the_last_clustering_is_that_of_the_latest_epoch(tmp_path):
    for epoch in (99_999, 0, 100_000, 5):
        record_clusters(tmp_path / "clusters.h5", epoch, {"b": epoch, "ä 🎬": 1})
    found = read_clusterings(tmp_path / "clusters.h5")
    assert [epoch_of(name) for name in found.named] == [0, 5, 99_999, 100_000]
    assert found.last[1] == {"b": 100_000, "ä 🎬": 1}


# --- agreement -------------------------------------------------------------------------------


def measured(a: list[int], b: list[int]) -> float:
    before, after = partition("epoch00000", np.array(a)), partition("epoch00005", np.array(b))
    return agreement(shared(before, after), before.sizes, after.sizes)


@pytest.mark.parametrize("seed", range(12))
def test_agreement_is_scikit_learns(seed):
    from sklearn.metrics import adjusted_mutual_info_score

    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 80))
    a, b = (rng.integers(0, rng.integers(1, count + 1), count) for _ in range(2))
    if seed % 2:
        b = np.where(rng.random(count) < 0.7, a, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that it takes for numbers
        expected = adjusted_mutual_info_score(a, b)
    assert measured(a.tolist(), b.tolist()) == pytest.approx(expected, abs=1e-9)


def test_agreement_at_its_ends():
    assert measured([0, 0, 1, 1, 2], [7, 7, 3, 3, 9]) == 1
    assert measured([5], [2]) == measured([1, 1, 1], [4, 4, 4]) == 1
    assert measured([0, 1, 2], [2, 0, 1]) == 1
    assert measured([0, 0, 0, 0], [0, 1, 2, 3]) == 0
    rng = np.random.default_rng(0)
    a = rng.integers(0, 40, 4000)
    assert abs(measured(a.tolist(), rng.permutation(a).tolist())) < 0.01


# --- changes ---------------------------------------------------------------------------------


def counts(a: list[int], b: list[int]) -> tuple[int, int, int]:
    before, after = partition("epoch00000", np.array(a)), partition("epoch00005", np.array(b))
    (change,) = changes([before, after], labels_of([""] * len(a), {}))["changes"]
    assert merged(shared(before, after), before, after) == change["merged"]
    return change["merged"], change["split"], change["same"]


def test_changes_by_hand():
    assert counts([0, 0, 1, 1], [5, 5, 5, 5]) == (1, 0, 0)
    assert counts([5, 5, 5, 5], [0, 0, 1, 1]) == (0, 1, 0)
    assert counts([0, 0, 1, 1, 2], [9, 9, 4, 4, 7]) == (0, 0, 3)
    # Half of each is not most of it.
    assert counts([0, 0, 1, 1], [3, 4, 3, 4]) == (0, 0, 0)
    # Clusters of one video neither merge nor come of a split.
    assert counts([0, 1, 2], [3, 3, 3]) == (0, 0, 0)
    assert counts([3, 3, 3], [0, 1, 2]) == (0, 0, 0)
    # Two of three of each meet; the others stay alone.
    assert counts([0, 0, 0, 1, 1, 1], [6, 6, 7, 6, 6, 8]) == (1, 0, 0)


def test_flows_add_up_to_the_nodes_of_both_sides():
    rng = np.random.default_rng(1)
    columns = [rng.integers(0, size, 500) for size in (40, 3, 16)]
    parts = [partition(clustering_name(i), c) for i, c in enumerate(columns)]
    ids = [str(i) for i in range(500)]
    found = changes(parts, labels_of(ids, {}))
    assert [len(c["nodes"]) for c in found["columns"]] == [16, 3, 16]
    for i, step in enumerate(found["changes"]):
        for side, column in ((0, found["columns"][i]), (1, found["columns"][i + 1])):
            sums = Counter()
            for flow in step["flows"]:
                sums[flow[side]] += flow[2]
            assert sums == Counter({n: node["size"] for n, node in enumerate(column["nodes"])})
    assert found["columns"][0]["nodes"][-1]["name"] == "25 others"
    assert found["columns"][2]["nodes"][-1]["name"] == "1 other"


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [0]), (2, [0, 1]), (6, list(range(6))), (11, [0, 2, 4, 6, 8, 10]), (100, None)],
)
def test_six_clusterings_are_drawn_the_ends_among_them(count, expected):
    names = [clustering_name(i) for i in range(count)]
    found = [epoch_of(name) for name in columns_of(names)]
    assert found[0] == 0
    assert found[-1] == count - 1
    assert len(found) == min(6, count)
    assert expected is None or found == expected


# --- the section -----------------------------------------------------------------------------


def test_section_by_hand():
    known = {"v0": "box", "v1": "box", "v2": "run", "v3": None, "v4": "run", "v5": "run"}
    found = section(of([0, 0, 0, 0, 0, 0], [4, 4, 4, 9, 2, 2]), known)
    assert {k: found[k] for k in ("clustering", "epoch", "videos", "count", "singletons")} == {
        "clustering": "epoch00005",
        "epoch": 5,
        "videos": 6,
        "count": 3,
        "singletons": 1,
    }
    assert found["sizes"] == [[1, 1], [2, 1], [3, 1]]
    assert found["purity"] == pytest.approx(4 / 5)
    listed = [(c["id"], c["size"], c["purity"], c["labels"]) for c in found["listed"]]
    assert listed == [
        (4, 3, pytest.approx(2 / 3), [["box", 2], ["run", 1]]),
        (2, 2, 1.0, [["run", 2]]),
        (9, 1, None, []),
    ]
    assert [c["videos"] for c in found["listed"]] == [[0, 1, 2], [3, 4], [5]]
    (step,) = found["changes"]
    assert (step["from"], step["to"]) == ("epoch00000", "epoch00005")
    assert [c["count"] for c in found["columns"]] == [1, 3]
    node = found["columns"][0]["nodes"][0]
    assert node == {"name": "cluster 0", "size": 6, "label": "run", "share": 0.6}


def test_of_large_clusters_some_videos_are_drawn_by_the_seed():
    one = of([0] * 100)
    first, again, other = (section(one, seed=s)["listed"][0]["videos"] for s in (0, 0, 1))
    videos = [table(), table()]
    for seed, into in enumerate(videos):
        clusters(one, into, known={}, seed=seed)
    assert first == again == other == list(range(24))  # rows, in the order of being shown
    assert videos[0].ids != videos[1].ids
    assert len(set(videos[0].ids)) == 24 <= 100


def test_many_clusters_are_listed_in_part_and_it_says_so():
    rng = np.random.default_rng(0)
    found, remarks = clusters(of(rng.integers(0, 900, 5000).tolist()), table(), known={}, seed=0)
    sizes = [c["size"] for c in found["listed"]]
    assert len(sizes) == 500
    assert sizes == sorted(sizes, reverse=True)
    assert len(remarks) == 1
    assert "500" in remarks[0]
    assert sum(size * times for size, times in found["sizes"]) == 5000


def test_names_of_thousands_of_characters_do_not_fill_the_page():
    ids = [f"{i:04d}" + "x" * 4000 for i in range(1000)]
    videos = table()
    found, remarks = clusters(of([i // 2 for i in range(1000)], ids=ids), videos, known={}, seed=0)
    assert sum(map(len, videos.ids)) <= 1_500_000
    assert found["listed"][0]["videos"]
    assert not found["listed"][-1]["videos"]
    assert len(remarks) == 1
