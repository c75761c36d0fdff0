import numpy as np
import pytest

from slic.cache import EmbeddingCache
from slic.page.videos import Videos
from slic.report.gallery import gallery, split_neighbours


def made(cache: EmbeddingCache, *, seed: int = 0, feature="backbone"):
    videos = Videos(None, [], split=1, clusters={}, cache=cache)
    found = split_neighbours(cache, split=1, feature=feature)
    section, classes = gallery(cache, videos, found=found, feature=feature, clips=2, seed=seed)
    return section, classes, videos.ids


def rows_of(view: dict) -> list[dict]:
    return [row for group in view["groups"] for row in group["rows"]]


def naive(cache: EmbeddingCache, feature: str = "backbone") -> dict[str, list[tuple[float, str]]]:
    """All labelled training videos by falling cosine, of each labelled test video."""
    rows = getattr(cache, feature).astype(float)
    ranked = {}
    for i, query in enumerate(cache.ids):
        if cache.splits[1][i] != "test" or not cache.labels[i]:
            continue
        cosines = []
        for j, other in enumerate(cache.ids):
            if cache.splits[1][j] == "train" and cache.labels[j]:
                a, b = rows[i], rows[j]
                cosines.append((a @ b / np.sqrt((a @ a) * (b @ b)), str(other)))
        ranked[str(query)] = sorted(cosines, reverse=True)
    return ranked


@pytest.fixture
def cache(cache_of) -> EmbeddingCache:
    """20 classes of unequal size and purity, some videos without label or part."""
    rng = np.random.default_rng(4)
    truth = rng.integers(0, 20, 300)
    rows = rng.normal(size=(20, 12))[truth] + rng.uniform(0, 2, (300, 1)) * rng.normal(
        size=(300, 12)
    )
    labels = [f"class {n:02}" if rng.random() < 0.95 else None for n in truth]
    return cache_of(rows, labels, rng.choice(["train", "test", "unused"], 300).tolist())


@pytest.mark.parametrize("feature", ["backbone", "projection"])
def test_neighbours_and_recall_are_a_plain_loop_s(cache, feature):
    section, classes, ids = made(cache, feature=feature)
    ranked = naive(cache, feature)
    label = dict(zip(cache.ids.tolist(), cache.labels.tolist(), strict=True))
    assert (section["feature"], section["clips"], section["labelled"]) == (feature, 2, True)
    assert section["queries"] == len(ranked)
    assert {section["among"]} == {len(others) for others in ranked.values()}
    for view in section["views"]:
        for row in rows_of(view):
            query = ids[row["query"]]
            assert [ids[n["video"]] for n in row["neighbours"]] == [v for _, v in ranked[query]][:6]
            for n, (cosine, video) in zip(row["neighbours"], ranked[query], strict=False):
                assert n["similarity"] == pytest.approx(cosine, abs=1e-4)
                assert n["right"] is (label[query] == label[video])
    hits: dict[str, list[bool]] = {}
    for query, others in ranked.items():
        hits.setdefault(label[query], []).append(label[others[0][1]] == label[query])
    assert {c["label"]: (c["queries"], c["recall"]) for c in classes} == {
        name: (len(of), pytest.approx(sum(of) / len(of))) for name, of in hits.items()
    }
    assert [c["recall"] for c in classes] == sorted(c["recall"] for c in classes)


def test_views_are_a_sample_and_the_classes_at_both_ends(cache):
    section, classes, ids = made(cache)
    label = dict(zip(cache.ids.tolist(), cache.labels.tolist(), strict=True))
    queries = {c["label"]: c["queries"] for c in classes}
    random, worst, best = section["views"]
    assert [v["key"] for v in section["views"]] == ["random", "worst", "best"]
    assert len({row["query"] for row in rows_of(random)}) == 24
    names = [c["label"] for c in classes]
    assert [group["title"] for group in worst["groups"]] == names[:8]
    assert [group["title"] for group in best["groups"]] == names[:-9:-1]
    for group in [*worst["groups"], *best["groups"]]:
        shown = [ids[row["query"]] for row in group["rows"]]
        assert len(set(shown)) == len(shown) == min(3, queries[group["title"]])
        assert {label[video] for video in shown} == {group["title"]}
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("labels", "parts"),
    [
        (None, ["test", "train"] * 20),
        (["a", "b"] * 20, None),
        (["a", "b"] * 20, ["train"] * 40),
        (["a", ""] * 20, ["train", "test"] * 20),
    ],
)
def test_without_labels_or_split_queries_are_of_all_videos(cache_of, labels, parts):
    rows = np.random.default_rng(0).normal(size=(40, 5))
    section, classes, ids = made(cache_of(rows, labels, parts))
    assert (classes, section["labelled"]) == ([], False)
    assert (section["queries"], section["among"]) == (24, 39)
    (view,) = section["views"]
    assert len({row["query"] for row in rows_of(view)}) == 24
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = dict(zip([f"v{n}" for n in range(40)], unit @ unit.T, strict=True))
    for row in rows_of(view):
        query = ids[row["query"]]
        order = [f"v{n}" for n in np.argsort(-cosines[query]) if f"v{n}" != query]
        assert [ids[n["video"]] for n in row["neighbours"]] == order[:6]
        assert {n["right"] for n in row["neighbours"]} == {None}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 30])
def test_equal_videos_are_never_their_own_neighbours(cache_of, count):
    section, *_ = made(cache_of(np.ones((count, 4))))
    rows = rows_of(section["views"][0])
    assert len(rows) == min(24, count)
    for row in rows:
        others = [n["video"] for n in row["neighbours"]]
        assert len(set(others)) == len(others) == min(6, count - 1)
        assert row["query"] not in others
        assert [n["similarity"] for n in row["neighbours"]] == [1.0] * len(others)
    assert section["among"] == count - 1


def test_one_class_and_one_video_on_each_side(cache_of):
    section, classes, _ = made(cache_of(np.eye(2), ["a", "a"], ["test", "train"]))
    assert classes == [{"label": "a", "queries": 1, "recall": 1.0}]
    assert [view["key"] for view in section["views"]] == ["random", "worst"]
    (row,) = rows_of(section["views"][0])
    assert row["neighbours"] == [{"video": 1, "similarity": 0.0, "right": True}]


@pytest.mark.parametrize(
    ("classes", "ends"), [(2, (1, 1)), (3, (2, 1)), (15, (8, 7)), (17, (8, 8))]
)
def test_no_class_is_at_both_ends(cache_of, classes, ends):
    # Class n has n right of all its queries.
    rows, labels, parts = [], [], []
    for n in range(classes):
        axis = np.eye(classes + 1)[n]
        rows += [axis] + [axis] * n + [np.eye(classes + 1)[-1]] * (classes - n)
        labels += [f"{n:02}"] * (classes + 1)
        parts += ["train"] + ["test"] * classes
    rows.append(np.eye(classes + 1)[-1])
    section, found, _ = made(cache_of(np.array(rows), [*labels, "other"], [*parts, "train"]))
    assert [c["recall"] for c in found] == pytest.approx([n / classes for n in range(classes)])
    _, worst, best = section["views"]
    assert (len(worst["groups"]), len(best["groups"])) == ends
    titles = [group["title"] for group in worst["groups"] + best["groups"]]
    assert len(set(titles)) == len(titles)


def test_broken_embeddings_are_left_out(cache_of):
    rows = np.random.default_rng(0).normal(size=(12, 4))
    rows[[2, 5, 7]] = [[np.nan] * 4, [np.inf, 0, 0, 0], [0, -np.inf, np.nan, 1]]
    broken = {"v2", "v5", "v7"}
    section, classes, ids = made(cache_of(rows, ["a", "b"] * 6, ["test"] * 6 + ["train"] * 6))
    assert (section["queries"], section["among"]) == (4, 5)
    assert sum(c["queries"] for c in classes) == 4
    assert not broken & set(ids)
    section, _, ids = made(cache_of(rows))
    assert (section["queries"], section["among"]) == (9, 8)
    assert not broken & set(ids)
    assert made(cache_of(np.full((3, 4), np.nan)))[:2] == (None, [])
