"""Clips of a sample: read as planned, each augmented by a draw of its own."""

from dataclasses import replace

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.clips.augmentation import augment_flow, augment_frames, draw_augmentation
from slic.clips.samples import SampleClips
from slic.config import Settings, make_settings
from slic.train.sampling import VideoTriplet, plan_epoch

SETTINGS = make_settings(
    "cpu-small",
    options={"frames": 4, "stride": 2, "size": 16, "batch_size": 5, "flow_probability": 0.5},
)


def planned(store: ClipStore, epoch: int) -> list[list[VideoTriplet]]:
    lengths = {entry.id: entry.frames for entry in store.entries()[:10]}
    clusters = {video: i % 3 for i, video in enumerate(lengths)}
    return plan_epoch(lengths, clusters, settings=SETTINGS, epoch=epoch)


def read(store: ClipStore, sample: VideoTriplet, settings: Settings = SETTINGS) -> np.ndarray:
    return SampleClips((sample,), settings, cut=False)(store).numpy()


def test_a_sample_is_read_and_augmented_as_drawn(store):
    samples = [sample for epoch in range(3) for batch in planned(store, epoch) for sample in batch]
    kinds = {(s.positive_flow, s.second_flow) for s in samples}
    assert len(kinds) == 4
    for s in samples[:12]:
        views = [
            (s.anchor, s.start, False),
            (s.positive, s.positive_start, s.positive_flow),
            (s.anchor, s.start, s.second_flow),
        ]
        rng, expected = np.random.default_rng(s.seed), []
        for video, start, flow in views:
            clip = store.read(video, start, 4, stride=2, view="flow" if flow else "frames")
            params = draw_augmentation(clip.shape[1], clip.shape[2], rng, settings=SETTINGS)
            expected.append((augment_flow if flow else augment_frames)(clip, params, 16))
        got = read(store, s)
        assert (got.shape, got.dtype) == ((3, 4, 16, 16, 3), np.uint8)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("components", ["v", "uv"])
def test_views_of_flow_show_the_components_asked_for(store, components):
    settings = replace(SETTINGS, components=components)
    sample = VideoTriplet(store.ids[0], 3, store.ids[1], 2, True, True, seed=5)
    _, positive, second = read(store, sample, settings)
    _, other, _ = read(store, sample)
    assert not np.array_equal(positive, other)
    for view in (positive, second):
        if components == "v":
            assert (view == view[..., :1]).all()
        else:
            assert (view[..., 2] == 128).all()
            assert not np.array_equal(view[..., 0], view[..., 1])
    if components == "uv":
        assert np.array_equal(positive[..., 0], other[..., 0])
