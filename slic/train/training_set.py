"""Which videos of a store a run trains on, and is tested on."""

from slic.cache import ClipStore, Entry
from slic.config import Settings
from slic.errors import StoreError

LEAST_VIDEOS = 2


def training_entries(store: ClipStore, settings: Settings) -> list[Entry]:
    """The videos to train on: those that the split's list calls `train`.

    Raises:
        StoreError: no such split, too few videos, frames of different parameters, or flow is
            asked for and missing.
    """
    stored = store.entries()
    entries = [entry for entry in stored if entry.split(settings.split) == "train"]
    if not any(entry.split(settings.split) for entry in stored):
        raise StoreError(f"{store.path}: has no split {settings.split}")
    if len(entries) < LEAST_VIDEOS:
        raise StoreError(
            f"{store.path}: {len(entries)} training video(s) in split {settings.split};"
            f" a triplet needs at least {LEAST_VIDEOS}"
        )
    outdated = store.outdated(entries)
    if outdated:
        raise StoreError(
            f"{store.path}: {len(outdated)} of {len(entries)} training videos have frames of other"
            " parameters than the others, since `slic prep frames --overwrite` was stopped: run"
            " `slic prep frames` on the data set again"
        )
    without = sum(entry.flow is None for entry in entries)
    if settings.uses_flow and without:
        raise StoreError(
            f"{store.path}: {without} of {len(entries)} training videos have no flow; run"
            f" `slic prep flow {store.path}`, or train with --no-flow"
        )
    return entries


def tested_entries(store: ClipStore, settings: Settings) -> list[Entry]:
    """The labelled test videos of the split, whose recall is recorded and never looked at."""
    tested = (e for e in store.entries() if e.split(settings.split) == "test")
    return [entry for entry in tested if entry.label is not None]
