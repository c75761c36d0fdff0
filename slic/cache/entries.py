"""One video of a store: its index row, and what is derived from it for names and arrays."""

import hashlib
import json
import re
from dataclasses import dataclass, fields
from typing import Any

SPLITS = (1, 2, 3)
_LONGEST_SLUG = 60  # characters: with digest and suffixes, a name stays below 255 bytes
# Fields of a row that an array of frames repeats, so that a lost index can be made from arrays.
_REPEATED = ("id", "path", "fps", "settings", "source_bytes", "remark")


@dataclass(frozen=True, slots=True)
class Entry:
    """The index row of one video.

    Attributes:
        id: the video's id (its path inside the data set).
        key: name of its arrays under `frames/` and `flow/`.
        path: path inside the data set, with `/`.
        label: class name, or None.
        group: clips of one group share scene and actors; or None.
        split1, split2, split3: `train`, `test`, `unused`, or None if there is no such split.
        frames: number of stored frames; None if decoding failed.
        height, width: size of the stored frames in pixels.
        fps: frames per second of the source.
        settings: fingerprint of the parameters its frames were made with.
        source_bytes, source_mtime_ns, source_digest: the file that was decoded.
        reason: why it could not be stored, or None.
        remark: what was odd although it was stored, or None.
        flow: fingerprint of its stored flow, or None.
    """

    id: str
    key: str
    path: str
    label: str | None = None
    group: str | None = None
    split1: str | None = None
    split2: str | None = None
    split3: str | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    settings: str | None = None
    source_bytes: int | None = None
    source_mtime_ns: int | None = None
    source_digest: str | None = None
    reason: str | None = None
    remark: str | None = None
    flow: str | None = None

    def split(self, number: int) -> str | None:
        """Return `train`, `test` or `unused` in a split, or None if there is no such split."""
        return {1: self.split1, 2: self.split2, 3: self.split3}.get(number)


COLUMNS = tuple(field.name for field in fields(Entry))


def video_key(video_id: str) -> str:
    """Name a video's arrays: safe on every file system, distinct for distinct ids."""
    stem = video_id.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    slug = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:_LONGEST_SLUG] or "video"
    return f"{slug}-{hashlib.blake2b(video_id.encode(), digest_size=8).hexdigest()}"


def fingerprint(settings: dict[str, Any]) -> str:
    """Return a short digest of parameters, independent of their order."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def flow_fingerprint(entry: Entry, settings: dict[str, Any]) -> str:
    """Return the fingerprint of a video's flow, which depends on its very frames."""
    return fingerprint(
        {**settings, "source": entry.source_digest, "frames": entry.settings},
    )


def array_attributes(entry: Entry) -> dict[str, Any]:
    """Return the attributes of an array of frames: its row without labels, splits and sizes."""
    return {name: getattr(entry, name) for name in _REPEATED} | {"source": entry.source_digest}


def entry_from_array(attributes: dict[str, Any], shape: tuple[int, int, int, int]) -> Entry | None:
    """Make a row from the attributes and shape of an array of frames; None if they don't suffice.

    Label, group and splits are left to `prep frames`, which reads the data set again.
    """
    try:
        known = {name: attributes[name] for name in _REPEATED}
        source, key = attributes["source"], video_key(known["id"])
    except (KeyError, AttributeError, UnicodeError):
        return None
    frames, height, width, _ = shape
    sizes: dict[str, Any] = {"frames": frames, "height": height, "width": width}
    return Entry(**known, **sizes, key=key, source_digest=source)
