import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from slic.page.videos import Videos
from slic.report.embedding_map import embedding_map


def drawn(cache, *, sample: int = 3000, seed: int = 0, feature="backbone"):
    videos = Videos(None, [], split=1, clusters={}, cache=cache)
    videos.row_of("another")
    section = embedding_map(cache, videos, sample=sample, seed=seed, feature=feature)
    return section, videos.ids


def check(section) -> np.ndarray:
    points = np.array([section["x"], section["y"]]).T
    assert points.shape == (len(section["videos"]), 2)
    assert np.isfinite(points).all()
    assert points.min() >= 0
    assert points.max() <= 1
    return points


def test_neighbours_stay_neighbours(cache_of):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 120)
    rows = 4 * rng.normal(size=(4, 16))[truth] + rng.normal(size=(120, 16))
    section, ids = drawn(cache_of(rows))
    points = check(section)
    assert [ids[row] for row in section["videos"]] == [f"v{n}" for n in range(120)]
    assert trustworthiness(rows, points, metric="cosine", n_neighbors=5) > 0.9
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    assert np.mean(truth[distance.argmin(axis=1)] == truth) > 0.9
    # The longer side is used in full.
    assert np.ptp(points, axis=0).max() == pytest.approx(1, abs=2e-4)


def test_both_axes_have_one_scale(cache_of, monkeypatch):
    places = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0], [4.0, 1.0]])
    monkeypatch.setattr("slic.report.embedding_map.layout", lambda unit, *, seed: places)
    points = check(drawn(cache_of(np.eye(4)))[0])
    np.testing.assert_allclose(points, places / 10 + (0, 0.25), atol=1e-4)


def test_a_sample_is_drawn_by_the_seed(cache_of):
    cache = cache_of(np.random.default_rng(0).normal(size=(50, 8)))
    section, ids = drawn(cache, sample=20, seed=3)
    check(section)
    shown = [ids[row] for row in section["videos"]]
    assert len(set(shown)) == 20
    assert "20 of 50 videos" in section["note"]
    assert drawn(cache, sample=20, seed=3) == (section, ids)
    assert drawn(cache, sample=20, seed=4)[1] != ids
    assert drawn(cache, sample=50)[0]["note"] == "All 50 videos."
    assert drawn(cache, sample=0)[0] is None


def test_feature(cache_of):
    cache = cache_of(np.random.default_rng(0).normal(size=(9, 5)))
    section, _ = drawn(cache, feature="projection")
    assert "projection" in section["method"]


@pytest.mark.parametrize(("count", "width"), [(4, 30), (5, 2), (11, 30)])
def test_any_number_of_points_of_any_kind(cache_of, count, width):
    rng = np.random.default_rng(count)
    rows = rng.normal(size=(count, width))
    near = rows[[0] * count] + 1e-7 * rng.normal(size=rows.shape)
    for other in (rows, rows[rng.integers(0, 2, count)], near):
        check(drawn(cache_of(other))[0])
    for equal in (rows[[0] * count], 0 * rows):
        assert (check(drawn(cache_of(equal))[0]) == 0.5).all()


def test_broken_embeddings_are_left_out(cache_of):
    rows = np.random.default_rng(0).normal(size=(10, 4))
    rows[4], rows[8, 1] = np.nan, np.inf
    section, ids = drawn(cache_of(rows))
    check(section)
    assert len(section["videos"]) == 8
    assert not {"v4", "v8"} & set(ids)
    assert "2 videos" in section["note"]
    assert drawn(cache_of(np.full((5, 4), np.nan)))[0] is None


def test_fewer_than_four_videos_are_no_map(cache_of):
    assert drawn(cache_of(np.eye(3)))[0] is None
