"""All pairs of a cluster: against a loop over pairs, and by hand."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from slic.errors import InputError
from slic.train.losses import all_pairs_triplet_loss


def distance(a: Tensor, b: Tensor) -> float:
    return 1 - cosine_similarity(a, b, dim=0).item()


def naive(
    entries: Tensor, labels: Tensor, margin: float, uniforms: Tensor
) -> tuple[float, dict[tuple[int, int], tuple[int, bool]]]:
    """Mean loss, and of each pair its negative and whether that was the fallback."""
    terms, chosen = [], {}
    for i in range(len(entries)):
        others = sorted(
            (distance(entries[i], entries[k]), k)
            for k in range(len(entries))
            if labels[k] != labels[i]
        )
        for j in range(i + 1, len(entries)):
            if labels[j] != labels[i] or not others:
                continue
            near = distance(entries[i], entries[j])
            within = [k for d, k in others if d <= near + margin]
            negative = within[int(uniforms[i, j] * len(within))] if within else others[0][1]
            chosen[i, j] = (negative, not within)
            terms.append(max(0.0, near - distance(entries[i], entries[negative]) + margin))
    return sum(terms) / len(terms) if terms else 0.0, chosen


@pytest.mark.parametrize("margin", [0.0, 0.2, 3.0, -3.0])
@pytest.mark.parametrize("clusters", [1, 2, 5, 20])
def test_agrees_with_a_loop_over_pairs(clusters: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(clusters)
    entries = torch.randn(20, 6, generator=generator)
    labels = torch.arange(20) * 7 % clusters - 1
    uniforms = torch.rand(20, 20, generator=generator)
    found = all_pairs_triplet_loss(entries, labels, margin=margin, uniforms=uniforms)
    loss, chosen = naive(entries, labels, margin, uniforms)
    assert found.loss.item() == pytest.approx(loss, abs=1e-6)
    valid = {(int(i), int(j)) for i, j in found.valid.nonzero()}
    assert valid == set(chosen)
    for pair, (negative, fallback) in chosen.items():
        assert (int(found.negative[pair]), bool(found.fallback[pair])) == (negative, fallback)


def test_two_views_of_one_sample_are_a_pair_by_hand() -> None:
    # Entries 0 and 2 are alike, 1 stands at a right angle: loss 0 - 1 + 1.2 for the one pair.
    entries = torch.tensor([[1.0, 0], [0, 1], [2, 0]], requires_grad=True)
    found = all_pairs_triplet_loss(entries, torch.tensor([4, 9, 4]), margin=1.2)
    assert found.pairs.nonzero().tolist() == [[0, 2]]
    assert found.loss.item() == pytest.approx(0.2)
    found.loss.backward()
    assert entries.grad is not None
    assert entries.grad.any()


def test_one_cluster_has_no_triplet() -> None:
    found = all_pairs_triplet_loss(torch.eye(4).requires_grad_(), torch.zeros(4))
    assert (found.loss.item(), bool(found.valid.any()), int(found.pairs.sum())) == (0, False, 6)
    found.loss.backward()


def test_gradients_agree_with_finite_differences() -> None:
    entries = torch.randn(8, 5, dtype=torch.float64, requires_grad=True)
    uniforms = torch.rand(8, 8)

    def loss(rows: Tensor) -> Tensor:
        return all_pairs_triplet_loss(rows, torch.arange(8) % 3, margin=0.5, uniforms=uniforms).loss

    assert torch.autograd.gradcheck(loss, entries)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(E, D\) and \(E,\)"):
        all_pairs_triplet_loss(torch.zeros(4, 2), torch.zeros(3))
