"""`slic cache export`: write a run's embeddings, clusters and labels as parquet, csv or npz."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from slic import __version__
from slic.cache import EmbeddingCache
from slic.cache.clusterings import FILE, read_clusterings, read_names
from slic.embed.cached import cached_embeddings, check_feature, evaluation_protocol
from slic.errors import InputError, SlicError
from slic.runs import Run, open_run
from slic.runtime.disk import check_writable
from slic.runtime.text import counted
from slic.upkeep.export_formats import NONE, WRITERS, Columns

Format = Literal["parquet", "csv", "npz"]
Which = Literal["backbone", "projection", "both"]
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # spreadsheets compute texts that begin so


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
    """Write a table of embeddings with one row per video, or per window of a video.

    Args:
        source: a run, whose latest checkpoint's embeddings are computed if they are not cached;
            or an embedding cache. Clusters are those of the run, or of the cache's run if any.
        store: embed this store instead of the run's; it has no clusters.
        output: the file; by default `<run>-<store>.<format>` or `<cache>.<format>`.
        format: by default as in the suffix of `output`, or parquet.
        feature: embeddings to write; `both` omits a projection that was never trained.
        names: csv file of cluster names, see `slic.cache.clusterings.read_names`.
        overwrite: replace an existing file.
        device, workers: for embeddings that are not cached yet.
        say: called with messages for the user.

    Returns:
        path, format, run, store, checkpoint, protocol, clustering, rows, videos, clustered
        (rows), columns, bytes, seconds.

    Raises:
        InputError: unusable input, or a file that exists already.
        DiskError: the file cannot be written; an earlier file stays.
    """
    begin = time.monotonic()
    kind = _format(output, format)
    run: Run | None
    if isinstance(source, Run):
        run, cache = source, None
        store_name = run.store_name if store is None else Path(store).name.removesuffix(".zarr")
        stem = f"{run.path.resolve().name}-{store_name}"
    else:
        run, cache = _run_of(source), EmbeddingCache(source)
        store_name, stem = str(cache.attributes.get("store")), source.stem
    # All input is checked before a whole store is embedded.
    path = Path(output or f"{stem}.{kind}")
    _check_output(path, overwrite=overwrite)
    features = _features(run, feature, say)
    clustering, clusters = _last_clustering(run, store_name)
    named = _cluster_names(names, clustering, clusters)
    if cache is None:
        assert run is not None
        protocol = evaluation_protocol(run.settings, None)
        cache = cached_embeddings(
            run,
            store=store,
            protocol=protocol,
            split=None,
            device=device,
            workers=workers,
            say=say,
        )[0]
    columns = _columns(cache, clusters, named, features)
    if kind == "csv":
        _say_formulas(columns, say)
    about = _about(run, cache, clustering)
    WRITERS[kind](path, columns, json.dumps(about))
    return {
        "path": str(path),
        "format": kind,
        **about,
        "rows": len(cache.ids),
        "videos": len(np.unique(cache.videos)),
        "clustered": int((columns["cluster"] != NONE).sum()),
        "columns": list(columns),
        "bytes": path.stat().st_size,
        "seconds": round(time.monotonic() - begin, 1),
    }


def _format(output: str | None, format: Format | None) -> str:
    if output is None:
        return format or "parquet"
    suffix = Path(output).suffix.removeprefix(".").lower()
    if suffix not in WRITERS:
        raise InputError(f"--output {output}: the name must end in .parquet, .csv or .npz")
    if format not in (None, suffix):
        raise InputError(f"--output {output}: not a name for --format {format}; omit one of them")
    return suffix


def _check_output(path: Path, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder; create it, or choose another --output")
    if path.is_dir():
        raise InputError(f"{path}: is a folder; choose another --output")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; use --overwrite, or choose another --output")
    check_writable(path.parent)


def _about(run: Run | None, cache: EmbeddingCache, clustering: str | None) -> dict[str, str | None]:
    """Describe what is exported; without folders, as the file may be shared."""
    keys = ("store", "checkpoint", "protocol")
    return {
        "run": None if run is None else run.path.resolve().name,
        **{key: str(cache.attributes.get(key, "")) for key in keys},
        "clustering": clustering,
        "slic": __version__,
    }


def _run_of(cache: Path) -> Run | None:
    """Return the run whose folder holds a cache, if any."""
    try:
        return open_run(cache.parent.parent)
    except SlicError:
        return None


def _last_clustering(run: Run | None, store_name: str) -> tuple[str | None, dict[str, int]]:
    """Return the name and the `{video id: cluster}` of a run's last clustering of this store."""
    if run is None or store_name != run.store_name or not (run.path / FILE).exists():
        return None, {}
    found = read_clusterings(run.path / FILE)
    return found.last if found.named else (None, {})


def _cluster_names(
    names: str | None, clustering: str | None, clusters: Mapping[str, int]
) -> dict[int, str] | None:
    if names is None:
        return None
    if clustering is None:
        raise InputError(f"--names {names}: there is no clustering for these embeddings; omit it")
    return read_names(Path(names), clustering, known=set(clusters.values()))


def _features(run: Run | None, feature: Which, say: Callable[[str], None]) -> tuple[str, ...]:
    if feature != "both":
        if run is not None:
            check_feature(run, feature)
        return (feature,)
    if run is not None and not run.head:
        say(f"{run.path}: its weights have no projection head; only the backbone is exported")
        return ("backbone",)
    return ("backbone", "projection")


def _columns(
    cache: EmbeddingCache,
    clusters: Mapping[str, int],
    names: Mapping[int, str] | None,
    features: Sequence[str],
) -> Columns:
    columns: Columns = {"id": cache.ids}
    if (windows := cache.places) is not None:
        columns |= {"of": windows.of, "start": windows.start, "end": windows.end}
    columns["label"] = np.full(len(cache.ids), "") if cache.labels is None else cache.labels
    columns |= {f"split{number}": words for number, words in cache.splits.items()}
    # Windows have the cluster of their video, as they have its label.
    found = [clusters.get(video, NONE) for video in cache.videos.tolist()]
    columns["cluster"] = np.array(found, dtype=np.int64)
    if names is not None:
        columns["cluster_name"] = np.array([names.get(c, "") for c in found], dtype=np.str_)
    return columns | {name: getattr(cache, name) for name in features}


def _say_formulas(columns: Columns, say: Callable[[str], None]) -> None:
    """Warn of texts that spreadsheets compute; they stay as they are, to be read back equal."""
    texts = {text for rows in columns.values() if rows.dtype.kind == "U" for text in rows.tolist()}
    if found := sorted(text for text in texts if text.startswith(FORMULA)):
        say(
            f"{counted(len(found), 'text')} that spreadsheets read as formulas, such as"
            f" {found[0][:40]!r}: import these columns as text"
        )
