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


ENDINGS = {
    "ok": "",
    "raises": "raise ValueError('no such kernel')",
    "hangs": "import time, subprocess; subprocess.Popen(['sleep', '600']); time.sleep(600)",
    "dies": "import os; os._exit(3)",
    "leaves out": "open(found, 'w').write(json.dumps({'skipped': 'no such package'}))",
}
FINDS = "import json, sys; found = sys.argv[1]; open(found, 'w').write('{\"figure\": 7}'); "


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_part_ends_in_time_whatever_it_does(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from in_time import run_in_time

    found = tmp_path / "part.json"
    command = [sys.executable, "-c", FINDS + ENDINGS[ending], str(found)]
    with open(tmp_path / "log", "w") as log:
        limit_s = 2 if ending == "hangs" else 60
        row = run_in_time(command, found, limit_s=limit_s, log=log, env=dict(os.environ))
    wanted = {
        "ok": ("ok", None),
        "raises": ("failed", "exit code 1: ValueError: no such kernel"),
        "hangs": ("timeout", "not done after 2 s"),
        "dies": ("failed", "exit code 3: "),
        "leaves out": ("skipped", "no such package"),
    }
    assert (row["status"], row.get("reason")) == wanted[ending]
    assert row["seconds"] < 30
    if ending != "leaves out":
        assert row["figure"] == 7


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


def test_a_day_without_time_names_what_is_left_out(tmp_path: Path) -> None:
    done = run("gpu_day.py", "--rehearse", "--out", str(tmp_path), "--minutes", "0.01")
    parts = json.loads((tmp_path / "gpu_day.json").read_text())["parts"]
    assert done.returncode == 0
    assert all(part["status"] == "skipped" for part in parts.values())
    assert parts["training"]["reason"] == "no time left"


def test_a_day_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    cases = {
        "no-such-video": "no-such-video: no such video or folder\n",
        "--minutes=0": "--minutes 0: give more than 0\n",
        "--kept-flow=gone.npz": "--kept-flow gone.npz: no such file\n",
    }
    for word, said in cases.items():
        done = run("gpu_day.py", "--rehearse", "--out", str(tmp_path), word)
        assert (done.returncode, done.stderr) == (2, said)


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
