"""That every benchmark runs and finds both sides to agree; its figures are not looked at."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 300


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """A benchmark as README.md there says to run it, on one thread."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{script}", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def results(script: str, *options: str) -> dict:
    """The one JSON object that a quick run prints."""
    done = run(script, "--quick", "--json", *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_tvl1_on_one_core() -> None:
    found = results("tvl1.py")
    assert [row["size"] for row in found["sizes"]] == ["320x240", "171x128", "128x96"]
    assert found["ratio"] == min(row["ratio"] for row in found["sizes"]) > 0


def test_flow_end_to_end() -> None:
    found = results("prep_flow.py", "--workers", "1")
    theirs, ours, alone = found["sides"]
    assert theirs["pairs"] == ours["pairs"] == alone["pairs"] == 4 * 11
    assert found["ratio"] == pytest.approx(ours["pairs_per_s"] / theirs["pairs_per_s"])
    assert min(theirs["peak_mb"], ours["peak_mb"]) > 10


def test_flow_on_a_cluster() -> None:
    """It ends with an error where the stores are not all the same."""
    found = results("prep_dask.py", "--workers", "2")
    cluster, here = found["sides"]
    assert cluster["pairs"] == here["pairs"] == 4 * 11
    assert cluster["workers"] == here["workers"] == 2
    assert found["ratio"] == cluster["ratio"] == 1


def test_plan() -> None:
    found = {row["what"]: row for row in results("plan.py")["rows"]}
    assert all(row["predicted"] > 0 and row["taken"] > 0 for row in found.values())
    assert found["frames"]["predicted"] == pytest.approx(found["frames"]["taken"], rel=0.06)
    assert found["frames, MB"]["ratio"] == pytest.approx(1, abs=0.5)


def test_memory_by_length() -> None:
    rows = results("prep_flow.py", "--memory")["lengths"]
    assert [row["frames"] for row in rows] == [40, 160]
    assert all(row["peak_mb"] > 10 for row in rows)


def test_memory_by_number_of_videos() -> None:
    rows = results("memory.py")["stages"]
    stages = ("prep frames", "train", "eval retrieve")
    assert [(r["stage"], r["videos"]) for r in rows] == [(s, n) for s in stages for n in (4, 12)]
    assert all(row["whole"] and row["peak_mb"] > 10 for row in rows)
    fewest = {row["stage"]: row["peak_mb"] for row in rows[::2]}
    growth = [row["peak_mb"] - fewest[row["stage"]] for row in rows]
    assert [row["growth_mb"] for row in rows] == pytest.approx(growth)


def test_impossible_numbers_of_videos_are_one_line() -> None:
    for numbers, said in (("3,9", "each must be at least 4"), ("many", "give whole numbers")):
        done = run("memory.py", "--videos", numbers)
        assert done.returncode == 2
        assert done.stderr.startswith(f"--videos {numbers}: {said}")
        assert done.stderr.count("\n") == 1


def test_tvl1_on_a_gpu_interpreted() -> None:
    pytest.importorskip("triton", reason="Triton is not installed here")
    found = results("tvl1_gpu.py")
    assert [row["engine"] for row in found["errors"]] == ["cuda", "torch"]
    assert all(row["worst_pair_20px"] == 1 for row in found["errors"])


def test_reading_clips() -> None:
    found = results("read_clips.py")
    work = {(row["what"], row["short_side"], row["frames"]) for row in found["clips"]}
    kinds = [("read", 16), ("read", 32), ("first read", 16)]
    kinds += [("read + augment", 16), ("read + augment", 32)]
    assert work == {(what, side, n) for what, n in kinds for side in (128, 256)}
    assert found["ratio"] == min(row["ratio"] for row in found["clips"]) > 0
    # Both sides decode the same JPEGs.
    assert all(row["difference"] < 2 for row in found["clips"] if row["what"] == "read")
    assert [row["videos"] for row in found["sizes"]] == [2, 2]


def test_missing_video_is_one_line() -> None:
    done = run("prep_flow.py", "no-such-folder")
    assert done.returncode == 2
    assert done.stderr == "no-such-folder: no such video or folder\n"
