"""A store's recorded parameters, against the fingerprints of them that its index holds."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from slic.cache import Codec, Entry, flow_settings
from slic.cache.clipstore import FLOW_QUALITY, FORMAT, fingerprint
from slic.cache.flow_settings import DEFAULT_BOUND, default_bound
from slic.cache.metadata import group, read_metadata
from slic.cache.shards import ArrayReader
from slic.errors import DamagedChunk, StoreError
from slic.runtime.disk import raise_if_unreadable

Settings = dict[str, Any]
DEFAULT_SIDE = 128


def read_root(path: Path) -> tuple[Settings, str | None]:
    """Attributes of a store's zarr.json, as far as they can be read, and what is wrong.

    Raises:
        StoreError: it is whole, and of a newer format.
        DiskError: the system refuses to read it.
    """
    try:
        document = read_metadata(path / "zarr.json")
    except OSError as error:
        raise_if_unreadable(path / "zarr.json", error)
        return {}, f"cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return {}, f"is damaged ({error})"
    attributes = document["attributes"]
    found = attributes.get("format")
    if type(found) is int and found > FORMAT:
        raise StoreError(f"{path}: format {found}, but this slic reads up to {FORMAT}; upgrade it")
    views = [attributes.get(view) for view in ("frames", "flow")]
    if document != group(attributes) or found != FORMAT:
        return {}, "is not as slic writes it"
    if not all(view is None or _is_codec(view) for view in views):
        return {}, "holds parameters that slic does not write"
    return attributes, None


def _is_codec(settings: Any) -> bool:
    return isinstance(settings, dict) and settings.get("codec") in ("jpeg", "zstd")


def codec_in(settings: Settings) -> Codec:
    """How arrays of these parameters are coded."""
    return Codec(settings["codec"], quality=int(settings.get("quality", 0)))


def flow_fingerprint(entry: Entry, settings: Settings) -> str | None:
    """What the index notes of flow computed by these parameters; None of imported flow."""
    if settings.get("method") != "tvl1":
        return None
    return flow_settings.flow_fingerprint(entry, settings)


def flow_bound(entry: Entry, settings: Settings) -> float | None:
    """The bound of an entry's flow by these parameters; None of imported flow."""
    if settings.get("method") != "tvl1":
        return None
    if settings["bound"] == DEFAULT_BOUND:
        return default_bound(entry.height or 0, entry.width or 0)
    return settings["bound"]


def fits_any(settings: Settings, view: str, entries: Iterable[Entry]) -> bool:
    """Whether any entry's fingerprint is of these parameters, or none could be."""
    if view == "frames":
        present = fingerprint(settings)
        known = [entry.settings == present for entry in entries]
    else:
        found = [(e.flow, flow_fingerprint(e, settings)) for e in entries if e.flow is not None]
        known = [noted == wanted for noted, wanted in found if wanted is not None]
    return any(known) or not known


def recovered(path: Path, entries: Sequence[Entry]) -> Settings:
    """Parameters that some stored video's arrays tell, and its fingerprints bear out."""
    found: Settings = {}
    for view, candidates in (("frames", _frames_by), ("flow", _flow_by)):
        for entry in entries[:10]:
            for settings in candidates(path, entry, entries):
                if view not in found and _bears_out(entry, view, settings):
                    found[view] = settings
    return found


def _bears_out(entry: Entry, view: str, settings: Settings) -> bool:
    if view == "frames":
        return entry.settings == fingerprint(settings)
    return entry.flow is not None and entry.flow == flow_fingerprint(entry, settings)


def _frames_by(path: Path, entry: Entry, entries: Sequence[Entry]) -> Iterator[Settings]:
    try:
        codec = ArrayReader(path / "frames" / entry.key).codec
    except DamagedChunk:
        return
    quality = {"quality": codec.quality} if codec.name == "jpeg" else {}
    # Videos smaller than the short side keep their size.
    sides = {min(e.height or 0, e.width or 0) for e in entries}
    for side in sorted({DEFAULT_SIDE, *sides}, reverse=True):
        settings = {"short_side": side, "codec": codec.name, **quality}
        yield settings
        yield {**settings, "fps": entry.fps}


def _flow_by(path: Path, entry: Entry, _entries: Sequence[Entry]) -> Iterator[Settings]:
    try:
        array = ArrayReader(path / "flow" / entry.key)
        parameters = dict(array.attributes["parameters"])
        bound = float(array.attributes["bound"])
    except (DamagedChunk, LookupError, TypeError, ValueError):
        return
    codec: Settings = {"codec": array.codec.name}
    codec |= {"quality": FLOW_QUALITY} if array.codec.name == "jpeg" else {}
    for stated in (bound, DEFAULT_BOUND):
        yield {"method": "tvl1", **parameters, "bound": stated, **codec}
