"""The examples of the documentation run as they stand."""

import ast
import contextlib
import itertools
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from slic.cache import ClipStore
from slic.prep.tvl1 import Tvl1Parameters
from slic.upkeep.verify.caches import CURRENT, OUTDATED, STORE_GONE
from slic.upkeep.verify.targets import verify

FORMATS = Path(__file__).parent.parent / "docs" / "formats.md"
FLOW = FORMATS.with_name("flow.md")
RELIABILITY = FORMATS.with_name("reliability.md")
OWN_LOOP = FORMATS.with_name("own-training-loop.md")
CACHE = FORMATS.with_name("cache.md")


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


def test_flow_is_read_in_levels_and_in_pixels(
    drawn_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drawn_store.parent)
    stored, in_memory = examples(FLOW)
    namespace: dict[str, Any] = {}
    exec(stored, namespace)
    pixels = (namespace["levels"].astype(np.float32) - 128) * 3.0 / 127
    np.testing.assert_allclose(namespace["pixels"], pixels, atol=1e-6)
    exec(in_memory, namespace | {"gray": np.zeros((3, 20, 30), np.uint8)})


def test_flow_parameters_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (`.*?) \| ([\d., ]+) \|", FLOW.read_text(), flags=re.MULTILINE)
    names = [name for cell, _ in rows for name in re.findall(r"`(\w+)`", cell)]
    values = [float(value) for _, cell in rows for value in cell.split(",")]
    assert dict(zip(names, values, strict=True)) == asdict(Tvl1Parameters())


@pytest.mark.slow
def test_own_training_loop_runs(drawn_store: Path, tmp_path: Path) -> None:
    loop, choice, flow = examples(OWN_LOOP)
    for whole, small in (
        ("frames=16, size=112", "frames=4, size=32"),
        ("batch_size=32", "batch_size=6"),
        ("num_workers=8", "num_workers=2"),
        ("range(20)", "range(2)"),
    ):
        assert whole in loop
        loop = loop.replace(whole, small)
    # A script, as whoever follows it would write; pytest's process has threads, and cannot fork.
    script = tmp_path / "loop.py"
    script.write_text(f"{loop}    print(int(sum(len(b['id']) for b in loader)), loss.item())\n")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=drawn_store.parent,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    videos, loss = done.stdout.split()
    namespace: dict[str, Any] = {}
    with contextlib.chdir(drawn_store.parent):
        exec(choice, namespace)
        exec(flow, namespace)
    assert int(videos) + len(namespace["test"]) == len(namespace["some"]) == 24
    assert np.isfinite(float(loss))
    store, video = ClipStore(drawn_store), namespace["flow"].ids[0]
    pixels = store.read_flow(video, 2, 16)[:, :, 8:56]  # the middle of 20 frames, 64x48
    assert abs(float(namespace["pixels"].mean()) - pixels.mean()) < 0.02


def test_keys_and_states_of_cache_are_those_told(drawn_store: Path) -> None:
    text = CACHE.read_text(encoding="utf-8")
    told = re.search(r"`--json` prints (.*?)\n\n", text, flags=re.DOTALL)
    assert told is not None
    report = verify(str(drawn_store), workers=1).json() | {"what": 0, "where": 0, "repair": 0}
    assert set(re.findall(r"`(\w+)`", told[1])) == set(report)
    for state in (CURRENT, *OUTDATED, STORE_GONE):
        assert f"`{state}`" in text


def functions_of(path: Path) -> set[str]:
    """Tests of a file: functions, and what is assigned to a name that pytest collects."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_promises_are_held_by_tests_that_there_are() -> None:
    rows = [line for line in RELIABILITY.read_text(encoding="utf-8").splitlines() if "::" in line]
    named = [re.findall(r"`([\w/]+\.py)::(test_\w+)`", row) for row in rows]
    assert len(rows) > 15
    assert all(named)
    for file, test in itertools.chain.from_iterable(named):
        assert test in functions_of(Path(__file__).parent / file), f"{file}::{test}"
