import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from slic.clips.positions import clip_span, random_start
from slic.clips.seeding import seeded
from slic.config import make_settings
from slic.train.sampling import VideoTriplet, disjoint_starts, draw_sample, plan_epoch
from slic.train.slic_settings import SlicSettings

SETTINGS = make_settings(
    "cpu-small", options={"frames": 4, "stride": 2, "batch_size": 5, "same_video": 0.3}
)
LENGTHS = {f"v{i:03d}": 5 + i for i in range(60)}
# Clusters of 1, 2, 3, ... videos, each of scattered ids.
CLUSTERS = {
    video: int((math.isqrt(8 * (37 * i % 60) + 1) - 1) / 2) for i, video in enumerate(LENGTHS)
}


def samples(
    lengths=LENGTHS, clusters=CLUSTERS, *, settings: SlicSettings = SETTINGS, epoch: int = 0
) -> list[VideoTriplet]:
    plan = plan_epoch(lengths, clusters, settings=settings, epoch=epoch)
    return [sample for batch in plan for sample in batch]


def by_anchor(drawn: list[VideoTriplet]) -> dict[str, VideoTriplet]:
    return {sample.anchor: sample for sample in drawn}


def within(count: int, n: int, p: float) -> bool:
    """Within four standard deviations of a binomial: a chance of 6e-5 to fail."""
    return abs(count - n * p) <= 4 * math.sqrt(n * p * (1 - p))


def overlap(starts: tuple[int, int], span: int) -> int:
    return max(0, span - abs(starts[0] - starts[1]))


@pytest.mark.parametrize("epoch", [0, 1, 17])
def test_every_video_is_an_anchor_once_an_epoch(epoch):
    assert sorted(s.anchor for s in samples(epoch=epoch)) == sorted(LENGTHS)


@pytest.mark.parametrize("videos", [2, 3, 5, 6, 11, 59, 60])
@pytest.mark.parametrize("batch_size", [2, 5, 7, 60, 1000])
def test_batches_are_even_and_none_is_too_large(videos, batch_size):
    lengths = dict(list(LENGTHS.items())[:videos])
    settings = replace(SETTINGS, batch_size=batch_size)
    plan = plan_epoch(lengths, CLUSTERS, settings=settings, epoch=0)
    sizes = [len(batch) for batch in plan]
    assert len(plan) == math.ceil(videos / batch_size)
    assert sum(sizes) == videos
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_positives_are_of_the_same_cluster():
    for epoch in range(20):
        for s in samples(epoch=epoch):
            assert CLUSTERS[s.anchor] == CLUSTERS[s.positive]
            assert s.from_other_video == (s.anchor != s.positive)


def test_a_cluster_of_one_takes_the_same_video():
    alone = {video: i for i, video in enumerate(LENGTHS)}
    assert not any(s.from_other_video for s in samples(clusters=alone))
    sizes = Counter(CLUSTERS.values())
    assert 1 in sizes.values()
    for s in samples(settings=replace(SETTINGS, same_video=0.0)):
        assert s.from_other_video == (sizes[CLUSTERS[s.anchor]] > 1)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1.0])
def test_same_video_and_flow_are_as_frequent_as_asked(p):
    together = dict.fromkeys(LENGTHS, 0)
    settings = replace(SETTINGS, same_video=p, flow_probability=p)
    drawn = [
        s for epoch in range(50) for s in samples(clusters=together, settings=settings, epoch=epoch)
    ]
    n = len(drawn)
    assert n == 3000
    assert within(sum(not s.from_other_video for s in drawn), n, p)
    assert within(sum(s.positive_flow for s in drawn), n, p)
    assert within(sum(s.second_flow for s in drawn), n, p)
    # Independently of each other.
    assert within(sum(s.positive_flow and s.second_flow for s in drawn), n, p * p)
    assert within(sum(s.positive_flow and not s.from_other_video for s in drawn), n, p * p)


def test_other_members_are_equally_likely():
    members = ["a", "b", "c", "d"]
    lengths = dict.fromkeys(members, 30)
    settings = replace(SETTINGS, same_video=0.0)
    for anchor in members:
        drawn = Counter(
            draw_sample(anchor, members, lengths, settings=settings, epoch=epoch).positive
            for epoch in range(900)
        )
        assert set(drawn) == set(members) - {anchor}
        assert all(within(count, 900, 1 / 3) for count in drawn.values())


def test_clips_lie_within_their_videos():
    span = clip_span(SETTINGS.frames, SETTINGS.stride)
    for epoch in range(20):
        for s in samples(epoch=epoch):
            for video, start in ((s.anchor, s.start), (s.positive, s.positive_start)):
                last = max(
                    LENGTHS[video] - span, LENGTHS[video] - 1 if LENGTHS[video] < span else 0
                )
                assert 0 <= start <= last


@pytest.mark.parametrize("span", [1, 2, 3, 7])
def test_two_clips_of_a_video_overlap_as_little_as_can_be(span):
    """Against all pairs of starts, for every length up to three spans and a bit."""
    for length in range(span, 3 * span + 3):
        possible = [(a, b) for a in range(length - span + 1) for b in range(length - span + 1)]
        least = min(overlap(pair, span) for pair in possible)
        assert (least == 0) == (length >= 2 * span)
        best = {pair for pair in possible if overlap(pair, span) == least}
        rng = np.random.default_rng(length)
        drawn = {disjoint_starts(length, span, rng) for _ in range(60 * len(best))}
        # Every pair that is good enough comes up, and no other.
        assert drawn == best


@pytest.mark.parametrize("length", [1, 2, 3, 6, 9])
def test_two_clips_of_a_video_shorter_than_a_clip_start_half_of_it_apart(length):
    span = 10
    rng = np.random.default_rng(0)
    for _ in range(50):
        first, second = disjoint_starts(length, span, rng)
        assert 0 <= first < length
        assert 0 <= second < length
        distance = (second - first) % length
        assert distance in {length // 2, length - length // 2} - {length}


def test_a_clip_lies_anywhere_with_equal_chance():
    rng = np.random.default_rng(0)
    starts = Counter(random_start(12, 8, rng) for _ in range(2000))
    assert sorted(starts) == [0, 1, 2, 3, 4]
    assert all(within(count, 2000, 0.2) for count in starts.values())
    assert {random_start(8, 8, rng) for _ in range(20)} == {0}
    # It wraps: any frame may be the first.
    assert {random_start(3, 8, rng) for _ in range(100)} == {0, 1, 2}


def test_the_plan_does_not_depend_on_the_order_of_videos():
    order = np.random.default_rng(0).permutation(sorted(LENGTHS))
    lengths = {str(v): LENGTHS[v] for v in order}
    clusters = {str(v): CLUSTERS[v] for v in reversed(order)}
    plan = plan_epoch(lengths, clusters, settings=SETTINGS, epoch=3)
    assert plan == plan_epoch(LENGTHS, CLUSTERS, settings=SETTINGS, epoch=3)


def test_numbers_of_clusters_do_not_matter():
    renamed = {video: 1000 - 7 * cluster for video, cluster in CLUSTERS.items()}
    assert samples(clusters=renamed) == samples()


def test_removing_a_video_leaves_the_draws_of_others_alone():
    settings = replace(SETTINGS, same_video=0.5)
    gone = "v010"
    lengths = {video: n for video, n in LENGTHS.items() if video != gone}
    clusters = {video: CLUSTERS[video] for video in lengths}
    before, after = (
        by_anchor(samples(settings=settings)),
        by_anchor(samples(lengths, clusters, settings=settings)),
    )
    assert after.keys() == lengths.keys()
    for video, sample in after.items():
        if CLUSTERS[video] != CLUSTERS[gone] or not before[video].from_other_video:
            assert sample == before[video]
        assert (sample.seed, sample.second_flow) == (before[video].seed, before[video].second_flow)


def test_epochs_and_seeds_differ():
    plans = [samples(epoch=epoch) for epoch in (0, 1, 2)]
    plans.append(samples(settings=replace(SETTINGS, seed=1)))
    orders = {tuple(s.anchor for s in plan) for plan in plans}
    assert len(orders) == 4
    for video in LENGTHS:
        assert len({by_anchor(plan)[video].seed for plan in plans}) == 4


def test_seeds_of_samples_are_distinct():
    drawn = [s.seed for epoch in range(20) for s in samples(epoch=epoch)]
    assert len(set(drawn)) == len(drawn)
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_a_seeded_generator_tells_its_parts_apart():
    draws = [seeded(*parts).random() for parts in ((1, 2), (12,), ("1", 2, ""), (2, 1), (1, 23))]
    assert len(set(draws)) == 5
    assert seeded(1, 2).random() == draws[0]
    # Pinned: runs of other machines and days continue with the same draws.
    assert seeded(0, 0, "order").permutation(5).tolist() == [4, 3, 2, 0, 1]
