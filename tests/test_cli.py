"""The commands as typed: results on stdout, one line for each error, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slic import __version__


def test_the_three_commands(slic, drawn: Path, tmp_path: Path, monkeypatch) -> None:
    """`prep flow`, `train`, `eval retrieve`, in this order, then each again."""
    (tmp_path / "ucf101").symlink_to(drawn)
    (tmp_path / "small.toml").write_text(
        "frames = 4\nstride = 1\nsize = 16\nbatch_size = 6\nepochs = 1\nretrieval_clips = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    prep = ["prep", "flow", "ucf101/", "--json", "--workers", "2"]
    train = ["train", "--cluster-every", "5", "--config", "small.toml", "--json", "--workers", "0"]
    evaluate = ["eval", "retrieve", "--k", "1,5,10", "--json", "--workers", "0"]

    code, out, _ = slic(*prep)
    first = json.loads(out)
    assert code == 0
    assert first.keys() >= {"store", "videos", "written", "skipped", "failed", "frames", "seconds"}
    assert (first["store"], first["videos"], first["written"]) == ("ucf101.zarr", 24, 24)
    assert first["frames"] == 24 * 19
    code, out, _ = slic(*prep)
    assert (code, json.loads(out)["written"], json.loads(out)["skipped"]) == (0, 0, 24)

    code, out, err = slic(*train)
    run = json.loads(out)
    assert code == 0
    assert run.keys() >= {"run", "epochs", "steps", "checkpoint", "loss", "clusters", "nmi"}
    assert (run["run"], run["epochs"], run["steps"]) == ("runs/ucf101-small-1", 1, 3)
    assert run["recall"].keys() == {"1", "5"}
    assert "preset cpu-small" in err
    checkpoint = Path(run["checkpoint"]).read_bytes()
    code, out, err = slic(*train)
    assert (code, json.loads(out)) == (0, run)
    assert "already done" in err
    assert Path(run["checkpoint"]).read_bytes() == checkpoint

    code, out, _ = slic(*evaluate)
    recall = json.loads(out)
    assert code == 0
    assert recall.keys() >= {"run", "store", "split", "queries", "gallery", "feature", "clips"}
    assert recall["recall"].keys() == {"1", "5", "10"}
    os.rename("ucf101.zarr", "elsewhere")
    code, out, _ = slic(*evaluate)
    assert (code, json.loads(out)["recall"]) == (0, recall["recall"])


WRONG = {
    "no data set": (["prep", "frames", "nowhere/"], "nowhere"),
    "no video": (["prep", "flow", "text"], "text"),
    "not a store": (["prep", "info", "empty"], "empty"),
    "foreign store": (["train", "foreign.zarr"], "foreign.zarr"),
    "unknown preset": (["train", "ucf101.zarr", "--preset", "cpu-smal"], "cpu-small"),
    "unknown setting": (["train", "ucf101.zarr", "--config", "wrong.toml"], "batch_size"),
    "split not there": (["train", "ucf101.zarr", "--split", "4"], "split"),
    "bad epochs": (["train", "ucf101.zarr", "--epochs", "0"], "epochs"),
    "unknown device": (["train", "ucf101.zarr", "--device", "tpu"], "tpu"),
    "bad k": (["eval", "retrieve", "--k", "1,x"], "--k"),
    "unknown option": (["eval", "retrieve", "--kk", "1"], "--kk"),
    "unknown choice": (["eval", "classify", "--mode", "nonlinear"], "nonlinear"),
    "bad bound": (["prep", "flow", "ucf101.zarr", "--bound", "-1"], "--bound"),
    "frames of a store": (["prep", "frames", "ucf101.zarr"], "ucf101.zarr"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(slic, work: Path, case: str) -> None:
    for folder in ("empty", "text", "foreign.zarr"):
        Path(folder).mkdir()
    Path("text/notes.txt").write_text("no video")
    Path("foreign.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    Path("wrong.toml").write_text("batch_siz = 3\n")
    before = sorted(str(path) for path in Path().rglob("*"))
    words, names = WRONG[case]
    code, out, err = slic(*words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert names in err
    assert "Traceback" not in err
    assert sorted(str(path) for path in Path().rglob("*")) == before


def test_no_store(slic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = slic("train")
    assert code == 2
    assert "slic prep frames" in err


def test_a_bad_video_is_listed_and_exits_with_1(slic, drawn: Path, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "videos"
    folder.mkdir()
    good = next(drawn.rglob("*.avi"))
    (folder / "good.avi").write_bytes(good.read_bytes())
    (folder / "[red]bad.mp4").write_text("this is no video")
    code, out, err = slic("prep", "frames", "videos", "--json", "--workers", "1")
    result = json.loads(out)
    assert (code, result["written"], result["failed"]) == (1, 1, 1)
    assert "[red]bad.mp4" in err
    code, out, _ = slic("prep", "frames", "videos", "--json", "--workers", "1")
    result = json.loads(out)
    assert (code, result["written"], result["skipped"], result["failed"]) == (0, 0, 1, 1)


def test_version_and_help(slic) -> None:
    code, out, err = slic()
    assert (code, err) == (2, "")
    assert "train" in out
    assert slic("--version")[:2] == (0, f"slic {__version__}\n")


def test_help_needs_no_torch() -> None:
    script = (
        "import sys, slic.cli\n"
        "sys.argv = ['slic', 'train', '--help']\n"
        "try:\n    slic.cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'zarr', 'cv2', 'numba', 'h5py'} & sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--cluster-every" in done.stdout
    assert "--cluster" in done.stdout
