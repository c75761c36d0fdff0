from dataclasses import replace
from pathlib import Path

import pytest

from slic.config import PRESETS, make_settings
from slic.published import ABLATION, CLASSIFICATION, RETRIEVAL
from slic.report.paper import paper
from slic.runs import Run


def run(preset: str, **changes) -> Run:
    settings = replace(make_settings(preset), **changes)
    return Run(Path("runs/x"), settings, Path("x.zarr"), "aaaa", preset)


def of(preset: str, **given) -> dict | None:
    about = {"store": "ucf101", "recall": {1: 0.5, 5: 0.75, 10: 0.9}, "top1": {}, "changed": []}
    return paper(run(preset), **{**about, "trained": "2 of 600 epochs", **given})


def own(section: dict) -> dict[str, float | None]:
    (row,) = [row for row in section["rows"] if row["own"]]
    assert row["published"] == [None] * len(section["columns"])
    return dict(zip(section["columns"], row["ours"], strict=True))


@pytest.mark.parametrize(("preset", "table"), [("ucf101-16f", ABLATION), ("ucf101-32f", RETRIEVAL)])
def test_retrieval_stands_below_the_published_rows(preset, table):
    section = of(preset)
    assert section["columns"] == list(table.columns)
    assert len(section["rows"]) == len(table.rows) + 1
    for row, published in zip(section["rows"], table.rows, strict=False):
        known = dict(zip(section["columns"], row["published"], strict=True))
        assert {k: v for k, v in known.items() if v is not None} == published.published
        assert not row["own"]
        assert row["ours"] == [None] * len(table.columns)
    assert own(section) == {
        "UCF101 R@1": 50.0,
        "UCF101 R@5": 75.0,
        "HMDB51 R@1": None,
        "HMDB51 R@5": None,
    }


def test_a_store_named_as_hmdb51_goes_to_its_columns():
    assert own(of("ucf101-32f", store="HMDB51-split1"))["HMDB51 R@1"] == 50.0


@pytest.mark.parametrize(
    ("top1", "expected"),
    [
        ({"linear": 0.25}, 25.0),
        ({"linear": 0.25, "linear-augmented": 0.5}, 50.0),
        ({"linear-augmented": 0.75, "finetune": 0.5}, 50.0),
    ],
)
def test_of_kinetics_classification_is_compared(top1, expected):
    section = of("kinetics400-32f", top1=top1)
    assert section["columns"] == list(CLASSIFICATION.columns)
    assert own(section)["UCF101 top-1"] == expected


def test_there_is_none_without_figures_or_of_presets_of_ours():
    assert of("ucf101-16f", recall={}) is None
    assert of("kinetics400-16f") is None
    assert [name for name in PRESETS if of(name, top1={"linear": 0.5}) is None] == [
        "cpu-small",
        "demo",
    ]
    foreign = replace(run("ucf101-16f"), preset="own")
    assert paper(foreign, store="x", recall={1: 1.0}, top1={}, changed=[], trained="") is None


def test_the_note_says_what_differs():
    note = of("ucf101-16f", changed=["batch_size", "lr"])["note"]
    assert "2 of 600 epochs" in note
    assert "batch_size, lr" in note
    assert "ucf101" in note
