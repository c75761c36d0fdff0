"""The benchmark of the report's page runs; its results are not checked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]
LIMIT_S = 300


@pytest.mark.slow
def test_the_benchmark_of_the_page(chromium: Browser) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/report_page.py", "--quick", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    peer, ours = found["pages"]
    assert [peer["page"], ours["page"]] == ["Plotly", "slic report"]
    for key, ratio in found["ratios"].items():
        assert ratio == peer[key] / ours[key] > 0
    assert found["ratio"] == found["ratios"]["first_paint_ms"]
    assert found["videos"] == 60
