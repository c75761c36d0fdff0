import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.clips.samples import SampleClips
from slic.config import make_settings
from slic.engine.loader import SampleLoader
from slic.errors import DamagedChunk
from slic.train.sampling import VideoTriplet, plan_epoch

CPU = torch.device("cpu")
SETTINGS = make_settings(
    "cpu-small",
    options={"frames": 4, "stride": 2, "size": 16, "batch_size": 5, "flow_probability": 0.5},
)


def planned(store: ClipStore, epoch: int) -> list[list[VideoTriplet]]:
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


def read(store: ClipStore, sample: VideoTriplet) -> np.ndarray:
    return SampleClips((sample,), SETTINGS, cut=False)(store).numpy()


def whole(loader: SampleLoader, plan: list[list[VideoTriplet]]) -> Iterator[torch.Tensor]:
    for parts in loader.batches(plan):
        yield loader.on_device(parts, CPU)


def test_batches_hold_the_planned_samples_in_order(store):
    loader = SampleLoader(ReaderPool(store, workers=0), SETTINGS, clips=3)
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
    return SampleLoader(ReaderPool(ClipStore(drawn_store), workers=1), SETTINGS, clips=3)


def test_workers_give_the_same_batches_and_persist_over_epochs(store, one_worker):
    here = SampleLoader(ReaderPool(store, workers=0), SETTINGS, clips=3)
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
    here = SampleLoader(ReaderPool(store, workers=0), SETTINGS, clips=3)
    plan = planned(store, 3)
    for a, b in zip(whole(here, plan), whole(one_worker, plan), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("components", ["u", "uv"])
@pytest.mark.parametrize("workers", [0, 1])
def test_the_device_augments_the_same_samples_alike(drawn_store, workers, components):
    settings = replace(SETTINGS, components=components, batch_size=10)
    store = ClipStore(drawn_store)
    readers = SampleLoader(ReaderPool(store, workers=0), settings, clips=3)
    device = SampleLoader(
        ReaderPool(store, workers=workers), settings, clips=3, augment_on_device=True
    )
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
    loader = SampleLoader(ReaderPool(damaged, workers=workers), SETTINGS, clips=3)
    with pytest.raises(DamagedChunk) as caught:
        list(loader.batches(planned(damaged, 0)))
    message = str(caught.value)
    assert message.startswith(f"{damaged.path}: {damaged.ids[0]}: ")
    assert "\n" not in message
