"""The zarr.json files of a clip store: checksummed, and written atomically.

Zarr has checksums of chunks, not of metadata: without ours, a flipped bit in a bound reads as other
flow.
"""

import json
from pathlib import Path
from typing import Any

import google_crc32c

from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import SMALL, read_regular

CHECKSUM = "crc32c"


def group(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a group's zarr.json."""
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


# The nodes below a store's root. The index is an array, because Zarr does not look for children
# inside one.
PARTS: dict[str, dict[str, Any]] = {
    "frames": group({}),
    "flow": group({}),
    "index": {
        "shape": [0],
        "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        "attributes": {"about": "index.sqlite: one row a video"},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    },
}


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a zarr.json, and remove its checksum; the first version wrote some without one.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, or no object with attributes.
    """
    try:
        document = json.loads(read_regular(path, limit=SMALL))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise ValueError("no object with attributes")
    attributes, bare = document["attributes"], _without(document, CHECKSUM)
    if CHECKSUM in attributes:
        if attributes[CHECKSUM] != _sum(bare):
            raise ValueError("its checksum fails")
    # A flipped bit in the checksum's name makes a file look as if it had none.
    elif any(type(v) is int and v == _sum(_without(bare, k)) for k, v in attributes.items()):
        raise ValueError("its checksum has another name")
    return bare


def write_metadata(path: Path, document: dict[str, Any]) -> None:
    """Write a zarr.json with its checksum, atomically.

    Raises:
        DiskError: the file system refuses; the previous file stays as it is.
    """
    bare = _without(document, CHECKSUM)
    attributes = {**bare["attributes"], CHECKSUM: _sum(bare)}
    with atomic_write(path) as file:
        file.write(json.dumps({**bare, "attributes": attributes}, indent=2).encode())


def _without(document: dict[str, Any], attribute: str) -> dict[str, Any]:
    rest = {name: value for name, value in document["attributes"].items() if name != attribute}
    return {**document, "attributes": rest}


def _sum(document: dict[str, Any]) -> int:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return google_crc32c.value(text.encode())
