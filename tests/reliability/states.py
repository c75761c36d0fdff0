"""Contents of stores and runs, to compare, and faults in them, to check after a kill."""

import hashlib
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
import zarr

from slic.cache import ClipStore, EmbeddingCache
from slic.encoders.checkpoints import load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.errors import SlicError
from slic.runs import open_run

Arrays = dict[tuple[str, str], np.ndarray]  # by view and key


def file_digests(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, but for hidden ones."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def store_state(path: Path) -> dict[str, Any]:
    """Return a store's files of frames and flow, its settings, and all rows of its index."""
    store = ClipStore(path)
    return {
        "settings": json.loads((path / "zarr.json").read_text()),
        "frames": file_digests(path / "frames"),
        "flow": file_digests(path / "flow"),
        "rows": [astuple(entry) for entry in store.index.entries()],
    }


def arrays_of(path: Path) -> Arrays:
    """Return all arrays of a store, as plain Zarr reads them."""
    return {
        (view, item.name): np.asarray(zarr.open_array(item, mode="r")[:])
        for view in ("frames", "flow")
        for item in sorted((path / view).iterdir())
        if item.is_dir()
    }


def store_faults(path: Path, complete: Arrays) -> list[str]:
    """Return what is wrong in a store, which may lack arrays of the complete one, or not exist."""
    if not (path / "index" / "index.sqlite").exists() or not (path / "zarr.json").exists():
        return []
    faults = []
    try:
        for (view, key), found in arrays_of(path).items():
            if not np.array_equal(found, complete[view, key]):
                faults.append(f"{path}: {view}/{key} in place, but not as it should be")
        store = ClipStore(path)
        for entry in store.entries():
            frames = store.read(entry.id, 0, entry.frames or 0)
            if not np.array_equal(frames, complete["frames", entry.key]):
                faults.append(f"{path}: {entry.id}: wrong frames")
            if entry.flow is not None:
                flow = store.read(entry.id, 0, (entry.frames or 1) - 1, view="flow")
                if not np.array_equal(flow, complete["flow", entry.key]):
                    faults.append(f"{path}: {entry.id}: wrong flow")
    except Exception as error:  # whatever a reader raises is a fault
        faults.append(f"{path}: {type(error).__name__}: {error}")
    return faults


def entered(path: Path) -> dict[str, tuple[int, int]]:
    """Return (inode, time) of the files of every array that the index has."""
    if not (path / "index" / "index.sqlite").exists() or not (path / "zarr.json").exists():
        return {}
    found = {}
    for entry in ClipStore(path).entries():
        for view in ("frames", "flow") if entry.flow is not None else ("frames",):
            for file in sorted((path / view / entry.key).glob("*")):
                stat = file.stat()
                found[f"{view}/{entry.key}/{file.name}"] = (stat.st_ino, stat.st_mtime_ns)
    return found


def run_state(path: Path) -> dict[str, Any]:
    """Return all results of a training, without its times."""
    content = load_checkpoint(path / "checkpoints" / "latest")
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    with h5py.File(path / "clusters.h5") as file:
        clusters = {"video": file["video"].asstr()[:].tolist()}
        clusters |= {key: file[key][:].tolist() for key in file if key != "video"}
    moments = content["optimiser"]["state"]
    return {
        "weights": weights_digest(content["model"]),
        "optimiser": weights_digest(
            {f"{i}.{k}": torch.as_tensor(v) for i, s in moments.items() for k, v in s.items()}
        ),
        "progress": content["progress"],
        "lines": [{k: v for k, v in line.items() if k != "seconds"} for line in lines],
        "clusters": clusters,
        "embeddings": embeddings_state(path),
        "config": (path / "config.toml").read_text(),
        "aside": sorted(item.name for item in path.rglob(".*")),
    }


def run_faults(path: Path) -> list[str]:
    """Return what is wrong in a run folder."""
    faults = []
    try:
        if (path / "config.toml").exists():
            open_run(path).records("epoch")
        checkpoints = path / "checkpoints"
        if (checkpoints / "latest").exists():
            load_checkpoint(checkpoints / "latest")
        embeddings_state(path)
        if (path / "clusters.h5").exists():
            with h5py.File(path / "clusters.h5") as file:
                assert len(file["video"]) > 0
        for result in (path / "classify").glob("[!.]*.json"):
            json.loads(result.read_text())
    except (SlicError, OSError, ValueError, KeyError, AssertionError) as error:
        faults.append(f"{path}: {type(error).__name__}: {error}")
    return faults


def steps_done(path: Path) -> int:
    """Return the number of steps of a run's checkpoint."""
    checkpoint = path / "checkpoints" / "latest"
    return load_checkpoint(checkpoint)["progress"]["total_steps"] if checkpoint.exists() else 0


def embeddings_state(path: Path) -> dict[str, Any]:
    """Return every embedding cache of a run, by name."""
    found = {}
    for file in sorted((path / "embeddings").glob("[!.]*.h5")):
        cache = EmbeddingCache(file)
        digest = hashlib.sha256(cache.backbone.tobytes() + cache.projection.tobytes()).hexdigest()
        labels = None if cache.labels is None else cache.labels.tolist()
        splits = {number: split.tolist() for number, split in cache.splits.items()}
        found[file.name] = (cache.ids.tolist(), digest, labels, splits)
    return found


def classify_state(path: Path) -> dict[str, Any]:
    """Return every result of `eval classify` of a run, and the weights of its checkpoints."""
    folder = path / "classify"
    found: dict[str, Any] = {
        file.name: json.loads(file.read_text()) for file in sorted(folder.glob("[!.]*.json"))
    }
    for file in sorted(folder.glob("[!.]*.checkpoint")):
        content = torch.load(file, weights_only=True)
        state = {k: v for k, v in content["state"].items() if k != "best"}
        found[file.name] = (weights_digest(content["model"]), state)
    return found
