import numpy as np
import pytest

from slic.errors import InputError, WorkError
from slic.neighbours.exact import first_neighbours, nearest


def at_angles(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack((np.cos(radians), np.sin(radians)), axis=1)


def naive_order(queries: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Full stable sort of the float64 cosine matrix."""
    q = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    g = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    similarity = q @ g.T
    order = np.argsort(-similarity, axis=1, kind="stable")
    return np.take_along_axis(similarity, order, axis=1), order


def test_nearest_by_hand():
    # Lengths differ on purpose: only angles count.
    gallery = at_angles(0, 30, 90, 180) * np.array([[5], [0.1], [2], [1]])
    similarity, index = nearest(at_angles(20, 170), gallery, k=3)
    assert index.tolist() == [[1, 0, 2], [3, 2, 1]]  # 10, 20, 70 degrees off; 10, 80, 140
    expected = np.cos(np.deg2rad([[10, 20, 70], [10, 80, 140]]))
    np.testing.assert_allclose(similarity, expected, atol=1e-6)
    assert similarity.dtype == np.float32
    assert index.dtype == np.int64


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
def test_nearest_agrees_with_a_full_sort_at_every_block_size(block):
    random = np.random.default_rng(0)
    queries, gallery = random.normal(size=(64, 16)), random.normal(size=(301, 16))
    similarity, index = nearest(queries, gallery, k=10, block=block)
    expected, order = naive_order(queries, gallery)
    np.testing.assert_array_equal(index, order[:, :10])
    np.testing.assert_allclose(similarity, expected[:, :10], atol=1e-6)


def test_equal_similarities_are_ordered_by_gallery_index():
    gallery = np.eye(4)[[2, 0, 1, 0, 3, 0]]
    similarity, index = nearest(np.eye(4)[:1], gallery, k=6)
    assert index.tolist() == [[1, 3, 5, 0, 2, 4]]
    assert similarity.tolist() == [[1, 1, 1, 0, 0, 0]]


def test_k_is_clipped_to_the_gallery():
    similarity, index = nearest(at_angles(10, 20), at_angles(0, 90), k=50)
    assert index.tolist() == [[0, 1], [0, 1]]
    assert similarity.shape == (2, 2)


def test_a_zero_vector_is_similar_to_nothing():
    similarity, index = nearest(np.array([[0.0, 0], [1, 0]]), np.array([[0.0, 0], [-1, 0]]), k=2)
    assert similarity.tolist() == [[0, 0], [0, -1]]
    assert index.tolist() == [[0, 1], [0, 1]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
def test_any_dtype_and_layout_and_the_input_is_left_alone(dtype):
    rows = np.asfortranarray(np.array([[3, 0, 4], [0, 2, 0], [4, 0, 3]], dtype=dtype))
    before = rows.copy()
    similarity, index = nearest(rows[::-1], rows, k=1)
    assert index[:, 0].tolist() == [2, 1, 0]
    np.testing.assert_allclose(similarity, 1, atol=1e-6)
    np.testing.assert_array_equal(rows, before)


def test_very_long_and_very_short_rows_keep_their_direction():
    rows = np.array([[3e30, 4e30], [3e-30, 4e-30], [4.0, -3.0]], dtype=np.float32)
    similarity, _ = nearest(rows[:1], rows, k=3)
    np.testing.assert_allclose(similarity, [[1, 1, 0]], atol=1e-6)


def test_no_queries_give_no_rows():
    similarity, index = nearest(np.empty((0, 2)), at_angles(0, 1), k=2)
    assert similarity.shape == index.shape == (0, 2)


def test_first_neighbours_by_hand():
    assert first_neighbours(at_angles(0, 10, 25, 90, 100)).tolist() == [1, 0, 1, 4, 3]


def test_first_neighbours_agree_with_a_naive_loop():
    rows = np.random.default_rng(1).normal(size=(200, 8))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    expected = []
    for i in range(len(unit)):
        others = [(float(unit[i] @ unit[j]), j) for j in range(len(unit)) if j != i]
        expected.append(max(others)[1])
    assert first_neighbours(rows, block=33).tolist() == expected


@pytest.mark.parametrize("copies", [2, 3, 7, 60])
def test_a_duplicated_row_never_is_its_own_neighbour(copies):
    angles = np.repeat([0.0, 50.0, 120.0], copies)
    neighbour = first_neighbours(at_angles(*angles))
    assert (neighbour != np.arange(len(angles))).all()
    np.testing.assert_array_equal(angles[neighbour], angles)


def test_rows_of_zeros_have_another_row_as_neighbour():
    neighbour = first_neighbours(np.zeros((5, 3)))
    assert (neighbour != np.arange(5)).all()
    assert ((neighbour >= 0) & (neighbour < 5)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_rows_that_are_not_finite_are_counted(bad):
    rows = np.ones((5, 3))
    rows[1, 0] = rows[4, 2] = bad
    with pytest.raises(WorkError, match="2 of 5 rows of gallery hold NaN or infinity"):
        nearest(np.ones((1, 3)), rows, k=1)
    with pytest.raises(WorkError, match="2 of 5 rows of embeddings"):
        first_neighbours(rows)


@pytest.mark.parametrize(
    ("queries", "gallery", "k", "message"),
    [
        ((2, 3), (4, 5), 1, "queries have 3 dimensions and the gallery 5"),
        ((2, 3), (0, 3), 1, "the gallery is empty"),
        ((2, 3), (4, 3), 0, "got k=0"),
        ((3,), (4, 3), 1, r"queries must have shape \(N, D\), got \(3,\)"),
        ((2, 0), (4, 0), 1, r"got \(2, 0\)"),
    ],
)
def test_what_cannot_be_searched_is_refused(queries, gallery, k, message):
    with pytest.raises(InputError, match=message):
        nearest(np.ones(queries), np.ones(gallery), k=k)


def test_one_row_has_no_first_neighbour():
    with pytest.raises(InputError, match="two rows or more, got 1"):
        first_neighbours(np.ones((1, 3)))
