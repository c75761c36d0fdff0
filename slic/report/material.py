"""What a report is made of: a run's store, embeddings, clusterings and lines, as far as there."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

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

Say = Callable[[str], None]
Kind = Literal["epoch", "clustering", "done"]


@dataclass(frozen=True)
class Material:
    """What there is of a run.

    Attributes:
        run: the run.
        path: of the store.
        split: number.
        store: None where it is gone or cannot be read.
        entries, failures: its stored videos, and those that could not be stored.
        cache: embeddings by the latest checkpoint; None where there can be none.
        own: the store is the one that the run was trained on, whose videos its clusters are of.
        clusterings: None where there is none.
        records: lines of metrics.jsonl by kind; None where that is damaged.
        remarks: what is missing, and why.
    """

    run: Run
    path: Path
    split: int
    store: ClipStore | None
    entries: list[Entry]
    failures: list[Entry]
    cache: EmbeddingCache | None
    own: bool
    clusterings: Clusterings | None
    records: dict[str, list[dict[str, Any]]] | None
    remarks: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Of the store."""
        return self.path.name.removesuffix(".zarr")

    def lines(self, kind: Kind) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of a kind, as far as known."""
        return [] if self.records is None else self.records[kind]

    @property
    def feature(self) -> Feature:
        """Which embedding is compared: the run's, but no projection that was never trained."""
        return self.run.settings.retrieval_feature if self.run.head else "backbone"

    @property
    def labels(self) -> dict[str, str | None]:
        """Label by video id, where known."""
        if self.store is not None or self.cache is None:
            return {entry.id: entry.label for entry in self.entries}
        ids, labels = self.cache.ids.tolist(), self.cache.labels
        if labels is None:
            return dict.fromkeys(ids)
        return {video: label or None for video, label in zip(ids, labels.tolist(), strict=True)}


def gather(
    run: Run,
    *,
    store: str | None = None,
    split: int | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Say = print,
) -> Material:
    """Everything that a report can be made of; embeddings are computed where not cached.

    What is missing or damaged is left out with a remark, but for what was asked for by name.

    Raises:
        StoreError, LabelsMissing: `store` or `split` is given and cannot be had.
    """
    remarks: list[str] = []
    path = run.store if store is None else Path(store)
    records = _records(run, remarks)
    clusterings = _clusterings(run, remarks)
    clips, entries, failures = _store(path, given=store is not None, remarks=remarks)
    if split is not None and clips is not None:
        check_split(clips, split)
    own = _is_own(run, path, clips)
    how: dict[str, Any] = {"device": device, "workers": workers, "say": say}
    cache = _embeddings(run, store, remarks, how)
    number = run.settings.split if split is None else split
    if cache is not None:
        say_seen(run, path, number, remarks.append)
        _note_unanswerable(cache, number, path, given=split is not None, remarks=remarks)
    return Material(
        run,
        path,
        number,
        clips,
        entries,
        failures,
        cache,
        own,
        clusterings,
        records,
        [_without_folders(remark, run, path) for remark in remarks],
    )


def _without_folders(remark: str, run: Run, store: Path) -> str:
    """A remark that names a run's files and its store, but not where they lie: a page travels."""
    for folder in (run.path, store.parent, run.path.parent):
        if folder.name:
            remark = remark.replace(f"{folder}{os.sep}", "")
    return remark


def _records(run: Run, remarks: list[str]) -> dict[str, list[dict[str, Any]]] | None:
    if (run.path / FAILED_STEP).exists():
        remarks.append(f"The last attempt to train this run failed: {FAILED_STEP} tells where.")
    try:
        return {kind: run.records(kind) for kind in get_args(Kind)}
    except CheckpointError as error:
        what = f"`slic cache verify {run.path.name} --repair` drops it"
        remarks.append(f"There are no curves. {error}; {what}.")
        return None


def _clusterings(run: Run, remarks: list[str]) -> Clusterings | None:
    file = run.path / FILE
    if not file.exists():
        return None
    try:
        found = read_clusterings(file)
    except CheckpointError as error:
        remarks.append(f"There are no clusters. {error}.")
        return None
    return found if found.ids and found.named else None


def _store(
    path: Path, *, given: bool, remarks: list[str]
) -> tuple[ClipStore | None, list[Entry], list[Entry]]:
    if not path.is_dir():
        remarks.append(
            f"The store {path.name} is not there: no video has a picture, and what failed is"
            " not known."
        )
        return None, [], []
    try:
        store = ClipStore(path)
        return store, store.entries(), store.failures()
    except StoreError as error:
        if given:
            raise
        remarks.append(f"The store cannot be read. {error}.")
        return None, [], []


def _is_own(run: Run, path: Path, store: ClipStore | None) -> bool:
    if path.resolve() == run.store.resolve():
        return True
    held = set() if store is None else {store.digest(flow=flow) for flow in (False, True)}
    return run.store_digest in held


def _embeddings(
    run: Run, store: str | None, remarks: list[str], how: dict[str, Any]
) -> EmbeddingCache | None:
    protocol = evaluation_protocol(run.settings, None)
    try:
        return cached_embeddings(run, store=store, protocol=protocol, split=None, **how)[0]
    except (CheckpointError, StoreError, CacheError, DamagedChunk) as error:
        if store is not None and isinstance(error, StoreError):
            raise
        remarks.append(f"There are no embeddings, and so no gallery, map or recall. {error}.")
        return None


def _note_unanswerable(
    cache: EmbeddingCache, split: int, path: Path, *, given: bool, remarks: list[str]
) -> None:
    """A remark where nothing can be told right from wrong, and why."""
    try:
        split_parts(cache, split=split, feature="backbone", where=Path(path.name))
    except (LabelsMissing, StoreError) as error:
        if given:
            raise
        what = "no recall and no confusion, and the gallery shows the nearest of all videos"
        remarks.append(f"There is {what}. {error}.")
