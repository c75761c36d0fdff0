"""A zarr.json of a clip store: sealed by a checksum of its own, and replaced whole.

Zarr checks chunks, not metadata: without the seal, a flipped bit in a bound reads as other flow.
"""

import json
from pathlib import Path
from typing import Any

import google_crc32c

from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import SMALL, read_regular

SEAL = "crc32c"


def group(attributes: dict[str, Any]) -> dict[str, Any]:
    """The zarr.json of a group."""
    return {"attributes": attributes, "zarr_format": 3, "node_type": "group"}


# What stands below a store's root. The index is an array node, because Zarr does not look for
# children inside one.
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


def sealed(document: dict[str, Any]) -> dict[str, Any]:
    """A zarr.json's content, with the checksum of all the rest among its attributes."""
    bare = _without_seal(document)
    return {**bare, "attributes": {**bare["attributes"], SEAL: _sum(bare)}}


def read_metadata(path: Path) -> dict[str, Any]:
    """A zarr.json's content without its seal; one written before there were seals has none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    return unsealed(load_metadata(path))


def load_metadata(path: Path) -> dict[str, Any]:
    """A zarr.json's content as it is, its seal unchecked.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no object with attributes.
    """
    document = json.loads(read_regular(path, limit=SMALL))
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise ValueError("no object with attributes")
    return document


def unsealed(document: dict[str, Any]) -> dict[str, Any]:
    """A zarr.json's content without its seal; ValueError if the seal does not fit it."""
    bare = _without_seal(document)
    if SEAL not in document["attributes"]:
        _refuse_renamed_seal(bare)
    elif document["attributes"][SEAL] != _sum(bare):
        raise ValueError("its checksum fails")
    return bare


def write_metadata(path: Path, document: dict[str, Any]) -> None:
    """Write a zarr.json, sealed, whole or not at all.

    Raises:
        DiskError: the file system refuses.
    """
    with atomic_write(path) as file:
        file.write(json.dumps(sealed(document), indent=2).encode())


def _refuse_renamed_seal(document: dict[str, Any]) -> None:
    """Refuse one whose seal has lost its name to a flipped bit, and so seems to have none."""
    for name, value in document["attributes"].items():
        if type(value) is int and value == _sum(_without(document, name)):
            raise ValueError("its checksum has another name")


def _without_seal(document: dict[str, Any]) -> dict[str, Any]:
    return _without(document, SEAL)


def _without(document: dict[str, Any], attribute: str) -> dict[str, Any]:
    rest = {name: value for name, value in document["attributes"].items() if name != attribute}
    return {**document, "attributes": rest}


def _sum(document: dict[str, Any]) -> int:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return google_crc32c.value(text.encode())
