from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from slic.errors import InputError
from slic.train.losses import (
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)
from slic.train.negatives import Negatives, candidates, select_negatives


def at_angles(*degrees: float) -> Tensor:
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack((radians.cos(), radians.sin()), dim=1)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(chosen: Negatives) -> list[tuple[int, bool, bool]]:
    columns = (chosen.index, chosen.valid, chosen.fallback)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def naive(
    anchor: Tensor, positive: Tensor, labels: Tensor, margin: float, uniforms: Tensor
) -> list[tuple[int, bool, bool]]:
    """One anchor at a time, over (label, embedding, index into the 2B)."""
    pool = [(int(labels[j % len(labels)]), e, j) for j, e in enumerate([*anchor, *positive])]
    result = []
    for i, x in enumerate(anchor):
        limit = 1 - cosine_similarity(x, positive[i], dim=0).item() + margin
        others = [
            (1 - cosine_similarity(x, e, dim=0).item(), j)
            for label, e, j in pool
            if label != int(labels[i])
        ]
        near = [j for distance, j in others if distance <= limit]
        if near:
            result.append((near[int(uniforms[i].item() * len(near))], True, False))
        elif others:
            result.append((min(others)[1], True, True))
        else:
            result.append((i, False, False))
    return result


def test_candidates_are_anchors_then_positives():
    assert candidates(torch.zeros(2, 3), torch.ones(2, 3))[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.2, 3.0])
@pytest.mark.parametrize("clusters", [1, 2, 6, 24])
def test_agrees_with_a_naive_loop(clusters, margin):
    generator = seeded(clusters)
    anchor, noise = torch.randn(2, 24, 6, generator=generator)
    positive = anchor + 0.3 * noise
    labels = torch.randint(clusters, (24,), generator=generator) - 3
    uniforms = torch.rand(24, generator=generator)
    chosen = select_negatives(anchor, positive, labels, margin=margin, uniforms=uniforms)
    assert rows(chosen) == naive(anchor, positive, labels, margin, uniforms)
    assert chosen.index.dtype == torch.int64
    assert chosen.valid.dtype == chosen.fallback.dtype == torch.bool


def test_the_margin_itself_is_within():
    # Exact in float32: the negative at a right angle is at distance 1 = 0 + 1.
    anchor = positive = torch.eye(2)
    chosen = select_negatives(anchor, positive, torch.arange(2), margin=1.0, generator=seeded(0))
    assert not chosen.fallback.any()
    below = select_negatives(anchor, positive, torch.arange(2), margin=0.99, generator=seeded(0))
    assert below.fallback.all()


def test_the_fallback_points_into_the_whole_batch_by_hand():
    # Samples 0 to 2 share a cluster at 0 degrees with positives on top of them, so that nothing
    # of the other cluster lies within the margin (at most 36.9 degrees). The nearest of the
    # other cluster is sample 4's positive at 80, index 5 + 4 = 9 of all ten candidates; it is
    # the fourth among the four of the other cluster alone (an index that means sample 3).
    anchor = at_angles(0, 1, 2, 100, 120)
    positive = at_angles(0, 1, 2, 90, 80)
    labels = torch.tensor([7, 7, 7, 2, 2])
    chosen = select_negatives(anchor, positive, labels, generator=seeded(0))
    assert rows(chosen)[:3] == [(9, True, True)] * 3
    # Sample 3's limit is 0.2 about 100 degrees, sample 4's 0.434 (55.5 degrees) about 120:
    # neither reaches the cluster at 0 to 2; the nearest of it is sample 2's anchor, index 2.
    assert rows(chosen)[3:] == [(2, True, True)] * 2


def test_the_same_seed_draws_the_same():
    anchor, positive = torch.randn(2, 32, 8, generator=seeded(1))
    labels = torch.arange(32) % 8
    draw = [
        select_negatives(anchor, positive, labels, margin=1.0, generator=seeded(s)).index
        for s in (3, 3, 4)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    uniforms = torch.rand(32, generator=seeded(3))
    given = select_negatives(anchor, positive, labels, margin=1.0, uniforms=uniforms)
    assert torch.equal(given.index, draw[0])


@pytest.mark.parametrize("samples", [2, 3, 4, 6, 100, 513])
def test_the_largest_and_smallest_uniforms_stay_in_range(samples):
    # The largest float32 below 1 times the number of candidates must not round up to it.
    anchor, labels = torch.ones(samples, 2), torch.arange(samples)
    largest = torch.full((samples,), 1 - 2**-24)
    last = select_negatives(anchor, anchor, labels, uniforms=largest).index
    assert last.tolist() == [2 * samples - 1] * (samples - 1) + [2 * samples - 2]
    first = select_negatives(anchor, anchor, labels, uniforms=torch.zeros(samples)).index
    assert first.tolist() == [1] + [0] * (samples - 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    anchor, positive = (100 * torch.randn(2, 16, 512, generator=seeded(2))).to(dtype)
    labels, uniforms = torch.arange(16) % 4, torch.rand(16, generator=seeded(5))
    half = select_negatives(anchor, positive, labels, uniforms=uniforms)
    full = select_negatives(anchor.float(), positive.float(), labels, uniforms=uniforms)
    assert rows(half) == rows(full)


def test_autocast_does_not_lower_the_precision():
    # The negatives' similarities differ by 1e-4, which bfloat16 cannot tell apart.
    anchor = at_angles(0, 89.99, 89.98, 89.97).to(torch.float32)
    positive = at_angles(0, 89.996, 89.99, 89.98)
    labels = torch.tensor([0, 1, 1, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        chosen = select_negatives(anchor, positive, labels, generator=seeded(0))
    assert rows(chosen)[0] == (3, True, True)


def test_zero_vectors_are_at_distance_one_from_all():
    anchor = torch.tensor([[0.0, 0], [1, 0], [0, 1]])
    positive = torch.tensor([[0.0, 0], [1, 0], [0, 0]])
    uniforms = torch.zeros(3)
    chosen = select_negatives(anchor, positive, torch.arange(3), uniforms=uniforms)
    # 0: distance 1 to its positive and to all, so the first other; 1: all others at 1 > 0.2,
    # the first of the nearest; 2: its positive is at 1, so the first other at 1 is within.
    assert rows(chosen) == [(1, True, False), (0, True, True), (0, True, False)]


class NoHostReads(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: values read, and shapes that depend on values."""

    REFUSED = frozenset({"_local_scalar_dense", "nonzero", "_unique2", "masked_select", "equal"})

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        masks = func.overloadpacket.__name__ in ("index", "index_put_") and any(
            part is not None and part.dtype == torch.bool for part in args[1]
        )
        if masks or func.overloadpacket.__name__ in self.REFUSED:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("clusters", [1, 3])
def test_selection_and_losses_do_not_wait_for_the_device(clusters):
    anchor, positive, augmented = torch.randn(3, 10, 4, generator=seeded(0)).requires_grad_()
    labels = torch.arange(10) % clusters
    with NoHostReads():
        chosen = select_negatives(anchor, positive, labels, generator=seeded(1))
        negative = candidates(anchor, positive)[chosen.index]
        instance = instance_triplet_loss(anchor, positive, negative, valid=chosen.valid)
        temporal = temporal_discrimination_loss(anchor, augmented, positive)
        contrast = pseudo_label_infonce(anchor, positive, augmented, labels)
        (instance + temporal + contrast).backward()
    assert torch.isfinite(instance + temporal + contrast)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"labels \(2,\) must be"):
        select_negatives(torch.ones(3, 2), torch.ones(3, 2), torch.arange(2))
    with pytest.raises(InputError, match=r"positive \(1, 2\)"):
        select_negatives(torch.ones(3, 2), torch.ones(1, 2), torch.arange(3))
