"""That the benchmarks of learning and of large stores run and find both sides to agree."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 300


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


def test_search_index() -> None:
    found = results("search_index.py")
    assert found["same_answers"] is True
    sides = ("made anew", "made and kept", "kept")
    assert [(row["rows"], row["side"]) for row in found["sides"]] == [
        (rows, side) for rows in (50, 300) for side in sides
    ]
    anew, _, kept = found["sides"][-3:]
    took = [row["index_s"] + row["query_ms"] / 1000 for row in (anew, kept)]
    assert found["ratio"] == kept["ratio"] == pytest.approx(took[0] / took[1])


def test_store_index() -> None:
    found = results("store_index.py")
    assert found["same_answers"] is True
    assert [row["step"] for row in found["steps"][::2]] == ["open", "digest", "list", "all"]
    assert [row["side"] for row in found["steps"]] == ["JSON", "slic"] * 4
    parts, whole = found["steps"][1:-2:2], found["steps"][-1]
    assert whole["cpu_seconds"] == pytest.approx(sum(row["cpu_seconds"] for row in parts))
    assert min(row["peak_mb"] for row in found["steps"]) > 10


def test_train_step() -> None:
    found = results("train_step.py")
    peer, control, *ours = found["sides"]
    assert len(ours) >= 2
    # The two peers start a last bit apart, so that neither is the other.
    assert 0 == peer["gradient_difference"] < control["gradient_difference"] < 0.02
    for row in found["sides"]:
        assert row["losses"][-1] != row["losses"][0] > 0
        assert row["ratio"] == pytest.approx(peer["ms"] / row["ms"])
        assert row["clips_per_s"] == pytest.approx(1000 * 3 * found["batch"] / row["ms"])
    assert all(row["first_difference"] < 0.05 for row in ours)
    assert found["ratio"] == max(row["ratio"] for row in ours)


def test_train_speed() -> None:
    found = results("train_speed.py")
    assert 0 < found["differences"]["PIL"] <= 4
    assert 0 < found["differences"]["device"] <= 1
    rates = {(row["what"], row["side"]): row["clips_per_s"] for row in found["rates"]}
    assert {what for what, _ in rates} >= {"readers", "steps", "together", "embedding"}
    peer, *ours = found["epochs"]
    assert ours
    for row in found["epochs"]:
        assert row["clips_per_s"] == rates["together", row["readers"]]
        assert row["epoch_s"] == pytest.approx(9_537 * 3 / row["clips_per_s"])
        alone = min(row["readers_clips_per_s"], row["steps_clips_per_s"])
        assert row["of_smaller"] == pytest.approx(row["clips_per_s"] / alone)
        assert row["ratio"] == pytest.approx(peer["epoch_s"] / row["epoch_s"])
    assert found["ratio"] == ours[-1]["ratio"]
    assert all(0 < row["clustering_share"] < 1 for row in ours)


def test_neighbours_at_size() -> None:
    found = results("neighbours_at_size.py")
    exact, part, ivf, spread = found["sides"]
    assert exact["rows"] == part["rows"] == ivf["rows"] == 900
    assert ivf["lists"] == 120 > ivf["probes"] >= 1
    assert 0.95 < ivf["recall"] == pytest.approx(ivf["as_exact"], abs=0.03)
    assert ivf["clusters"] == pytest.approx(exact["clusters"], abs=9)
    assert spread["lists"] == 80 >= spread["probes"] > ivf["probes"]
    assert all(row["peak_mb"] >= row["before_mb"] > 10 for row in found["sides"])
