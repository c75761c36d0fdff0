import contextlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from slic.config import make_settings
from slic.encoders.encoder import Encoder, new_encoder, normalise
from slic.engine.distributed import SINGLE
from slic.engine.forward import ComputeOptions, make_forward
from slic.engine.profile import Profile
from slic.train.losses import (
    all_pairs_triplet_loss,
    instance_triplet_loss,
    pseudo_label_infonce,
    temporal_discrimination_loss,
)
from slic.train.methods.slic import SLIC, batch_loss
from slic.train.negatives import BatchLabels, batch_labels, select_negatives
from slic.train.sampling import VideoTriplet, false_positive_rate

CPU = torch.device("cpu")
OFF = Profile(CPU, enabled=False)
TRIPLET = make_settings(
    "cpu-small", options={"objective": "triplet", "frames": 4, "size": 16, "temporal_weight": 0.5}
)
INFONCE = replace(TRIPLET, objective="infonce")
B = 6
LABELS = BatchLabels(
    cluster=torch.tensor([0, 0, 1, 1, 2, 3]),
    anchor=torch.tensor([5, 5, 5, -1, 7, 5]),
    positive=torch.tensor([5, 7, -1, 7, 7, 5]),
)


@pytest.fixture
def encoder() -> Encoder:
    return new_encoder("small", seed=0).train()


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, B, 4, 16, 16, 3), dtype=torch.uint8, generator=generator)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def step_loss(forward, clips, labels, *, settings, generator):
    """The loss of a batch, with the method's own pass of all clips through one forward."""
    at: Any = SimpleNamespace(forward=forward, profile=OFF, ranks=SINGLE)
    anchor, positive, second = SLIC.project(at, clips, len(labels.cluster))
    return batch_loss((anchor, positive, second), labels, settings=settings, generator=generator)


def stepped(encoder, clips, *, labels=LABELS, settings=TRIPLET):
    forward = make_forward(encoder, ComputeOptions(CPU), "fp32")
    loss, sums = step_loss(forward, clips, labels, settings=settings, generator=generator())
    assert all(value.dtype == torch.float64 and value.ndim == 0 for value in sums.values())
    return loss, {name: float(value) for name, value in sums.items()}


def embedded(clips: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The projections of a fresh encoder, all clips in one forward."""
    fresh = new_encoder("small", seed=0).train()
    everything = torch.cat([clips[0], clips[1], clips[2]])
    with torch.no_grad():
        projection = fresh(normalise(everything, device=CPU))[1]
    return projection[:B], projection[B : 2 * B], projection[2 * B :]


def sample(anchor: str, positive: str) -> VideoTriplet:
    return VideoTriplet(anchor, 0, positive, 0, False, False, seed=0)


def test_the_triplet_step_composes_selection_and_both_losses(encoder, clips):
    loss, sums = stepped(encoder, clips)
    loss = loss.detach()
    anchor, positive, second = embedded(clips)
    chosen = select_negatives(anchor, positive, LABELS.cluster, margin=0.2, generator=generator())
    negative = torch.cat((anchor, positive))[chosen.index]
    instance = instance_triplet_loss(anchor, positive, negative, margin=0.2)
    temporal = temporal_discrimination_loss(anchor, second, positive, margin=0.04)
    assert float(loss) == pytest.approx(float(instance + 0.5 * temporal), abs=1e-6)
    assert sums["instance_loss"] == pytest.approx(B * float(instance), abs=1e-5)
    assert sums["temporal_loss"] == pytest.approx(B * float(temporal), abs=1e-5)
    assert sums["loss"] == pytest.approx(B * float(loss), abs=1e-5)
    assert (sums["skipped"], sums["fallback"]) == (0, float(chosen.fallback.sum()))


def test_the_infonce_step_is_infonce_of_the_three_views(encoder, clips):
    loss, sums = stepped(encoder, clips, settings=INFONCE)
    loss = loss.detach()
    expected = pseudo_label_infonce(*embedded(clips), LABELS.cluster, temperature=0.1)
    assert float(loss) == pytest.approx(float(expected), abs=1e-5)
    assert sums["loss"] == pytest.approx(B * float(expected), abs=1e-4)
    assert sums["skipped"] == 0


def test_false_negatives_of_triplets_are_those_of_a_plain_loop(encoder, clips):
    _, sums = stepped(encoder, clips)
    anchor, positive, _ = embedded(clips)
    index = select_negatives(anchor, positive, LABELS.cluster, generator=generator()).index
    mine, theirs = LABELS.anchor.tolist(), [*LABELS.anchor.tolist(), *LABELS.positive.tolist()]
    pairs = [(mine[i], theirs[j]) for i, j in enumerate(index.tolist())]
    known = [(a, b) for a, b in pairs if a >= 0 and b >= 0]
    assert sums["negatives"] == len(known)
    assert sums["false_negatives"] == sum(a == b for a, b in known)


def test_false_negatives_of_infonce_are_those_of_a_plain_loop(encoder, clips):
    _, sums = stepped(encoder, clips, settings=INFONCE)
    count = false = 0
    for i in range(B):
        for j in range(B):
            for theirs in (LABELS.anchor[j], LABELS.positive[j]):
                if LABELS.cluster[i] != LABELS.cluster[j] and LABELS.anchor[i] >= 0 <= theirs:
                    count += 1
                    false += int(LABELS.anchor[i] == theirs)
    assert (sums["negatives"], sums["false_negatives"]) == (count, false)
    assert 0 < false < count


@pytest.mark.parametrize("settings", [TRIPLET, INFONCE], ids=["triplet", "infonce"])
def test_a_batch_of_one_cluster_is_skipped_and_stays_finite(encoder, clips, settings):
    labels = replace(LABELS, cluster=torch.zeros(B, dtype=torch.int64))
    loss, sums = stepped(encoder, clips, labels=labels, settings=settings)
    assert torch.isfinite(loss)
    assert sums["skipped"] == B
    assert (sums["negatives"], sums["false_negatives"]) == (0, 0)
    if settings is TRIPLET:
        assert sums["instance_loss"] == 0
        assert sums["loss"] == pytest.approx(0.5 * sums["temporal_loss"])
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())


@pytest.mark.parametrize("settings", [TRIPLET, INFONCE], ids=["triplet", "infonce"])
def test_gradients_reach_every_weight(encoder, clips, settings):
    loss, _ = stepped(encoder, clips, settings=settings)
    loss.backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().sum() > 0, name


def test_a_single_sample_is_skipped(encoder, clips):
    one = BatchLabels(*(part[:1] for part in (LABELS.cluster, LABELS.anchor, LABELS.positive)))
    for settings in (TRIPLET, INFONCE):
        loss, sums = stepped(encoder, clips[:, :1], labels=one, settings=settings)
        assert torch.isfinite(loss)
        assert sums["skipped"] == 1


def test_labels_are_looked_up_by_video():
    clusters = {"c": 2, "a": 0, "b": 1}
    truth = {"b": 20, "a": 10}
    labels = batch_labels([sample("b", "a"), sample("a", "c"), sample("c", "b")], clusters, truth)
    assert labels.cluster.tolist() == [1, 0, 2]
    assert labels.anchor.tolist() == [20, 10, -1]
    assert labels.positive.tolist() == [10, -1, 20]
    assert labels.cluster.dtype == torch.int64


def test_false_positives_count_known_labels_of_other_videos_only():
    truth = {"a": 1, "b": 1, "c": 2}
    pairs = [("a", "a"), ("a", "b"), ("a", "c"), ("c", "b"), ("a", "x"), ("x", "a"), ("x", "x")]
    assert false_positive_rate([[sample(*pair) for pair in pairs]], truth) == 2 / 3
    assert false_positive_rate([[sample("a", "b")]], {}) is None


class Waits(TorchDispatchMode):
    """Refuses a copy to a device that the host would wait for."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        copies = function is torch.ops.aten._to_copy.default and args[0].device.type == "cpu"
        moved = copies and torch.device(kwargs.get("device") or "cpu").type != "cpu"
        assert kwargs.get("non_blocking") or not moved, "waits for the device"
        return function(*args, **kwargs)


@pytest.mark.parametrize("settings", [TRIPLET, INFONCE])
def test_a_step_never_waits_for_the_device(settings, monkeypatch):
    """A device without values: whatever needs one on the host fails."""
    meta = torch.device("meta")
    monkeypatch.setattr(torch, "autocast", lambda *_, **how: contextlib.nullcontext())
    encoder = new_encoder("small", seed=0).to(meta).train()
    clips = torch.empty((3, B, 4, 16, 16, 3), dtype=torch.uint8, device=meta)
    forward = make_forward(encoder, ComputeOptions(meta), "fp32")
    with Waits():
        loss, sums = step_loss(forward, clips, LABELS, settings=settings, generator=generator())
        loss.backward()
    assert all(value.device == meta for value in sums.values())
    with pytest.raises(AssertionError), Waits():
        torch.ones(2).to(meta)


def test_all_pairs_of_a_cluster_make_triplets(encoder, clips):
    settings = replace(TRIPLET, pairs="all")
    loss, sums = stepped(encoder, clips, settings=settings)
    anchor, positive, second = embedded(clips)
    found = all_pairs_triplet_loss(
        torch.cat((anchor, positive)), LABELS.cluster.repeat(2), margin=0.2, generator=generator()
    )
    temporal = temporal_discrimination_loss(anchor, second, positive, margin=0.04)
    assert float(loss.detach()) == pytest.approx(float(found.loss + 0.5 * temporal), abs=1e-6)
    # Two clusters of two samples have 6 pairs each among their four entries, two of one sample 1.
    assert int(found.pairs.sum()) == 14
    truth, count = torch.cat((LABELS.anchor, LABELS.positive)), [0, 0]
    for i, j in found.valid.nonzero().tolist():
        mine, theirs = int(truth[i]), int(truth[found.negative[i, j]])
        count[0] += mine >= 0 and theirs >= 0
        count[1] += mine >= 0 and mine == theirs
    assert (sums["negatives"], sums["false_negatives"]) == tuple(count)
    assert sums["skipped"] == 0
    one = replace(LABELS, cluster=torch.zeros(B, dtype=torch.int64))
    assert stepped(encoder, clips, labels=one, settings=settings)[1]["skipped"] == 66


def test_without_the_temporal_loss_infonce_leaves_the_second_view_out(encoder, clips):
    settings = replace(INFONCE, temporal_weight=0.0)
    anchor, positive, second = embedded(clips)
    loss = float(stepped(encoder, clips, settings=settings)[0].detach())
    two = pseudo_label_infonce(anchor, positive, None, LABELS.cluster, temperature=0.1)
    three = pseudo_label_infonce(anchor, positive, second, LABELS.cluster, temperature=0.1)
    assert loss == pytest.approx(float(two), abs=1e-5)
    assert abs(float(two) - float(three)) > 1e-3
