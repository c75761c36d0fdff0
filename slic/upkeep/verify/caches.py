"""`slic cache list` and `slic cache clean`: what is cached, whether it is current, what may go."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slic.cache import ClipStore
from slic.cache.embeddings import cache_attributes
from slic.cache.writers import WriterLock, company_of, remove
from slic.encoders.checkpoints import load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.errors import SlicError
from slic.neighbours.kept import index_paths, stray_indexes
from slic.runs import Run, open_run
from slic.upkeep.verify.run import is_trained_now, run_leftovers
from slic.upkeep.verify.strays import store_leftovers
from slic.upkeep.verify.targets import Target

CURRENT = "current"
OLD_CHECKPOINT = "old checkpoint"
STORE_CHANGED = "store changed"
STORE_GONE = "store not here"
UNKNOWN = "unknown"
OUTDATED = (OLD_CHECKPOINT, STORE_CHANGED)


@dataclass(frozen=True)
class CacheFile:
    """One embedding cache.

    Attributes:
        path: the file.
        run: the run it belongs to.
        store: name of the store that was embedded.
        checkpoint: by whose weights: epoch and digest.
        protocol: how videos were embedded.
        training: whether it is one of the training videos alone.
        videos: how many it holds; of a cache of windows, of how many videos these are.
        bytes: size of the file.
        index_bytes: size of the search indexes kept beside it.
        state: `current`; `old checkpoint` or `store changed`, when it is used no more; `store not
            here`, which it stands in for; or `unknown`.
    """

    path: str
    run: str
    store: str
    checkpoint: str
    protocol: str
    training: bool
    videos: int
    bytes: int
    index_bytes: int
    state: str


@dataclass(frozen=True)
class Leaving:
    """What `clean` removes: a file or folder, why, and how large it is."""

    path: str
    why: str
    bytes: int
    of: Target


def list_caches(targets: list[Target]) -> dict[str, Any]:
    """Stores, runs, their embedding caches, and how many bytes these take.

    Returns:
        `stores` [{path, videos, bytes}], `runs` [{path, store, checkpoint}], `caches` (as
        `CacheFile`), `bytes` and `outdated_bytes` of the caches with their indexes.
    """
    stores = [_store(target.path) for target in targets if target.kind == "store"]
    runs, caches = [], []
    for target in targets:
        if target.kind == "run":
            about, found = _run(target.path)
            runs.append(about)
            caches += found
    return {
        "stores": stores,
        "runs": runs,
        "caches": [asdict(cache) for cache in caches],
        "bytes": sum(map(_all_bytes, caches)),
        "outdated_bytes": sum(_all_bytes(cache) for cache in caches if cache.state in OUTDATED),
    }


def _all_bytes(cache: CacheFile) -> int:
    return cache.bytes + cache.index_bytes


def _store(path: Path) -> dict[str, Any]:
    try:
        store = ClipStore(path)
        return {"path": str(path), "videos": len(store.ids), "bytes": store.size_bytes()}
    except SlicError as error:
        return {"path": str(path), "videos": None, "bytes": None, "problem": str(error)}


def _run(path: Path) -> tuple[dict[str, Any], list[CacheFile]]:
    about: dict[str, Any] = {"path": str(path), "store": None, "checkpoint": None}
    run = None
    try:
        run = open_run(path)
        about["store"] = str(run.store)
        if run.checkpoint.exists():
            content = load_checkpoint(run.checkpoint)
            epoch = int(content["progress"]["epoch"])
            about["checkpoint"] = f"e{epoch:05d}.{weights_digest(content['model'])}"
    except (SlicError, LookupError, TypeError, ValueError, AttributeError) as error:
        about["problem"] = str(error)
    files = sorted((path / "embeddings").glob("[!.]*.h5"))
    caches = [_cache(file, path, run, about["checkpoint"]) for file in files]
    return about, _with_newest_of_training(caches)


def _cache(file: Path, path: Path, run: Run | None, latest: str | None) -> CacheFile:
    training = file.name.endswith("-train.h5")
    size, indexes = file.stat().st_size, sum(p.stat().st_size for p in index_paths(file))
    try:
        about = cache_attributes(file)
        videos = int(about["videos"])
        store, checkpoint, protocol = (str(about[k]) for k in ("store", "checkpoint", "protocol"))
    except (SlicError, LookupError, ValueError):
        return CacheFile(str(file), str(path), "", "", "", training, 0, size, indexes, UNKNOWN)
    if run is None or latest is None:
        state = UNKNOWN
    elif training:
        state = CURRENT if about.get("store_digest") == run.store_digest else STORE_CHANGED
    elif checkpoint != latest:
        state = OLD_CHECKPOINT
    else:
        state = _by_store(run, store, str(about.get("store_digest")))
    which = (store, checkpoint, protocol, training, videos)
    return CacheFile(str(file), str(path), *which, size, indexes, state)


def _by_store(run: Run, name: str, digest: str) -> str:
    """Whether the store that was embedded is here and unchanged."""
    own = run.store_name == name
    path = run.store if own else run.path.parent.parent / f"{name}.zarr"
    if not path.is_dir():
        return STORE_GONE
    try:
        return CURRENT if ClipStore(path).digest() == digest else STORE_CHANGED
    except SlicError:
        return UNKNOWN


def _with_newest_of_training(caches: list[CacheFile]) -> list[CacheFile]:
    """Of the caches that training wrote, only the newest is current."""
    newest = max((c.checkpoint for c in caches if c.training), default="")
    old = [c for c in caches if c.training and c.state == CURRENT and c.checkpoint < newest]
    return [CacheFile(**{**asdict(c), "state": OLD_CHECKPOINT}) if c in old else c for c in caches]


def what_may_go(targets: list[Target]) -> list[Leaving]:
    """Outdated embedding caches with their indexes, and what killed processes left half-written."""
    leaving = []
    for target in targets:
        if target.kind == "store":
            left = store_leftovers(target.path, company_of(target.path))
        else:
            trained_now = is_trained_now(target.path)
            left = run_leftovers(target.path, trained_now=trained_now)
            caches = _run(target.path)[1]
            old = [c for c in caches if c.state in OUTDATED and not (trained_now and c.training)]
            for cache in old:
                leaving.append(Leaving(cache.path, cache.state, cache.bytes, target))
                indexes = index_paths(Path(cache.path))
                leaving += [Leaving(str(p), cache.state, _size(p), target) for p in indexes]
            stray = stray_indexes(target.path / "embeddings")
            leaving += [Leaving(str(p), "its cache is gone", _size(p), target) for p in stray]
        why = "left by a killed process"
        leaving += [Leaving(str(path), why, _size(path), target) for path in left]
    return leaving


def clean(leaving: list[Leaving]) -> list[Leaving]:
    """Remove what `what_may_go` found; what was removed. A store that is written is left alone."""
    removed = []
    for target in dict.fromkeys(item.of for item in leaving):
        items = [item for item in leaving if item.of == target]
        if target.kind == "store":
            with WriterLock(target.path).alone() as company:
                still = {str(path) for path in store_leftovers(target.path, company)}
                items = [item for item in items if item.path in still]
                removed += _removed(items)
        else:
            removed += _removed(items)
    return removed


def _removed(items: list[Leaving]) -> list[Leaving]:
    for item in items:
        remove(Path(item.path))
    return items


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())
