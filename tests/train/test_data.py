import copy
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from slic.cache import ClipStore
from slic.clips.pixels import centre_view
from slic.datasets.videos import Video
from slic.errors import InputError, StoreError
from slic.train.data import ClipDataset


@pytest.fixture
def own(drawn_store, tmp_path):
    """A copy of the drawn store's index and arrays, to be changed."""
    return ClipStore(shutil.copytree(drawn_store, tmp_path / "own.zarr"), writable=True)


def relabelled(store, rows):
    """Give a store's first videos (label, splits), and the rest neither."""
    padded = [*rows, *[(None, {})] * (len(store.ids) - len(rows))]
    store.index.relabel(
        Video(video, video, label, None, splits)
        for video, (label, splits) in zip(store.ids, padded, strict=True)
    )


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


def test_classes_are_the_stores_whatever_is_chosen(own):
    rows = [("b", {1: "train"}), ("a", {1: "test"}), (None, {1: "train"}), ("c", {})]
    relabelled(own, rows)
    dataset = ClipDataset(own, own.ids[:3], frames=2, size=16)
    assert dataset.classes == ["a", "b", "c"]
    assert dataset.targets.tolist() == [1, 0, -1]
    items = [dataset[i] for i in range(3)]
    assert [(item["label"], item["target"]) for item in items] == [("b", 1), ("a", 0), ("", -1)]
    assert ClipDataset(own, part="test").classes == ["a", "b", "c"]


def test_the_parts_of_a_split(own):
    words = ["train", "test", "train", None, "unused", "test"]
    others = ["test", None, "train", "test", None, None]
    relabelled(own, [(None, {1: w, 3: o}) for w, o in zip(words, others, strict=True)])
    ids = own.ids
    wanted = {"train": [0, 2], "test": [1, 5], "unused": [4]}
    for part, places in wanted.items():
        assert ClipDataset(own, part=part).ids == [ids[i] for i in places]
        assert ClipDataset(own, part=part, split=1).ids == [ids[i] for i in places]
    assert ClipDataset(own, part="test", split=3).ids == [ids[0], ids[3]]
    assert ClipDataset(own).ids == ids
    with pytest.raises(StoreError, match=r"own\.zarr: has no unused video in split 3$"):
        ClipDataset(own, part="unused", split=3)
    with pytest.raises(StoreError, match=r"own\.zarr: has no split 2$"):
        ClipDataset(own, part="train", split=2)


@pytest.mark.parametrize("size", [48, 16, 37, 61])
def test_flow_is_a_view(store, size):
    video = store.ids[3]
    dataset = ClipDataset(store, [video], view="flow", frames=5, stride=3, size=size)
    clip = dataset[0]["clip"]
    assert (clip.dtype, tuple(clip.shape)) == (torch.uint8, (5, size, size, 2))
    # 20 frames of which it spans 13; and 64 columns around 48.
    levels = store.read(video, 3, 5, stride=3, view="flow")[:, :, 8:56]
    if size == 48:
        assert np.array_equal(clip.numpy(), levels)
    assert np.allclose(clip.numpy().mean(axis=(0, 1, 2)), levels.mean(axis=(0, 1, 2)), atol=1)


def test_flow_that_is_missing_is_one_line(own):
    own.index.forget_flow(own.ids[2:5])
    own.index.close()
    with pytest.raises(StoreError) as caught:
        ClipDataset(own.path, view="flow")
    what = f"{own.path}: 3 of 24 videos have no flow; run `slic prep flow {own.path}`"
    assert str(caught.value) == what
    assert ClipDataset(own.path, own.ids[:2], view="flow", frames=2)[1]["clip"].shape[-1] == 2
    assert len(ClipDataset(own.path)) == 24


def test_an_unknown_id_is_one_line(store):
    with pytest.raises(StoreError) as caught:
        ClipDataset(store, [store.ids[0], "nowhere.avi"])
    assert str(caught.value) == f"{store.path}: contains no video 'nowhere.avi'"
    with pytest.raises(StoreError, match="no such store"):
        ClipDataset(store.path.with_name("missing.zarr"))


def test_a_store_without_videos_is_one_line(tmp_path):
    ClipStore.create(tmp_path / "empty.zarr").index.close()
    with pytest.raises(StoreError, match=r"empty\.zarr: contains no video$"):
        ClipDataset(tmp_path / "empty.zarr")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"stride": -2}, "stride -2: must be at least 1"),
        ({"view": "depth"}, "view 'depth': choose frames or flow"),
        ({"part": "val"}, "part 'val': choose train, test, unused"),
        ({"part": "train", "split": 4}, "split 4: choose 1, 2 or 3"),
        ({"split": 2}, "split 2: say which part of it, such as part='train'"),
        ({"ids": ["a"], "part": "train"}, "give ids or a part of a split, not both"),
        ({"ids": []}, "ids: give at least one, or None for all videos"),
    ],
)
def test_impossible_arguments_are_one_line(store, how, said):
    with pytest.raises(InputError) as caught:
        ClipDataset(store, **how)
    assert str(caught.value) == said


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


def test_copies_have_epochs_of_their_own(store):
    dataset = ClipDataset(store, store.ids[:4], frames=4, size=16, seed=3)
    with pytest.raises(InputError, match="epoch -1: must be at least 0, or None"):
        dataset.set_epoch(-1)
    dataset.set_epoch(2)
    expected = [dataset[i]["clip"] for i in range(4)]
    for twin in (pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert twin.epoch == 2
        assert all(torch.equal(twin[i]["clip"], expected[i]) for i in range(4))
        twin.set_epoch(9)
        assert dataset.epoch == 2


def test_a_plain_loader_gives_batches(drawn_store):
    dataset = ClipDataset(drawn_store, frames=4, size=16)
    batches = list(DataLoader(dataset, batch_size=10))
    shapes = [tuple(batch["clip"].shape) for batch in batches]
    assert shapes == [(10, 4, 16, 16, 3), (10, 4, 16, 16, 3), (4, 4, 16, 16, 3)]
    assert [video for batch in batches for video in batch["id"]] == dataset.ids
    targets = torch.cat([batch["target"] for batch in batches])
    assert targets.dtype == torch.int64
    assert targets.tolist() == dataset.targets.tolist()
    names = [name for batch in batches for name in batch["label"]]
    assert names == [dataset.classes[code] for code in targets]


# --- workers ---------------------------------------------------------------------------------

# In a process of its own: a worker that hangs must fail its test, and pytest's has threads.
_WORKERS = """
import pickle, sys
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader
from slic.train.data import ClipDataset

class Watched(ClipDataset):
    def __getitem__(self, index):
        return {**super().__getitem__(index), "threads": cv2.getNumThreads()}

def main(path, method, view, size):
    # What a fork inherits: OpenCV's threads, an open index, arrays read before.
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (0, 0), 3)
    dataset = Watched(path, view=view, frames=3, size=size)
    expected = {}
    for epoch in (None, 0, 3):
        dataset.set_epoch(epoch)
        expected[epoch] = torch.stack([dataset[i]["clip"] for i in range(len(dataset))])
    assert not torch.equal(expected[0], expected[3])
    dataset = pickle.loads(pickle.dumps(dataset))
    for kept in (True, False) if method == "fork" else (True,):
        loader = DataLoader(
            dataset,
            batch_size=5,
            num_workers=2,
            persistent_workers=kept,
            multiprocessing_context=method,
        )
        for epoch in (3, None, 0, 3):
            dataset.set_epoch(epoch)
            batches = list(loader)
            found = torch.cat([batch["clip"] for batch in batches])
            assert torch.equal(found, expected[epoch]), f"epoch {epoch}"
            assert [v for batch in batches for v in batch["id"]] == dataset.ids
            assert max(int(batch["threads"].max()) for batch in batches) <= 1
    assert cv2.getNumThreads() == 4
    print("same")

if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
"""


@pytest.mark.parametrize(
    ("method", "view", "size"),
    [
        ("fork", "frames", 400),  # from 363 pixels on OpenCV resizes in several threads
        ("fork", "flow", 16),
        pytest.param("spawn", "flow", 400, marks=pytest.mark.slow),
        pytest.param("forkserver", "frames", 33, marks=pytest.mark.slow),
    ],
)
def test_workers_hear_of_epochs(drawn_store, tmp_path, method, view, size):
    script = tmp_path / "workers.py"
    script.write_text(_WORKERS)
    done = subprocess.run(
        [sys.executable, str(script), str(drawn_store), method, view, str(size)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "same\n", done.stderr
