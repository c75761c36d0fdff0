"""`slic reproduce` on a tiny drawn set: rows, resuming, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import slic.paper.reproduce as module
from slic.config import make_settings
from slic.errors import InputError, StoreError, WorkError
from slic.paper.reproduce import find_stores, reproduce
from slic.published import TABLES
from slic.runs import RUNS, open_run
from tests.conftest import TINY


@pytest.fixture
def drawn_here(drawn_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the drawn store, and a preset so small that rows take a second."""

    def smaller(options: dict[str, Any]) -> dict[str, Any]:
        return {**TINY, **options, "encoder": "small"}

    def tiny(preset: str, *, options: dict[str, Any], **rest: Any) -> Any:
        return make_settings("cpu-small", options=smaller(options), **rest)

    def train_tiny(store: str, *, preset: str, options: dict[str, Any], **rest: Any) -> Any:
        return real(store, preset="cpu-small", options=smaller(options), workers=0, **rest)

    real = module.train
    monkeypatch.setattr(module, "make_settings", tiny)
    monkeypatch.setattr(module, "train", train_tiny)
    monkeypatch.setattr(module, "drawn_store", lambda *_, **__: None)
    # In this process, where the patches hold.
    monkeypatch.setattr(module, "run_jobs", lambda work, jobs, workers: map(work, jobs))
    (tmp_path / "ucf101.zarr").symlink_to(drawn_store)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(table: str, folder: Path, **options: Any) -> dict[str, Any]:
    values = {"seeds": [0], "device": "cpu", "say": lambda line: None, "folder": str(folder)}
    return reproduce(table, **{**values, **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_ablation_has_all_rows_and_goes_on_where_it_was(drawn_here: Path) -> None:
    said: list[str] = []
    result = made("ablation", drawn_here, seeds=[0, 1], say=said.append)
    assert any("10 of 10 trainings to do" in line for line in said)
    assert len(result["rows"]) == 5
    for row in result["rows"]:
        assert (row["ours_by"], row["needs"]) == ("small, InfoNCE, generated", None)
        assert len(row["ours"]["UCF101 R@1"]["values"]) == 2
        mean, published = row["ours"]["UCF101 R@1"]["mean"], row["published"]["UCF101 R@1"]
        assert row["difference"]["UCF101 R@1"] == pytest.approx(mean - published)
    runs = {path.name: open_run(path).settings for path in RUNS.glob("reproduce-*")}
    assert len(runs) == 10
    changed = {(s.cluster, s.flow_probability, s.temporal_weight) for s in runs.values()}
    assert changed == {
        ("none", 1.0, 1.0), ("finch", 0.0, 0.0), ("finch", 1.0, 0.0), ("finch", 0.0, 1.0),
        ("finch", 1.0, 1.0),
    }  # fmt: skip
    stamps = {path: path.stat().st_mtime_ns for path in RUNS.glob("*/checkpoints/latest")}
    again = made("ablation", drawn_here, seeds=[0, 1], say=said.append)
    assert again["rows"] == result["rows"]
    assert any("0 of 10 trainings to do" in line for line in said)
    assert stamps == {path: path.stat().st_mtime_ns for path in RUNS.glob("*/checkpoints/latest")}
    written = json.loads((drawn_here / "reproduce-ablation-demo.json").read_text())
    assert written["rows"] == result["rows"]


@pytest.mark.slow
def test_tables_share_runs_and_keep_the_rows_of_others(drawn_here: Path) -> None:
    result = made("table1", drawn_here)
    assert [row["method"] for row in result["rows"]] == [r.method for r in TABLES["table1"].rows]
    ours = [row["method"] for row in result["rows"] if row["ours"]]
    assert ours == ["SLIC", "SLIC", "true labels", "true labels"]
    # One encoder at this scale: two trainings for four rows.
    assert len(list(RUNS.glob("reproduce-*"))) == 2
    made("ablation", drawn_here)
    assert len(list(RUNS.glob("reproduce-*"))) == 6


def test_classification_is_made_too(drawn_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEMO_CLASSIFIER", {"epochs": 2, "dropout": 0.5})
    result = made("table2", drawn_here)
    ours = {row["network"]: row["ours_by"] for row in result["rows"] if row["ours"]}
    assert ours == {
        "R3D-18, UCF101, frozen": "small, InfoNCE, generated, linear",
        "R3D-18, UCF101": "small, InfoNCE, generated, finetuned",
        "R3D-18, K400": "small, InfoNCE, generated, finetuned",
    }
    assert len(list(RUNS.glob("reproduce-*"))) == 1


@pytest.mark.slow
def test_a_row_that_fails_stops_no_other(drawn_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = module.train

    def broken(store: str, *, options: dict[str, Any], **rest: Any) -> Any:
        if options.get("cluster") == "none":
            raise WorkError("diverged")
        return trained(store, options=options, **rest)

    monkeypatch.setattr(module, "train", broken)
    result = made("ablation", drawn_here)
    assert [row["needs"] for row in result["rows"]] == ["diverged", None, None, None, None]
    assert [bool(row["ours"]) for row in result["rows"]] == [False, True, True, True, True]
    assert result["failed"] == 1


def test_a_run_does_not_depend_on_how_its_store_is_typed(drawn_here: Path) -> None:
    jobs, _ = module.plan_jobs("ablation", "demo", [0], None, "cpu", {})
    names = {replace(jobs[0], store=s).run for s in ("ucf101.zarr", "./ucf101.zarr")}
    names.add(replace(jobs[0], store=str(drawn_here / "ucf101.zarr")).run)
    assert len(names) == 1


def test_the_papers_scale_names_what_it_needs(drawn_here: Path) -> None:
    with pytest.raises(InputError, match=r"no clip store of UCF101 \(--ucf101\)"):
        made("table1", drawn_here, scale="paper", stores={"HMDB51": "ucf101.zarr"})
    assert find_stores({}) == {"UCF101": "ucf101.zarr"}
    with pytest.raises(StoreError, match=r"none\.zarr: no such store"):
        find_stores({"HMDB51": "none.zarr"})


@pytest.mark.slow
def test_the_papers_scale_measures_on_both_data_sets(drawn_here: Path) -> None:
    stores = {"UCF101": "ucf101.zarr", "HMDB51": "ucf101.zarr"}
    result = made("ablation", drawn_here, scale="paper", stores=stores)
    row = result["rows"][-1]
    assert set(row["ours"]) == {"UCF101 R@1", "UCF101 R@5", "HMDB51 R@1", "HMDB51 R@5"}
    assert row["ours_by"] == "R3D-18"
    assert row["needs"] is None
    one = made("ablation", drawn_here, scale="paper", stores={"UCF101": "ucf101.zarr"})
    assert "HMDB51" in one["rows"][-1]["needs"]


WRONG = (
    "table9",
    "ablation --seeds x",
    "ablation --seeds=-1",
    "ablation --scale paper --ucf101 none.zarr",
    "ablation --ucf101 ucf101.zarr",
    "ablation --epochs 0",
)


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words_are_one_line(slic, drawn_here: Path, words: str) -> None:
    code, out, err = slic("reproduce", *words.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
