"""Prepare a store for frames or flow: its parameters, the videos to process, the result."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from slic.cache import ClipStore, Codec, View
from slic.cache.clipstore import FLOW_QUALITY
from slic.cache.entries import Entry
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset, Layout, Video, read_dataset
from slic.errors import InputError, StoreError

T = TypeVar("T", Entry, Video)
LayoutChoice = Layout | Literal["auto"]
IMPORTED = "imported"  # engine and method of flow that was read from images


@dataclass(frozen=True)
class Scope:
    """Which videos of a data set a run processes.

    Attributes:
        limit: at most so many, a fixed sample of all. None: all.
        overwrite: also those that are stored.
        retry: also those that failed before.
    """

    limit: int | None = None
    overwrite: bool = False
    retry: bool = False


@dataclass
class PrepResult:
    """What `prep frames` or `prep flow` did.

    Attributes:
        store: path of the store.
        videos: number of videos of the data set, or of the sample that a limit leaves.
        written, skipped, failed: how many of these were stored now, were stored before, and
            cannot be stored.
        frames: number of frames, or of flow fields, stored now.
        seconds: duration.
        failures: (id, reason) of all videos that cannot be stored.
        new_failures: how many of them failed now.
        damaged: (id, reason) of all videos of which only a part could be stored.
        notes: remarks for the user.
        estimated_bytes: disk space for the missing videos, as estimated before.
    """

    store: str
    videos: int = 0
    written: int = 0
    skipped: int = 0
    failed: int = 0
    frames: int = 0
    seconds: float = 0.0
    failures: list[tuple[str, str]] = field(default_factory=list)
    new_failures: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    estimated_bytes: int = 0

    def finished(self, begin: float) -> "PrepResult":
        """Fill in the counts that follow from others, and the time since `begin` (monotonic)."""
        self.failed = len(self.failures)
        self.skipped = self.videos - self.written - self.failed
        self.seconds = round(time.monotonic() - begin, 3)
        return self

    def json(self) -> dict[str, Any]:
        """Return the object that `--json` prints."""
        values = {
            key: value for key, value in vars(self).items() if key not in ("new_failures", "notes")
        }
        lists = {
            kind: [{"id": video, "reason": reason} for video, reason in values.pop(kind)]
            for kind in ("failures", "damaged")
        }
        return values | lists


def is_store(path: Path) -> bool:
    """Return whether a path is a clip store rather than a data set."""
    return (path / "zarr.json").is_file()


def resolve(
    dataset: str, *, store: str | None, layout: LayoutChoice
) -> tuple[Dataset | None, Path]:
    """Return the data set, None if the argument is itself a store, and the path of the store.

    Raises:
        DatasetError: there is no usable data set.
        InputError: a store was given, and another one with `--store`.
    """
    path = Path(dataset)
    if is_store(path):
        if store is not None and Path(store).resolve() != path.resolve():
            raise InputError(f"{dataset}: is a store already; omit --store {store}")
        return None, path
    found = read_dataset(path, layout=layout)
    return found, Path(store) if store else Path(f"{found.name}.zarr")


def check_settings(
    store: ClipStore, view: View, settings: dict[str, Any], *, overwrite: bool
) -> None:
    """Compare the parameters of a view with those that the store records.

    Raises:
        StoreError: they differ, and `overwrite` is False.
    """
    stored = store.settings(view)
    if stored is None or stored == settings or overwrite:
        return
    changes = [
        f"{key} {stored.get(key)} -> {settings.get(key)}"
        for key in sorted(stored.keys() | settings.keys())
        if stored.get(key) != settings.get(key)
    ]
    raise StoreError(
        f"{store.path}: holds {view} with other parameters ({', '.join(changes)});"
        " give --overwrite to replace them, or another --store"
    )


def entries_of(store: ClipStore, dataset: Dataset | None) -> list[Entry]:
    """Return the store's entries; with a data set, only those of its videos."""
    ids = {video.id for video in dataset.videos} if dataset else None
    return [entry for entry in store.index.entries() if ids is None or entry.id in ids]


def frame_settings(
    path: Path, *, short_side: int | None, codec: CodecName | None
) -> dict[str, Any]:
    """Return the parameters of frames: those given, else the store's, else the defaults."""
    stored = (ClipStore(path).settings("frames") or {}) if is_store(path) else {}
    return {
        "short_side": short_side or stored.get("short_side", 128),
        "codec": codec or stored.get("codec", "jpeg"),
        "fps": stored.get("fps"),
    }


def flow_codec(store: ClipStore) -> dict[str, Any]:
    """Return how a store's flow is coded: like its frames, with a quality of its own."""
    codec = (store.settings("frames") or {}).get("codec", "jpeg")
    return {"codec": codec} | ({"quality": FLOW_QUALITY} if codec == "jpeg" else {})


def codec_of(settings: dict[str, Any]) -> Codec:
    """Return the codec that a view's parameters describe."""
    return Codec(settings["codec"], quality=settings.get("quality", 0))


def sample(items: Sequence[T], limit: int | None) -> list[T]:
    """Return at most `limit` items, those with the smallest digests of their ids, in order.

    The choice is spread over all items, and a larger limit includes a smaller one's choice.
    """

    def digest(item: T) -> bytes:
        return hashlib.blake2b(item.id.encode(), digest_size=8).digest()

    if limit is None or limit >= len(items):
        return list(items)
    chosen = {item.id for item in sorted(items, key=digest)[:limit]}
    return [item for item in items if item.id in chosen]


def list_failures(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Return (id, reason) of the entries that failed."""
    return [(entry.id, entry.reason) for entry in entries if entry.reason is not None]
