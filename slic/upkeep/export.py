"""`slic cache export`: embeddings, clusters and labels of a run as parquet, csv or npz."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from slic import __version__
from slic.cache import EmbeddingCache
from slic.cache.clusterings import FILE, read_clusterings
from slic.cache.names import read_names
from slic.embed.cached import cached_embeddings, check_feature, evaluation_protocol
from slic.errors import InputError, SlicError
from slic.runs import Run, open_run
from slic.runtime.disk import check_writable
from slic.runtime.text import counted
from slic.upkeep.export_formats import NONE, WRITERS, Columns

Format = Literal["parquet", "csv", "npz"]
Which = Literal["backbone", "projection", "both"]
FORMATS: tuple[str, ...] = get_args(Format)
# What a spreadsheet takes for the beginning of a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Clustering:
    """One clustering of a run: its name in clusters.h5, and the cluster of each video's id."""

    name: str
    clusters: dict[str, int]


@dataclass(frozen=True)
class _Source:
    """Where embeddings come from: the run, if known, the store's name, the output's, and how."""

    run: Run | None
    store: str
    name: str
    load: Callable[[], EmbeddingCache]


def export(
    source: Run | Path,
    *,
    store: str | None = None,
    output: str | None = None,
    format: Format | None = None,
    feature: Which = "both",
    names: str | None = None,
    overwrite: bool = False,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write one row a video, or a window of one: id, label, splits, cluster and embeddings.

    Args:
        source: the run whose latest checkpoint's embeddings, computed if they are not cached; or
            an embedding cache. The run that this lies in, if any, has the clusters.
        store: another store than the run's. A clustering is of the run's own.
        output: the file; `<run>-<store>.<format>`, or the cache's name, here if None.
        format: as the suffix of `output` says, or parquet, if None.
        feature: which embeddings; `both` leaves out a projection that was never trained.
        names: csv of clusters' names, as `slic.cache.names` reads it.
        overwrite: replace a file that is there.
        device, workers: for embeddings that are not cached yet.
        say: takes lines meant for the user.

    Returns:
        path, format, run, store, checkpoint, protocol, clustering, rows, videos, clustered
        (rows), columns, bytes, seconds.

    Raises:
        InputError and its kinds: unusable input, or a file that is there already.
        DiskError: the file system refuses; what was there before stays.
    """
    begin = time.monotonic()
    kind = _format(output, format)
    if isinstance(source, Run):
        of = _of_run(source, store, device=device, workers=workers, say=say)
    else:
        of = _of_cache(source)
    # Whatever is wrong is found before a whole store is embedded for it.
    path = _checked(Path(output or f"{of.name}.{kind}"), overwrite=overwrite)
    features = _features(of.run, feature, say)
    clustering = _last_clustering(of)
    named = _named(names, clustering)
    cache = of.load()
    columns = _columns(cache, clustering, named, features=features)
    if kind == "csv":
        _say_formulas(columns, say)
    about = _about(of.run, cache, clustering)
    written = WRITERS[kind](path, columns, json.dumps(about))
    return {
        "path": str(path),
        "format": kind,
        **about,
        "rows": len(cache.ids),
        "videos": len(set(_videos(cache).tolist())),
        "clustered": int((columns.values["cluster"] != NONE).sum()),
        "columns": list(columns.values),
        "bytes": written,
        "seconds": round(time.monotonic() - begin, 1),
    }


def _format(output: str | None, format: Format | None) -> str:
    if output is None:
        return format or "parquet"
    suffix = Path(output).suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise InputError(f"--output {output}: end its name in .parquet, .csv or .npz")
    if format not in (None, suffix):
        raise InputError(f"--output {output}: is no name for --format {format}; give one of both")
    return suffix


def _of_run(run: Run, store: str | None, **how: Any) -> _Source:
    def load() -> EmbeddingCache:
        protocol = evaluation_protocol(run.settings, None)
        return cached_embeddings(run, store=store, protocol=protocol, split=None, **how)[0]

    of = run.store_name if store is None else Path(store).name.removesuffix(".zarr")
    return _Source(run, of, f"{run.path.resolve().name}-{of}", load)


def _of_cache(path: Path) -> _Source:
    cache = EmbeddingCache(path)
    return _Source(_run_of(path), str(cache.attributes.get("store")), path.stem, lambda: cache)


def _checked(path: Path, *, overwrite: bool) -> Path:
    """The output's path, refused before anything is computed for it."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; make it, or give another --output")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give another --output")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: is there already; give --overwrite, or another --output")
    check_writable(path.parent)
    return path


def _run_of(cache: Path) -> Run | None:
    """The run in whose folder a cache lies, if it lies in one that is sound."""
    try:
        return open_run(cache.parent.parent)
    except SlicError:
        return None


def _last_clustering(of: _Source) -> Clustering | None:
    """The newest clustering of a run, if the embeddings are of the store that was clustered."""
    if of.run is None or of.store != of.run.store_name:
        return None
    path = of.run.path / FILE
    if not path.exists():
        return None
    found = read_clusterings(path)
    if not found.named:
        return None
    name, clusters = list(found.named.items())[-1]
    return Clustering(name, dict(zip(found.ids, clusters.tolist(), strict=True)))


def _named(names: str | None, clustering: Clustering | None) -> dict[int, str] | None:
    if names is None:
        return None
    if clustering is None:
        raise InputError(f"--names {names}: there is no clustering whose clusters it could name")
    known = set(clustering.clusters.values())
    return read_names(Path(names), clustering.name, known=known)


def _features(run: Run | None, feature: Which, say: Callable[[str], None]) -> tuple[str, ...]:
    if feature != "both":
        if run is not None:
            check_feature(run, feature)
        return (feature,)
    if run is not None and not run.head:
        say(f"{run.path}: has weights without a projection head: the backbone's embeddings alone")
        return ("backbone",)
    return ("backbone", "projection")


def _columns(
    cache: EmbeddingCache,
    clustering: Clustering | None,
    names: dict[int, str] | None,
    *,
    features: tuple[str, ...],
) -> Columns:
    values: dict[str, NDArray[Any]] = {"id": cache.ids}
    if (at := cache.places) is not None:
        values |= {"of": at.of, "start": at.start, "end": at.end}
    values["label"] = np.full(len(cache.ids), "") if cache.labels is None else cache.labels
    values |= {f"split{number}": words for number, words in cache.splits.items()}
    # What is clustered is videos: a window has its video's cluster, as it has its label.
    known = clustering.clusters if clustering is not None else {}
    videos = _videos(cache).tolist()
    values["cluster"] = np.array([known.get(video, NONE) for video in videos], dtype=np.int64)
    if names is not None:
        named = [names.get(cluster, "") for cluster in values["cluster"].tolist()]
        values["cluster_name"] = np.array(named, dtype=np.str_)
    return Columns(values | {name: getattr(cache, name) for name in features})


def _videos(cache: EmbeddingCache) -> NDArray[np.str_]:
    """The video of each row."""
    return cache.ids if cache.places is None else cache.places.of


def _say_formulas(columns: Columns, say: Callable[[str], None]) -> None:
    """Texts stay as they are, to be read back exactly: the reader is told instead."""
    texts = [rows for rows in columns.values.values() if rows.dtype.kind == "U"]
    found = sorted(
        text for rows in texts for text in set(rows.tolist()) if text.startswith(FORMULA)
    )
    if found:
        say(
            f"{counted(len(found), 'text')} beginning as a spreadsheet's formulas do, such as"
            f" {found[0][:40]!r}: import these columns as text"
        )


def _about(
    run: Run | None, cache: EmbeddingCache, clustering: Clustering | None
) -> dict[str, str | None]:
    """What the rows are of; no folders, as the file may go anywhere."""
    of = {key: str(cache.attributes.get(key, "")) for key in ("store", "checkpoint", "protocol")}
    return {
        "run": None if run is None else run.path.resolve().name,
        **of,
        "clustering": None if clustering is None else clustering.name,
        "slic": __version__,
    }
