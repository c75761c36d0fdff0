from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from slic.clips import centre_view
from slic.errors import StoreError
from slic.processes import loader_context
from slic.train.data import ClipDataset


def test_a_data_set_gives_the_centre_clip_of_every_video(drawn_store, store):
    dataset = ClipDataset(drawn_store, frames=6, stride=2, size=16)
    assert len(dataset) == len(store.ids)
    for index in (0, 5, 23):
        item = dataset[index]
        entry = store.entries()[index]
        assert (item["id"], item["label"]) == (entry.id, entry.label)
        # 20 frames, 11 spanned: 4 of the 9 left lie before.
        expected = centre_view(store.read(entry.id, 4, 6, stride=2), 16)
        assert item["clip"].dtype == torch.uint8
        assert np.array_equal(item["clip"].numpy(), expected)


def test_a_data_set_of_some_videos_keeps_their_order_and_labels(store):
    ids = [store.ids[i] for i in (9, 0, 20, 4)]
    labels = {entry.id: entry.label for entry in store.entries()}
    dataset = ClipDataset(store, iter(ids), frames=4, size=16)
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["id"] for item in items] == ids
    assert [item["label"] for item in items] == [labels[video] for video in ids]


def test_an_unknown_id_is_one_line(store):
    with pytest.raises(StoreError) as caught:
        ClipDataset(store, [store.ids[0], "nowhere.avi"])
    assert str(caught.value) == f"{store.path}: holds no video 'nowhere.avi'"
    with pytest.raises(StoreError, match="no such store"):
        ClipDataset(store.path.with_name("missing.zarr"))


def test_random_clips_depend_on_seed_epoch_and_id_alone(store):
    ids = store.ids[:6]

    def clips(order, epoch, seed=0):
        dataset = ClipDataset(store, order, frames=4, size=16, seed=seed)
        dataset.set_epoch(epoch)
        return {dataset[i]["id"]: dataset[i]["clip"].numpy().tobytes() for i in range(len(dataset))}

    first = clips(ids, 1)
    assert clips(ids[::-1], 1) == first
    assert clips(ids[2:4], 1).items() <= first.items()
    assert clips(ids, 2) != first
    assert clips(ids, 1, seed=1) != first
    assert clips(ids, None) == clips(ids, None) != first


def test_random_clips_of_videos_shorter_than_a_clip_wrap(store):
    dataset = ClipDataset(store, store.ids[:3], frames=30, size=16)
    for epoch in (None, 0, 1):
        dataset.set_epoch(epoch)
        assert all(dataset[i]["clip"].shape == (30, 16, 16, 3) for i in range(3))


def test_a_plain_loader_gives_batches_with_and_without_a_worker(drawn_store):
    dataset = ClipDataset(drawn_store, frames=4, size=16)
    here = list(DataLoader(dataset, batch_size=10))
    assert [tuple(batch["clip"].shape) for batch in here] == [
        (10, 4, 16, 16, 3),
        (10, 4, 16, 16, 3),
        (4, 4, 16, 16, 3),
    ]
    assert [video for batch in here for video in batch["id"]] == dataset.ids
    there = DataLoader(
        dataset, batch_size=10, num_workers=1, multiprocessing_context=loader_context()
    )
    for mine, theirs in zip(here, there, strict=True):
        assert torch.equal(mine["clip"], theirs["clip"])
        assert (mine["id"], mine["label"]) == (theirs["id"], theirs["label"])


def test_a_plain_loader_takes_videos_without_a_label(store, monkeypatch):
    bare = [replace(entry, label=None) for entry in store.entries()[:2]]
    monkeypatch.setattr(store, "entries", lambda: bare)
    (batch,) = DataLoader(ClipDataset(store, frames=2, size=16), batch_size=2)
    assert batch["label"] == ["", ""]
