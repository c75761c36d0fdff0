"""What an array of frames tells of its video: a lost index is made anew without decoding."""

from typing import Any

from slic.cache.clipstore import video_key
from slic.cache.index import Entry

_TOLD = ("id", "path", "fps", "settings", "source_bytes", "remark")


def described(entry: Entry) -> dict[str, Any]:
    """Attributes of an entry's array: all of its row but labels, splits, flow and sizes."""
    return {name: getattr(entry, name) for name in _TOLD} | {"source": entry.source_digest}


def entry_of(attributes: dict[str, Any], shape: tuple[int, int, int, int]) -> Entry | None:
    """The row that an array's attributes and shape tell; None of one that does not tell it.

    Label, group and splits are left to `prep frames`, which reads the data set again.
    """
    if not {*_TOLD, "source"} <= attributes.keys():
        return None
    told = {name: attributes[name] for name in _TOLD}
    try:
        key = video_key(str(told["id"]))
    except UnicodeError:
        return None
    frames, height, width, _ = shape
    return Entry(
        **told,
        key=key,
        label=None,
        group=None,
        split1=None,
        split2=None,
        split3=None,
        frames=frames,
        height=height,
        width=width,
        source_digest=attributes["source"],
    )
