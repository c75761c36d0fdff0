"""clusters.h5: the clusterings of a run beside each other, whole or as they were."""

import errno
from pathlib import Path

import h5py
import pytest

from slic.cache.clusterings import record_clusters
from slic.errors import DiskError


def clusters(path: Path) -> dict[str, list]:
    with h5py.File(path, "r") as file:
        ids = list(file["video"].asstr()[:])
        return {"video": ids} | {k: file[k][:].tolist() for k in file if k != "video"}


def test_clusterings_stand_beside_each_other(tmp_path):
    path = tmp_path / "clusters.h5"
    record_clusters(path, 0, {"b": 4, "a": 0})
    record_clusters(path, 10, {"b": 1, "a": 1})
    assert clusters(path) == {"video": ["b", "a"], "epoch00000": [4, 0], "epoch00010": [1, 1]}
    record_clusters(path, 10, {"b": 2, "a": 3})
    assert clusters(path)["epoch00010"] == [2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["clusters.h5"]


def test_clusterings_of_other_videos_are_not_mixed(tmp_path):
    path = tmp_path / "clusters.h5"
    record_clusters(path, 0, {"b": 4, "a": 0})
    record_clusters(path, 5, {"a": 0, "b": 4})
    assert clusters(path) == {"video": ["a", "b"], "epoch00005": [0, 4]}


def test_a_crash_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "clusters.h5"
    record_clusters(path, 0, {"b": 4})
    before = path.read_bytes()

    def fails(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(DiskError, match="No space left"):
        record_clusters(path, 1, {"b": 5})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["clusters.h5"]
