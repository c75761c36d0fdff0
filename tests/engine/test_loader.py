import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.augmentation import augment_flow, augment_frames, draw
from slic.clips.reading import ReaderPool
from slic.config import Settings, make_settings
from slic.engine.loader import SampleClips, SampleLoader
from slic.errors import DamagedChunk
from slic.train.sampling import Sample, plan_epoch

CPU = torch.device("cpu")
SETTINGS = make_settings(
    "cpu-small",
    options={"frames": 4, "stride": 2, "size": 16, "batch_size": 5, "flow_probability": 0.5},
)


def planned(store: ClipStore, epoch: int) -> list[list[Sample]]:
    lengths = {entry.id: entry.frames for entry in store.entries()[:10]}
    clusters = {video: i % 3 for i, video in enumerate(lengths)}
    return plan_epoch(lengths, clusters, settings=SETTINGS, epoch=epoch)


@pytest.fixture(scope="module")
def damaged(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    path = tmp_path_factory.mktemp("damaged") / "ucf101.zarr"
    shutil.copytree(drawn_store, path)
    store = ClipStore(path)
    (path / "frames" / store.entries()[0].key / "c.0.0.0.0").unlink()
    return store


def read(store: ClipStore, sample: Sample, settings: Settings = SETTINGS) -> np.ndarray:
    return SampleClips((sample,), settings, cut=False)(store).numpy()


def whole(loader: SampleLoader, plan: list[list[Sample]]) -> Iterator[torch.Tensor]:
    for parts in loader.batches(plan):
        yield loader.on_device(parts, CPU)


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
            how = draw(clip.shape[1], clip.shape[2], rng, settings=SETTINGS)
            expected.append((augment_flow if flow else augment_frames)(clip, how, 16))
        got = read(store, s)
        assert (got.shape, got.dtype) == ((3, 4, 16, 16, 3), np.uint8)
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("components", ["v", "uv"])
def test_views_of_flow_show_the_components_asked_for(store, components):
    settings = replace(SETTINGS, components=components)
    sample = Sample(store.ids[0], 3, store.ids[1], 2, True, True, seed=5)
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


def test_the_three_views_are_augmented_independently(store):
    """The second view shows the anchor's frames, and not the same pixels."""
    sample = Sample(store.ids[0], 3, store.ids[0], 3, False, False, seed=5)
    anchor, positive, second = read(store, sample)
    assert not np.array_equal(anchor, second)
    assert not np.array_equal(anchor, positive)
    plain = replace(
        SETTINGS, jitter_probability=0, grayscale_probability=0, blur_probability=0, crop_area=1
    )
    views = read(store, sample, plain)
    assert views.shape == (3, 4, 16, 16, 3)


def test_batches_hold_the_planned_samples_in_order(store):
    loader = SampleLoader(ReaderPool(store, workers=0), SETTINGS)
    plan = planned(store, 0)
    batches = list(whole(loader, plan))
    assert [tuple(batch.shape) for batch in batches] == [(3, 5, 4, 16, 16, 3)] * 2
    for batch, clips in zip(plan, batches, strict=True):
        for column, sample in enumerate(batch):
            assert np.array_equal(clips[:, column].numpy(), read(store, sample))


def worker_pids(loader: SampleLoader) -> list[int]:
    return [worker.pid for worker in loader.readers._loader._iterator._workers]


@pytest.fixture(scope="module")
def one_worker(drawn_store):
    return SampleLoader(ReaderPool(ClipStore(drawn_store), workers=1), SETTINGS)


def test_workers_give_the_same_batches_and_persist_over_epochs(store, one_worker):
    here = SampleLoader(ReaderPool(store, workers=0), SETTINGS)
    pids = set()
    for epoch in (0, 1, 0):
        plan = planned(store, epoch)
        mine, theirs = list(whole(here, plan)), list(whole(one_worker, plan))
        assert len(mine) == len(theirs) == 2
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        pids.update(worker_pids(one_worker))
    assert len(pids) == 1
    assert not torch.equal(mine[0], next(whole(here, planned(store, 1))))


def test_an_epoch_given_up_or_empty_does_not_leak_into_the_next(store, one_worker):
    next(iter(one_worker.batches(planned(store, 2))))
    assert list(one_worker.batches([])) == []
    here = SampleLoader(ReaderPool(store, workers=0), SETTINGS)
    plan = planned(store, 3)
    for a, b in zip(whole(here, plan), whole(one_worker, plan), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("components", ["u", "uv"])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_device_augments_the_same_samples_alike(drawn_store, workers, components):
    settings = replace(SETTINGS, components=components, batch_size=10)
    store = ClipStore(drawn_store)
    readers = SampleLoader(ReaderPool(store, workers=0), settings)
    device = SampleLoader(ReaderPool(store, workers=workers), settings, augment_on_device=True)
    plan = [batch for epoch in range(4) for batch in planned(store, epoch)]
    for mine, theirs in zip(whole(readers, plan), whole(device, plan), strict=True):
        assert (theirs.shape, theirs.dtype) == (mine.shape, torch.uint8)
        apart = (mine.float() - theirs.float()).abs().mean(dim=(2, 3, 4, 5))
        # Rounded at other places, and OpenCV's hue is quantised; other clips are 20 and more apart.
        assert apart.max() < 3
        assert apart.mean() < 0.7
        assert (mine.float() - theirs.roll(1, 1).float()).abs().mean() > 10


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_video_is_one_line_that_names_it(damaged, workers):
    loader = SampleLoader(ReaderPool(damaged, workers=workers), SETTINGS)
    with pytest.raises(DamagedChunk) as caught:
        list(loader.batches(planned(damaged, 0)))
    message = str(caught.value)
    assert message.startswith(f"{damaged.path}: {damaged.ids[0]}: ")
    assert "\n" not in message
