import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest


def result(slic, *words: str) -> dict:
    code, out, err = slic("report", "--workers", "0", "--json", *words)
    assert code == 0, err
    assert out.count("\n") == 1
    return json.loads(out)


def refused(slic, *words: str) -> str:
    code, out, err = slic("report", "--workers", "0", *words)
    assert (code, out) == (2, "")
    return err.splitlines()[-1]


def test_the_newest_run_by_default(work, slic):
    found = result(slic)
    page = Path(found["path"])
    assert page.name == "report.html"
    assert page.parent.parent == Path("runs")
    assert page.read_text().lower().startswith("<!doctype html>")
    assert page.stat().st_size == found["bytes"] < 25_000_000
    assert found["store"] == "ucf101.zarr"
    assert {"curves", "gallery", "clusters", "confusion", "map"} <= set(found["sections"])
    assert found["remarks"] == []


def test_the_page_holds_no_path_of_this_machine(work, slic):
    run = next((work / "runs").iterdir())
    (run / "clusters.h5").write_bytes(b"nonsense")
    found = result(slic, "--store", str(work / "ucf101.zarr"), "--run", str(run))
    assert any("clusters.h5" in remark for remark in found["remarks"])
    assert str(work) not in Path(found["path"]).read_text()


def test_the_page_does_not_say_where_the_run_lies(work, slic):
    run = next((work / "runs").iterdir())
    found = result(slic, "--run", str(run), "--split", "2")
    assert any("pretrained on split 1" in remark for remark in found["remarks"])
    assert str(work) not in Path(found["path"]).read_text()
    (run / "checkpoints" / "latest").unlink()
    found = result(slic, "--run", str(run))
    assert any("checkpoint" in remark for remark in found["remarks"])
    assert str(work) not in Path(found["path"]).read_text()


def test_a_run_whose_name_is_not_utf_8(work, slic):
    run = next((work / "runs").iterdir())
    named = os.fsdecode(b"runs/\xff run")
    run.rename(named)
    assert "<title>? run</title>" in Path(result(slic, "--run", named)["path"]).read_text()


def test_pictures_take_the_room_that_the_text_leaves(work, slic, monkeypatch):
    whole = result(slic)["bytes"]
    monkeypatch.setattr("slic.page.writing.SPARE", 10_000)
    monkeypatch.setattr("slic.page.writing.LARGEST", whole - 50_000)
    found = result(slic)
    assert found["bytes"] < whole - 50_000
    assert any("small" in remark for remark in found["remarks"])
    monkeypatch.setattr("slic.page.writing.LARGEST", 20_000)
    assert any("--sample" in remark for remark in result(slic)["remarks"])


@pytest.mark.parametrize(("option", "name"), [("--output", "pipe.html"), ("--figure", "pipe.svg")])
def test_a_pipe_is_not_replaced(work, slic, option, name):
    os.mkfifo(name)
    assert name in refused(slic, option, name)
    assert Path(name).is_fifo()


def test_output_goes_where_it_is_asked_to(work, slic):
    found = result(slic, "--output", "to/look at/me.html", "--sample", "5", "--seed", "3")
    assert found["path"] == "to/look at/me.html"
    assert [p.name for p in Path("to/look at").iterdir()] == ["me.html"]
    assert not list(Path("runs").glob("*/report.html"))


def test_people_are_told_where_it_is_and_what_is_missing(work, slic):
    (work / "ucf101.zarr").unlink()
    code, out, err = slic("report", "--workers", "0")
    assert code == 0
    assert "report.html" in out
    assert "ucf101.zarr" in err


def test_names_that_the_page_saved(work, slic):
    clustering = re.search(r"epoch\d+", Path(result(slic)["path"]).read_text())
    assert clustering is not None
    rows = "clustering,cluster,name\nepoch00002,0,waving\n"
    Path("names.csv").write_text(rows)
    assert "waving" in Path(result(slic, "--names", "names.csv")["path"]).read_text()
    Path("names.csv").write_text(rows + "epoch00002,x,box\n")
    assert "names.csv line 3" in refused(slic, "--names", "names.csv")


def test_a_figure_for_a_paper(work, slic):
    found = result(slic, "--figure", "gallery.svg")
    assert found["figure"] == "gallery.svg"
    assert "<svg" in Path("gallery.svg").read_text()


def test_weights_from_elsewhere(work, slic):
    weights = next(work.glob("runs/*/checkpoints/latest"))
    found = result(slic, "--weights", str(weights))
    assert "gallery" in found["sections"]
    assert "curves" not in found["sections"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--run", "none"), "no run"),
        (("--store", "none.zarr"), "no such store"),
        (("--split", "7"), "no split 7"),
        (("--output", "runs"), "--output"),
        (("--output", "report.pdf"), ".html"),
        (("--figure", "gallery.gif"), ".svg"),
        (("--figure", "runs"), "--figure"),
        (("--names", "none.csv"), "none.csv"),
        (("--device", "abacus"), "--device"),
        (("--sample", "0"), "sample"),
        (("--preset", "demo"), "--preset"),
    ],
)
def test_what_cannot_be_is_one_line(work, slic, words, expected):
    last = refused(slic, *words)
    assert expected in last
    assert not list(Path("runs").glob("*/report.html"))


def test_a_folder_that_cannot_be_made(work, slic):
    Path("file").write_text("")
    code, _, err = slic("report", "--output", "file/report.html")
    assert code == 1
    assert "file" in err.splitlines()[-1]


def test_a_page_from_before_stays_where_the_disk_is_full(work, slic, monkeypatch):
    page = Path(result(slic)["path"])
    before = page.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    code, _, err = slic("report", "--workers", "0")
    assert code == 1
    assert "No space left" in err.splitlines()[-1]
    assert page.read_bytes() == before
    assert [p.name for p in page.parent.glob("*report*")] == ["report.html"]


def test_help_needs_no_heavy_library(work):
    code = (
        "import sys; from slic.cli import app; import slic.commands.report;"
        "print({'torch', 'sklearn', 'matplotlib', 'h5py'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "set()\n"
