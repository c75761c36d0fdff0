"""What the parameters of a store's TV-L1 flow mean for one video: its bound and its fingerprint."""

from typing import Any

from slic.cache.clipstore import fingerprint
from slic.cache.index import Entry

SHORT_SIDE_SHARE = 12
DEFAULT_BOUND = f"short side / {SHORT_SIDE_SHARE}"


def default_bound(height: int, width: int) -> float:
    """Flow at which a video's stored values saturate unless told otherwise, pixels a frame."""
    return min(height, width) / SHORT_SIDE_SHARE


def flow_fingerprint(entry: Entry, settings: dict[str, Any]) -> str:
    """What the index notes of a video's flow, which belongs to the very frames it was made from."""
    of = {"source": entry.source_digest, "frames": entry.settings}
    return fingerprint({**settings, **of})
