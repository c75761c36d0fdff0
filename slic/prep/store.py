"""Which store a data set goes to, with which parameters, and what a stage reports."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from slic.cache import ClipStore, View
from slic.cache.clipstore import FLOW_QUALITY
from slic.cache.index import Entry
from slic.cache.shards import CodecName
from slic.datasets.videos import Dataset, Layout, read_dataset
from slic.errors import InputError, StoreError

T = TypeVar("T")
LayoutChoice = Layout | Literal["auto"]
IMPORTED = "imported"  # the engine, and the method, of flow that was not computed here


@dataclass
class PrepResult:
    """What `prep frames` or `prep flow` did.

    Attributes:
        store: the store's path.
        videos: videos of the data set (of those that `--limit` leaves).
        written, skipped, failed: of these, done now, done before, and impossible.
        frames: frames (or flow fields) written now.
        seconds: time taken.
        failures: (id, reason) of all videos that are impossible.
        new_failures: how many of them were found now.
        damaged: (id, reason) of all videos of which only a part could be stored.
        notes: remarks for the user.
        estimated_bytes: of disk that what was missing would take, as estimated before.
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
        """Itself, with failures and the rest counted, and the time since `begin` (monotonic)."""
        self.failed = len(self.failures)
        self.skipped = self.videos - self.written - self.failed
        self.seconds = round(time.monotonic() - begin, 3)
        return self

    def json(self) -> dict[str, Any]:
        """The keys of `--json`."""
        names = ("store", "videos", "written", "skipped", "failed", "frames", "seconds")
        lists = {
            kind: [{"id": video, "reason": reason} for video, reason in getattr(self, kind)]
            for kind in ("failures", "damaged")
        }
        values = {name: getattr(self, name) for name in (*names, "estimated_bytes")}
        return values | lists


def is_store(path: Path) -> bool:
    """Whether a path is a clip store rather than a data set."""
    return (path / "zarr.json").is_file()


def resolve(
    dataset: str, *, store: str | None, layout: LayoutChoice
) -> tuple[Dataset | None, Path]:
    """The data set (None if the argument is itself a store) and the store it goes to.

    Raises:
        DatasetError: no usable data set there.
        InputError: a store was given together with another `--store`.
    """
    path = Path(dataset)
    if is_store(path):
        if store is not None and Path(store).resolve() != path.resolve():
            raise InputError(f"{dataset}: is a store already; leave out --store {store}")
        return None, path
    found = read_dataset(path, layout=layout)
    return found, Path(store) if store else Path(f"{found.name}.zarr")


def agree_on_settings(
    store: ClipStore,
    view: View,
    settings: dict[str, Any],
    *,
    overwrite: bool,
    record: bool = True,
) -> None:
    """Record the parameters of a view (if `record`), or refuse ones that differ from the store's.

    Raises:
        StoreError: they differ, and `overwrite` was not given.
    """
    present = store.settings(view)
    if present == settings:
        return
    if present is not None and not overwrite:
        keys = sorted(present.keys() | settings.keys())
        changed = [
            f"{key} {present.get(key)} -> {settings.get(key)}"
            for key in keys
            if present.get(key) != settings.get(key)
        ]
        raise StoreError(
            f"{store.path}: holds {view} with other parameters ({', '.join(changed)});"
            " give --overwrite to replace them, or another --store"
        )
    if record:
        store.set_settings(view, settings)


def entries_of(store: ClipStore, dataset: Dataset | None) -> list[Entry]:
    """The store's entries, or those of them that are in the data set."""
    ids = {video.id for video in dataset.videos} if dataset else None
    return [entry for entry in store.index.entries() if ids is None or entry.id in ids]


def frame_parameters(
    path: Path, *, short_side: int | None, codec: CodecName | None
) -> dict[str, Any]:
    """Frame parameters as asked, else as the store has them, else the defaults."""
    present = (ClipStore(path).settings("frames") or {}) if is_store(path) else {}
    return {
        "short_side": short_side or present.get("short_side", 128),
        "codec": codec or present.get("codec", "jpeg"),
        "fps": present.get("fps"),
    }


def flow_codec(store: ClipStore) -> dict[str, Any]:
    """How a store's flow is coded: as its frames, at a quality of its own."""
    codec = (store.settings("frames") or {}).get("codec", "jpeg")
    return {"codec": codec} | ({"quality": FLOW_QUALITY} if codec == "jpeg" else {})


def sample(items: Iterable[T], limit: int | None, *, key: str = "id") -> list[T]:
    """`limit` items spread over the whole: those with the smallest digests of their ids."""
    chosen = list(items)
    if limit is None or limit >= len(chosen):
        return chosen

    def digest(item: T) -> bytes:
        return hashlib.blake2b(getattr(item, key).encode(), digest_size=8).digest()

    kept = {id(item) for item in sorted(chosen, key=digest)[:limit]}
    return [item for item in chosen if id(item) in kept]


def list_failures(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """(id, reason) of the entries that failed."""
    return [(entry.id, entry.reason) for entry in entries if entry.reason is not None]
