from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from slic.cache import ClipStore, EmbeddingCache
from slic.cache.entries import Entry
from slic.clips.reading import ReaderPool
from slic.config import make_settings
from slic.encoders.encoder import new_encoder
from slic.errors import LabelsMissing
from slic.runs import Run
from slic.train.clustering import finch
from slic.train.recluster import (
    Clustering,
    cluster_videos,
    is_query,
    pseudo_labels,
    training_recall,
)

SETTINGS = make_settings("cpu-small", options={"frames": 4, "size": 16, "warmup_epochs": 2})


def entry(name: str, label: str | None, group: str | None = None) -> Entry:
    return Entry(name, name, name, label, group, "train", None, None, frames=20)


@pytest.fixture(scope="module")
def run(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("run"), SETTINGS, drawn_store, "aaaa", "cpu-small")


def clustered(
    run: Run,
    entries: list[Entry],
    *,
    epoch: int = 2,
    seed: int = 0,
    test: Sequence[Entry] = (),
) -> Clustering:
    return cluster_videos(
        new_encoder("small", seed=seed),
        ReaderPool(ClipStore(run.store), workers=0),
        entries,
        run=run,
        settings=run.settings,
        epoch=epoch,
        device=torch.device("cpu"),
        test=test,
    )


def caches(run: Run) -> list[Path]:
    return sorted(run.embeddings.iterdir())


def naive_recall(cache: EmbeddingCache, asked: set[str], rows: np.ndarray) -> dict[str, float]:
    """Recall of the cache's rows by plain numpy."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    query = np.array([video in asked for video in cache.ids])
    hits = {"1": [], "5": []}
    for i in np.flatnonzero(query):
        order = np.argsort(-(unit[~query] @ unit[i]), kind="stable")
        found = cache.labels[~query][order] == cache.labels[i]
        for k in hits:
            hits[k].append(bool(found[: int(k)].any()))
    return {k: float(np.mean(values)) for k, values in hits.items()}


def test_the_record_is_what_the_cache_says(run, store):
    entries = store.entries()
    found = clustered(run, entries)
    (path,) = caches(run)
    assert path.name.startswith("ucf101.aaaa-e00002.")
    assert path.name.endswith("-1clips-4x2-16px-train.h5")
    cache = EmbeddingCache(path)
    assert cache.ids.tolist() == [e.id for e in entries]
    labels = finch(cache.projection)
    assert list(found.pseudo_labels.values()) == labels.tolist()
    record = found.record
    assert record["clusters"] == len(set(labels.tolist()))
    assert record["nmi"] == pytest.approx(normalized_mutual_info_score(cache.labels, labels))
    assert record["ami"] == pytest.approx(adjusted_mutual_info_score(cache.labels, labels))
    asked = {e.id for e in entries if is_query(e)}
    assert record["recall"] == pytest.approx(naive_recall(cache, asked, cache.backbone))
    assert (record["epoch"], record["in_use"]) == (2, True)
    with h5py.File(run.path / "clusters.h5") as file:
        assert list(file["video"].asstr()[:]) == cache.ids.tolist()
        assert file["epoch00002"][:].tolist() == labels.tolist()


def test_recall_is_of_the_feature_that_retrieval_compares(run, store):
    projecting = replace(run, settings=replace(SETTINGS, retrieval_feature="projection"))
    entries = store.entries()
    record = clustered(projecting, entries).record
    cache = EmbeddingCache(caches(run)[0])
    asked = {e.id for e in entries if is_query(e)}
    assert record["recall"] == pytest.approx(naive_recall(cache, asked, cache.projection))


def test_only_the_newest_training_cache_is_kept(run, store):
    run.embeddings.mkdir(exist_ok=True)
    evaluation = run.embeddings / "ucf101.aaaa-e00002.12345678-10clips-4x2-16px.h5"
    evaluation.touch()
    clustered(run, store.entries()[:6], epoch=3)
    clustered(run, store.entries()[:6], epoch=4, seed=1)
    names = [path.name for path in caches(run)]
    evaluation.unlink()
    assert len(names) == 2
    assert evaluation.name in names
    assert any(name.startswith("ucf101.aaaa-e00004.") for name in names)


def test_clusters_travel_with_ids_whatever_the_order(run, store):
    """A video keeps its cluster mates however the videos are ordered."""
    entries = store.entries()
    shuffled = [entries[i] for i in np.random.default_rng(0).permutation(len(entries))]
    assert [e.id for e in shuffled] != [e.id for e in entries]
    groups = []
    for order in (entries, shuffled):
        found = clustered(run, order)
        assert list(found.pseudo_labels) == [e.id for e in order]
        by_cluster: dict[int, set[str]] = {}
        for video, cluster in found.pseudo_labels.items():
            by_cluster.setdefault(cluster, set()).add(video)
        groups.append({frozenset(group) for group in by_cluster.values()})
        with h5py.File(run.path / "clusters.h5") as file:
            ids = file["video"].asstr()[:].tolist()
            stored = dict(zip(ids, file["epoch00002"][:].tolist(), strict=True))
        assert stored == found.pseudo_labels
    assert groups[0] == groups[1]
    assert 1 < len(groups[0]) < len(entries)


def test_before_the_end_of_the_warm_up_each_video_is_alone():
    entries = [entry(name, "x") for name in "abc"]
    clusters = dict.fromkeys("abc", 0)
    for epoch, distinct in ((0, 3), (1, 3), (2, 1), (3, 1)):
        labels = pseudo_labels(entries, clusters, settings=SETTINGS, epoch=epoch)
        assert len(set(labels.values())) == distinct
    none = replace(SETTINGS, cluster="none")
    assert len(set(pseudo_labels(entries, clusters, settings=none, epoch=9).values())) == 3


def test_true_labels_serve_from_the_start_and_must_all_be_there():
    settings = replace(SETTINGS, cluster="labels")
    entries = [entry("a", "x"), entry("b", "y"), entry("c", "x")]
    labels = pseudo_labels(entries, {}, settings=settings, epoch=0)
    assert labels["a"] == labels["c"] != labels["b"]
    with pytest.raises(LabelsMissing, match="1 of 4 videos"):
        pseudo_labels([*entries, entry("d", None)], {}, settings=settings, epoch=0)


def test_whether_clusters_are_in_use_is_recorded(run, store):
    entries = store.entries()[:6]
    for cluster, epoch, used in (
        ("finch", 1, False),
        ("finch", 2, True),
        ("none", 2, False),
        ("labels", 2, False),
    ):
        changed = replace(run, settings=replace(SETTINGS, cluster=cluster))
        assert clustered(changed, entries, epoch=epoch).record["in_use"] is used


def test_without_labels_there_is_no_nmi_and_no_recall(run, store):
    bare = [replace(e, label=None) for e in store.entries()[:8]]
    record = clustered(run, bare).record
    assert (record["nmi"], record["ami"], record["recall"]) == (None, None, None)
    assert record["clusters"] >= 1


def test_queries_are_whole_groups_about_a_quarter():
    entries = [
        entry(f"{label}{group}{clip}", f"class{label}", f"g{group:02d}")
        for label in range(40)
        for group in range(25)
        for clip in range(2)
    ]
    asked = Counter((e.label, e.group) for e in entries if is_query(e))
    assert set(asked.values()) == {2}
    # Four standard deviations of 1,000 draws of a quarter.
    assert abs(len(asked) - 250) < 4 * (1000 * 0.25 * 0.75) ** 0.5
    # The same number of a group is asked in some classes and not in others.
    assert len({group for _, group in asked}) == 25


def test_recall_needs_labels_queries_and_a_gallery():
    rows = np.eye(8, dtype=np.float32)
    asked = [entry(f"v{i}", "x", f"g{i}") for i in range(200)]
    queries = [e for e in asked if is_query(e)][:8]
    gallery = [e for e in asked if not is_query(e)][:8]
    assert training_recall(queries, rows) is None
    assert training_recall(gallery, rows) is None
    both = [*queries[:2], *gallery[:2]]
    assert training_recall([replace(e, label=None) for e in both], rows[:4]) is None
    # Query 0 is nearest to gallery 2 (same label), query 1 to gallery 3 (another).
    both[3] = replace(both[3], label="y")
    points = np.array([[1, 0], [0, 1], [1, 0.1], [0.1, 1]], dtype=np.float32)
    assert training_recall(both, points) == {"1": 0.5, "5": 1.0}


def test_recall_of_test_videos_is_recorded_and_clusters_do_not_know_them(run, store):
    stored = store.entries()
    entries = [e for e in stored if e.split(1) == "train"]
    test = [e for e in stored if e.split(1) == "test"]
    assert len(test) == 6
    alone = clustered(run, entries)
    assert alone.record["test_recall"] is None
    found = clustered(run, entries, test=test)
    assert found.pseudo_labels == alone.pseudo_labels
    assert found.record == {**alone.record, "test_recall": found.record["test_recall"]}
    both = clustered(run, stored)
    assert len(both.pseudo_labels) == 24
    cache = EmbeddingCache(caches(run)[0])
    asked = {e.id for e in test}
    assert found.record["test_recall"] == pytest.approx(naive_recall(cache, asked, cache.backbone))


def test_a_clustering_in_a_line() -> None:
    record = {"epoch": 5, "clusters": 146, "nmi": 0.58512, "recall": {"1": 0.25, "5": 0.5}}
    (line,) = Clustering({}, {**record, "distance": 0.1}).messages(Path("run"))
    assert line == "epoch 5: 146 clusters, NMI 0.585, recall at 1 0.250"
    unlabelled = {"epoch": 0, "clusters": 1, "nmi": None, "recall": None, "distance": 0.0}
    line, warning = Clustering({}, unlabelled).messages(Path("run"))
    assert line == "epoch 0: 1 cluster"
    assert "collapsed" in warning
