import math
from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from slic.errors import InputError
from slic.train.losses import (
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)


def at_angles(*degrees: float, dtype: torch.dtype = torch.float32) -> Tensor:
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack((radians.cos(), radians.sin()), dim=1).to(dtype)


def cos(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def gaussians(seed: int, *, views: int = 3, batch: int = 12, width: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return list(torch.randn(views, batch, width, generator=generator))


def naive_infonce(views: list[Tensor], labels: Tensor, temperature: float) -> float:
    entries = [(i, view[i].double()) for view in views for i in range(len(view))]
    terms = []
    for (i, query), (j, other) in permutations(entries, 2):
        negatives = [e for k, e in entries if labels[k] != labels[i]]
        if i == j and negatives:
            near, *far = (
                math.exp(cosine_similarity(query, e, dim=0).item() / temperature)
                for e in (other, *negatives)
            )
            terms.append(-math.log(near / (near + sum(far))))
    return sum(terms) / len(terms) if terms else 0.0


def test_triplet_loss_by_hand():
    # Positive 30 degrees off; negatives 40, 90 and 10: the middle one is beyond the margin.
    anchor, positive = at_angles(0, 0, 0), at_angles(30, -30, 30)
    loss = instance_triplet_loss(anchor, positive, at_angles(40, 90, 10), margin=0.2)
    expected = (cos(40) - cos(30) + 0.2 + 0 + cos(10) - cos(30) + 0.2) / 3
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert loss.shape == ()


def test_triplet_loss_agrees_with_a_naive_loop():
    anchor, positive, negative = gaussians(0)
    for margin in (0.0, 0.2, 1.0):
        total = 0.0
        for a, p, n in zip(anchor, positive, negative, strict=True):
            near, far = (1 - cosine_similarity(a, other, dim=0) for other in (p, n))
            total += max(0.0, (near - far + margin).item())
        loss = instance_triplet_loss(anchor * 7, positive, negative * 0.1, margin=margin)
        assert loss.item() == pytest.approx(total / len(anchor), abs=1e-6)


def test_the_papers_margins_are_the_defaults():
    same = at_angles(5, 80)
    assert instance_triplet_loss(same, same, same).item() == pytest.approx(0.2)
    assert temporal_discrimination_loss(same, same, same).item() == pytest.approx(0.04)


def test_only_valid_triplets_count():
    anchor, positive, negative = gaussians(1)
    valid = torch.arange(12) % 3 == 0
    loss = instance_triplet_loss(anchor, positive, negative, valid=valid)
    alone = instance_triplet_loss(anchor[valid], positive[valid], negative[valid])
    torch.testing.assert_close(loss, alone)
    assert loss.item() != instance_triplet_loss(anchor, positive, negative).item()


def test_no_valid_triplet_gives_zero_with_a_graph():
    anchor, positive, negative = (part.requires_grad_() for part in gaussians(2))
    none = torch.zeros(12, dtype=torch.bool)
    loss = instance_triplet_loss(anchor, positive, negative, valid=none)
    loss.backward()
    assert loss.item() == 0
    assert anchor.grad is not None
    assert not anchor.grad.any()


def test_temporal_loss_by_hand():
    # The second view at 20 degrees, the positive at 40 (satisfied) and at 10 (not).
    loss = temporal_discrimination_loss(at_angles(0, 0), at_angles(20, 20), at_angles(40, 10))
    assert loss.item() == pytest.approx((0 + cos(10) - cos(20) + 0.04) / 2, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("clusters", [1, 2, 5, 12])
@pytest.mark.parametrize("count", [2, 3])
def test_infonce_agrees_with_a_naive_loop(clusters, temperature, count):
    views, labels = gaussians(clusters)[:count], torch.arange(12) * 5 % clusters
    given = (*views, *[None] * (3 - count))
    loss = pseudo_label_infonce(*given, labels, temperature=temperature)
    expected = naive_infonce(views, labels, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_infonce_by_hand():
    # Two samples at right angles, views alike: each of the 12 pairs has similarity 1 to its
    # positive and 0 to three negatives.
    views = [torch.eye(2)] * 3
    loss = pseudo_label_infonce(*views, torch.tensor([4, 9]), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(1 + 3 * math.exp(-2)), abs=1e-6)


def test_infonce_of_one_cluster_is_zero_with_a_graph():
    views = [view.requires_grad_() for view in gaussians(3)]
    loss = pseudo_label_infonce(*views, torch.zeros(12, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert all(torch.equal(view.grad, torch.zeros_like(view)) for view in views)


def test_infonce_at_low_temperature_stays_finite():
    views = [view.requires_grad_() for view in gaussians(4)]
    loss = pseudo_label_infonce(*views, torch.arange(12), temperature=1e-3)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(view.grad).all() for view in views)


LOSSES = {
    "triplet": lambda a, b, c: instance_triplet_loss(a, b, c, margin=0.3),
    "temporal": lambda a, b, c: temporal_discrimination_loss(a, b, c, margin=0.3),
    "infonce": lambda a, b, c: pseudo_label_infonce(a, b, c, torch.arange(len(a)) // 2),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@each_loss
def test_gradients_agree_with_finite_differences(loss):
    views = [view[:5].double().requires_grad_() for view in gaussians(11)]
    assert torch.autograd.gradcheck(loss, views)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    views = [(100 * view).to(dtype) for view in gaussians(5)]  # squares overflow float16
    value = loss(*views)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*(view.float() for view in views)), rtol=0, atol=0)


@each_loss
def test_autocast_does_not_lower_the_precision(loss):
    views = gaussians(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*views)
    torch.testing.assert_close(value, loss(*views), rtol=0, atol=0)


@each_loss
@pytest.mark.parametrize("scale", [0.0, 1e-30])
def test_zero_vectors_give_finite_values_and_no_gradient_of_their_own(loss, scale):
    views = gaussians(9)
    for view in views:
        view[0] *= scale
        view.requires_grad_()
    value = loss(*views)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(view.grad).all() for view in views)
    assert not any(view.grad[0].any() for view in views)
    assert all(view.grad[1:].any() for view in views)


@pytest.mark.slow
@each_loss
def test_losses_compile_without_a_graph_break(loss):
    views = gaussians(10)
    compiled = torch.compile(loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*views), loss(*views))


@each_loss
def test_shapes_that_would_broadcast_are_refused(loss):
    first, second, third = gaussians(0)
    with pytest.raises(InputError, match=r"must share one shape \(B, D\)"):
        loss(first, second[:1], third)


def test_infonce_refuses_labels_of_another_length():
    with pytest.raises(InputError, match=r"labels must be \(12,\), got \(5,\)"):
        pseudo_label_infonce(*gaussians(0), torch.arange(5))
