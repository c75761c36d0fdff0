"""That the benchmarks of learning and of large stores run and find both sides to agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 120


def results(script: str) -> dict:
    """The one JSON object that a quick run prints; a run whose sides disagree fails."""
    done = subprocess.run(
        [sys.executable, f"benchmarks/{script}", "--quick", "--json"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


def test_clustering() -> None:
    found = results("clustering.py")
    whole, first, ours, large = found["sides"]
    assert found["same_labels"] is True
    assert 1 < whole["clusters"] == first["clusters"] == ours["clusters"] < ours["rows"] / 2
    assert found["ratio"] == pytest.approx(first["cpu_seconds"] / ours["cpu_seconds"])
    assert large["rows"] > ours["rows"]
    assert large["matrix_gb"] == pytest.approx(4e-9 * large["rows"] ** 2)
    assert all(row["peak_mb"] >= row["before_mb"] > 10 for row in found["sides"])


def test_triplets() -> None:
    found = results("triplets.py")
    assert [row["batch"] for row in found["sides"]] == [32, 32, 128, 128]
    # The drawn batches hold both kinds of negative: within the margin, and the nearest instead.
    assert all(0 < row["fallbacks"] < row["batch"] for row in found["sides"])
    assert all(row["difference"] <= 1e-5 for row in found["sides"])
    ratios = [row["ms"] / row["slic_ms"] for row in found["sides"]]
    assert found["ratio"] == pytest.approx(min(ratios))


def test_retrieval() -> None:
    found = results("retrieval.py")
    assert found["different_sets"] == 0
    recall = list(found["recall"].values())
    assert list(found["recall"]) == ["1", "5", "10", "20", "50"]
    assert 0 < recall[0] < recall[-1] < 1
    assert recall == sorted(recall)
    theirs, ours = found["sides"]
    assert found["ratio"] == pytest.approx(theirs["cpu_seconds"] / ours["cpu_seconds"])


def test_store_index() -> None:
    found = results("store_index.py")
    assert found["same_answers"] is True
    assert [row["step"] for row in found["steps"][::2]] == ["open", "digest", "list", "all"]
    assert [row["side"] for row in found["steps"]] == ["JSON", "slic"] * 4
    parts, whole = found["steps"][1:-2:2], found["steps"][-1]
    assert whole["cpu_seconds"] == pytest.approx(sum(row["cpu_seconds"] for row in parts))
    assert min(row["peak_mb"] for row in found["steps"]) > 10
