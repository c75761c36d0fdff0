"""What a report is made from: store, embeddings, clusterings and log of a run, if available."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.cache.clusterings import FILE, Clusterings, read_clusterings
from slic.config import Feature
from slic.embed.cached import (
    cached_embeddings,
    check_split,
    evaluation_protocol,
    say_seen,
    split_parts,
)
from slic.engine.divergence import FAILED_STEP
from slic.errors import CacheError, CheckpointError, DamagedChunk, LabelsMissing, StoreError
from slic.runs import Run


@dataclass(frozen=True)
class ReportInputs:
    """Everything that is known about a run.

    Attributes:
        run: the run.
        store_path: path of the store.
        split: number of the split.
        store: the store; None if it is missing or unreadable.
        entries: its stored videos.
        failures: videos that could not be stored.
        cache: embeddings by the latest checkpoint; None if there are none.
        own: whether the store is the one that the run was trained on, which its clusters are of.
        clusterings: clusterings of the training videos; None if there are none.
        records: lines of metrics.jsonl by kind; None if the file is damaged.
        remarks: what is missing, and why; sections may add more.
    """

    run: Run
    store_path: Path
    split: int
    store: ClipStore | None
    entries: list[Entry]
    failures: list[Entry]
    cache: EmbeddingCache | None
    own: bool
    clusterings: Clusterings | None
    records: dict[str, list[dict[str, Any]]] | None
    remarks: list[str]

    def lines(self, kind: str) -> list[dict[str, Any]]:
        """Return the lines of metrics.jsonl of a kind: `epoch`, `clustering` or `done`."""
        return (self.records or {}).get(kind, [])

    @property
    def feature(self) -> Feature:
        """Embedding to compare: the run's setting, but never an untrained projection."""
        return self.run.settings.retrieval_feature if self.run.head else "backbone"


def read_inputs(
    run: Run,
    *,
    store: str | None,
    split: int | None,
    device: str,
    workers: int | None,
    say: Callable[[str], None],
) -> ReportInputs:
    """Collect the inputs of a report, and compute embeddings that are not cached yet.

    The arguments are those of `report`.

    Raises:
        StoreError, LabelsMissing: `store` or `split` is given and unusable.
    """
    remarks: list[str] = []
    path = run.store if store is None else Path(store)
    records = _records(run, remarks)
    clusterings = _clusterings(run, remarks)
    clips, entries, failures = _store(path, remarks, must_open=store is not None)
    if split is not None and clips is not None:
        check_split(clips, split)
    own = _is_own(run, path, clips)
    protocol = evaluation_protocol(run.settings, None)
    how: dict[str, Any] = {"device": device, "workers": workers, "say": say}
    cache = None
    try:
        cache, _ = cached_embeddings(run, store=store, protocol=protocol, split=None, **how)
    except (CheckpointError, StoreError, CacheError, DamagedChunk) as error:
        if store is not None and isinstance(error, StoreError):
            raise
        remarks.append(f"There are no embeddings, and so no gallery, map or recall. {error}.")
    number = run.settings.split if split is None else split
    if cache is not None:
        say_seen(run, path, number, remarks.append)
        _remark_on_labels(cache, number, path, remarks)
    remarks = [_without_folders(remark, run, path) for remark in remarks]
    return ReportInputs(
        run, path, number, clips, entries, failures, cache, own, clusterings, records, remarks
    )


def _without_folders(remark: str, run: Run, store: Path) -> str:
    """Remove the folders of run and store from a remark: the page may be sent to others."""
    for folder in (run.path, store.parent, run.path.parent):
        if folder.name:
            remark = remark.replace(f"{folder}{os.sep}", "")
    return remark


def _records(run: Run, remarks: list[str]) -> dict[str, list[dict[str, Any]]] | None:
    if (run.path / FAILED_STEP).exists():
        remarks.append(f"The last attempt to train this run failed; see {FAILED_STEP}.")
    try:
        return {kind: run.records(kind) for kind in ("epoch", "clustering", "done")}
    except CheckpointError as error:
        repair = f"`slic cache verify {run.path.name} --repair` removes the damaged line"
        remarks.append(f"There are no curves. {error}; {repair}.")
        return None


def _clusterings(run: Run, remarks: list[str]) -> Clusterings | None:
    if not (run.path / FILE).exists():
        return None
    try:
        found = read_clusterings(run.path / FILE)
    except CheckpointError as error:
        remarks.append(f"There are no clusters. {error}.")
        return None
    return found if found.ids and found.named else None


def _store(
    path: Path, remarks: list[str], *, must_open: bool
) -> tuple[ClipStore | None, list[Entry], list[Entry]]:
    """Open a store and list its stored and failed videos."""
    if path.is_dir():
        try:
            store = ClipStore(path)
            return store, store.entries(), store.failures()
        except StoreError as error:
            if must_open:
                raise
            remarks.append(f"The store cannot be read. {error}.")
    else:
        remarks.append(
            f"The store {path.name} is missing: no pictures, and no list of failed videos."
        )
    return None, [], []


def _is_own(run: Run, path: Path, store: ClipStore | None) -> bool:
    if path.resolve() == run.store.resolve():
        return True
    # The run's own store may have been moved or copied.
    digests = set() if store is None else {store.digest(flow=flow) for flow in (False, True)}
    return run.store_digest in digests


def _remark_on_labels(cache: EmbeddingCache, split: int, path: Path, remarks: list[str]) -> None:
    """Explain why there is no recall, if labels or split are missing."""
    try:
        split_parts(cache, split=split, feature="backbone", where=Path(path.name))
    except (LabelsMissing, StoreError) as error:
        remarks.append(
            "There is no recall and no confusion, and the gallery compares all videos with each"
            f" other. {error}."
        )
