"""List what stores and runs have cached, and find what is outdated or left over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slic.cache import ClipStore
from slic.cache.embeddings import FORMAT, cache_attributes
from slic.cache.writers import company_of
from slic.embed.cached import checkpoint_tag, run_checkpoint
from slic.errors import CacheError, SlicError, StoreError
from slic.neighbours.saved_index import index_paths, stray_indexes
from slic.runs import Run, open_run
from slic.upkeep.verify.run import is_training, run_leftovers
from slic.upkeep.verify.store import store_leftovers
from slic.upkeep.verify.targets import Target

CURRENT = "current"
OLD_CHECKPOINT = "old checkpoint"
OLD_FORMAT = "old format"
STORE_CHANGED = "store changed"
STORE_GONE = "store not here"
UNKNOWN = "unknown"
OUTDATED = (OLD_CHECKPOINT, OLD_FORMAT, STORE_CHANGED)


@dataclass(frozen=True)
class Removable:
    """A file or folder that `slic cache clean` removes: why, and its size."""

    path: Path
    why: str
    bytes: int


def list_caches(targets: list[Target]) -> dict[str, Any]:
    """Describe stores, runs, and the embedding caches of runs.

    Returns:
        `stores` [{path, videos, bytes}]; `runs` [{path, store, checkpoint}]; `caches`, with `path`,
        `run`, `store`, `checkpoint`, `protocol`, `training` (whether it holds the training videos
        only), `videos` (of windows: the number of videos they come from), `bytes`, `index_bytes`
        (of its search indexes) and `state`; and `bytes` and `outdated_bytes` of all caches and
        indexes. A store or run that cannot be read has a `problem`.
    """
    stores = [_store(target.path) for target in targets if target.kind == "store"]
    runs = [_run(target.path) for target in targets if target.kind == "run"]
    caches = [cache for _, found in runs for cache in found]
    sizes = [(c["bytes"] + c["index_bytes"], c["state"] in OUTDATED) for c in caches]
    return {
        "stores": stores,
        "runs": [about for about, _ in runs],
        "caches": caches,
        "bytes": sum(size for size, _ in sizes),
        "outdated_bytes": sum(size for size, outdated in sizes if outdated),
    }


def _store(path: Path) -> dict[str, Any]:
    try:
        store = ClipStore(path)
        return {"path": str(path), "videos": len(store.ids), "bytes": store.size_bytes()}
    except SlicError as error:
        return {"path": str(path), "videos": None, "bytes": None, "problem": str(error)}


def _run(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Describe a run, and list its embedding caches."""
    about: dict[str, Any] = {"path": str(path), "store": None, "checkpoint": None}
    run = None
    try:
        run = open_run(path)
        about["store"] = str(run.store)
        if run.checkpoint.exists():
            about["checkpoint"] = checkpoint_tag(run_checkpoint(run), run.checkpoint)
    except SlicError as error:
        about["problem"] = str(error)
    files = sorted((path / "embeddings").glob("[!.]*.h5"))
    return about, [_cache(file, run, about["checkpoint"]) for file in files]


def _cache(file: Path, run: Run | None, latest: str | None) -> dict[str, Any]:
    """Describe a cache of a run whose latest checkpoint is `latest`."""
    try:
        found = cache_attributes(file)
    except CacheError:
        found = {}
    training = file.name.endswith("-train.h5")
    return {
        "path": str(file),
        "run": str(file.parent.parent),
        **{name: found.get(name, "") for name in ("store", "checkpoint", "protocol")},
        "training": training,
        "videos": found.get("videos", 0),
        "bytes": _size(file),
        "index_bytes": sum(map(_size, index_paths(file))),
        "state": _state(found, run, latest, training=training),
    }


def _state(found: dict[str, Any], run: Run | None, latest: str | None, *, training: bool) -> str:
    """Return whether a cache is still used, from its attributes."""
    if not found or run is None or latest is None:
        return UNKNOWN
    if found["format"] < FORMAT:
        return OLD_FORMAT
    digest = run.store_digest
    if not training:
        if found.get("checkpoint") != latest:
            return OLD_CHECKPOINT
        own = found.get("store") == run.store_name
        store = run.store if own else run.path.parent.parent / f"{found.get('store')}.zarr"
        if not store.is_dir():
            return STORE_GONE
        try:
            digest = ClipStore(store).digest()
        except StoreError:
            return UNKNOWN
    return CURRENT if found.get("store_digest") == digest else STORE_CHANGED


def find_removable(targets: list[Target]) -> list[Removable]:
    """Return outdated caches with their indexes, and what killed processes left incomplete."""
    found = []
    for target in targets:
        if target.kind == "store":
            left = store_leftovers(target.path, company_of(target.path))
        else:
            training = is_training(target.path)
            left = run_leftovers(target.path, training=training)
            found += list(_outdated(target.path, training=training))
        found += [(path, "left by a killed process") for path in left]
    return [Removable(path, why, _size(path)) for path, why in found]


def _outdated(run: Path, *, training: bool) -> Iterator[tuple[Path, str]]:
    for cache in _run(run)[1]:
        file = Path(cache["path"])
        if cache["state"] in OUTDATED and not (training and cache["training"]):
            for path in (file, *index_paths(file)):
                yield path, cache["state"]
    for path in stray_indexes(run / "embeddings"):
        yield path, "its cache is gone"


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
