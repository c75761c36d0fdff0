"""Trees of empty files and lists of them, for the tests of all layouts."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from slic.datasets.videos import read_dataset
from slic.errors import DatasetError


def make(root: Path, paths: Iterable[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write(file: Path, *lines: str, end: str = "\n", bom: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes((bom + "".join(line + end for line in lines)).encode())
    return file


def message(path: object, layout: str = "auto") -> str:
    """The error of reading `path`, which must be one printable line."""
    with pytest.raises(DatasetError) as caught:
        read_dataset(path, layout=layout)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert text.isprintable()
    return text
