"""The examples of the documentation run as they stand."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

FORMATS = Path(__file__).parent.parent / "docs" / "formats.md"


def examples(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_store_is_read_by_zarr_alone(
    drawn_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(drawn_store.parent)
    namespace: dict[str, object] = {}
    exec(examples(FORMATS)[0], namespace)
    assert namespace["frames"].shape == (16, 48, 64, 3)
    assert namespace["pixels"].shape == (16, 48, 64, 2)
    assert str(namespace["video"]) in capsys.readouterr().out


def test_cache_is_read_by_h5py_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.array([[1, 0], [0, 1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], dtype=np.float32)
    with h5py.File("cache.h5", "w") as cache:
        cache["backbone"] = rows
        cache["label"] = ["a", "b", "a", "b", "b"]
        cache["split"] = ["train", "train", "test", "test", "test"]
    exec(examples(FORMATS)[1], {})
    # The last query lies nearest to the gallery's "a", but is a "b": two hits of three.
    assert f"recall at 1: {2 / 3}" in capsys.readouterr().out
