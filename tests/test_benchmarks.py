"""Every benchmark runs, and the implementations it compares agree; its results are not checked."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIMIT_S = 300
pytestmark = pytest.mark.slow


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a benchmark as benchmarks/README.md says, on one thread."""
    return subprocess.run(
        [sys.executable, f"benchmarks/{script}", *options],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )


def results(script: str, *options: str) -> dict:
    """Return the JSON object that a quick run prints."""
    done = run(script, "--quick", "--json", *options)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return json.loads(done.stdout)


def test_tvl1_on_one_core() -> None:
    found = results("tvl1.py")
    assert [row["size"] for row in found["sizes"]] == ["320x240", "171x128", "128x96"]


def test_flow_end_to_end() -> None:
    found = results("prep_flow.py", "--workers", "1")
    assert [side["pairs"] for side in found["sides"]] == [4 * 11] * 3
    rows = results("prep_flow.py", "--memory")["lengths"]
    assert [row["frames"] for row in rows] == [40, 160]


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


def test_memory_by_number_of_videos() -> None:
    rows = results("memory.py")["stages"]
    stages = ("prep frames", "train", "eval retrieve")
    assert [(r["stage"], r["videos"]) for r in rows] == [(s, n) for s in stages for n in (4, 12)]
    assert all(row["whole"] and row["peak_mb"] > 10 for row in rows)


def test_tvl1_on_a_gpu_interpreted() -> None:
    pytest.importorskip("triton", reason="Triton is not installed here")
    found = results("tvl1_gpu.py")
    assert [row["engine"] for row in found["errors"]] == ["cuda", "torch"]
    assert all(row["worst_pair_20px"] == 1 for row in found["errors"])


def test_a_day_with_a_gpu_is_rehearsed(tmp_path: Path) -> None:
    """No part keeps another from running, and each is told with its outcome."""
    names = ["device", "flow", "ranks", "tests"]
    done = run("gpu_day.py", "--rehearse", "--out", str(tmp_path / "out"), "--only", *names)
    assert done.returncode == 0, done.stdout
    parts = json.loads((tmp_path / "out" / "gpu_day.json").read_text())["parts"]
    assert {name: part["status"] for name, part in parts.items()} == {
        "device": "ok",
        "flow": "skipped",
        "ranks": "ok",
        "tests": "ok",
    }
    assert parts["flow"]["reason"]
    assert all(side["gradient"] < 1e-3 for side in parts["ranks"]["sides"])
    table = done.stdout.partition("\n\n")[0].splitlines()[1:]
    assert [line.split()[0] for line in table if not line.startswith(" ")] == names


def test_reading_clips() -> None:
    found = results("read_clips.py")
    assert len(found["clips"]) == 10
    # Both sides decode the same JPEGs.
    assert all(row["difference"] < 2 for row in found["clips"] if row["what"] == "read")


def test_clustering() -> None:
    found = results("clustering.py")
    assert found["same_labels"] is True
    whole, first, ours, _ = found["sides"]
    assert 1 < whole["clusters"] == first["clusters"] == ours["clusters"] < ours["rows"] / 2


def test_triplets() -> None:
    found = results("triplets.py")
    # The batches contain both kinds of negative: within the margin, and the nearest instead.
    assert all(0 < row["fallbacks"] < row["batch"] for row in found["sides"])
    assert all(row["difference"] <= 1e-5 for row in found["sides"])


def test_retrieval() -> None:
    found = results("retrieval.py")
    assert found["different_sets"] == 0
    recall = list(found["recall"].values())
    assert 0 < recall[0] < recall[-1] < 1
    assert recall == sorted(recall)


@pytest.mark.parametrize("script", ["search_index.py", "store_index.py"])
def test_indices_give_the_same_answers(script: str) -> None:
    assert results(script)["same_answers"] is True


def test_page() -> None:
    if not shutil.which("chromium"):
        assert os.environ.get("SLIC_BROWSER") != "required", "no Chromium here"
        pytest.skip("no Chromium here")
    found = json.loads(run("report_page.py", "--quick", "--json").stdout)
    assert [each["page"] for each in found["pages"]] == ["Plotly", "slic report"]
    assert found["ratio"] == found["ratios"]["first_paint_ms"] > 0


def test_train_step() -> None:
    found = results("train_step.py")
    peer, control, *ours = found["sides"]
    assert len(ours) >= 2
    # The two peers start a last bit apart, so that neither is the other.
    assert 0 == peer["gradient_difference"] < control["gradient_difference"] < 0.02
    assert all(row["losses"][-1] != row["losses"][0] > 0 for row in found["sides"])
    assert all(row["first_difference"] < 0.05 for row in ours)


def test_train_speed() -> None:
    found = results("train_speed.py")
    assert 0 < found["differences"]["PIL"] <= 4
    assert 0 < found["differences"]["device"] <= 1
    kinds = {row["what"] for row in found["rates"]}
    assert kinds >= {"readers", "steps", "together", "embedding"}
    assert all(0 < row["clustering_share"] < 1 for row in found["epochs"][1:])


def test_neighbours_at_size() -> None:
    exact, _, ivf, spread = results("neighbours_at_size.py")["sides"]
    assert 0.95 < ivf["recall"] == pytest.approx(ivf["as_exact"], abs=0.03)
    assert ivf["clusters"] == pytest.approx(exact["clusters"], abs=9)
    assert spread["probes"] > ivf["probes"] >= 1
