from dataclasses import replace
from pathlib import Path

import pytest

from slic.cache import Entry
from slic.config import make_settings
from slic.report.inputs import ReportInputs
from slic.report.summary import changed, facts, figures, settings, top1
from slic.runs import Run


def entry(name: str, label: str | None) -> Entry:
    return Entry(name, name, name, label, None, "train", None, None)


def inputs(*, preset: str = "ucf101-16f", run: dict | None = None, **parts) -> ReportInputs:
    about = Run(Path("runs/one"), make_settings("ucf101-16f"), Path("x.zarr"), "aaaa", preset)
    nothing = {
        "store": None,
        "entries": [],
        "failures": [],
        "cache": None,
        "own": True,
        "clusterings": None,
    }
    records = {"records": {"epoch": [], "clustering": [], "done": []}, "remarks": []}
    return ReportInputs(
        replace(about, **(run or {})), Path("x.zarr"), 1, **{**nothing, **records, **parts}
    )


def fact(found: ReportInputs, name: str) -> str | None:
    labels = {entry.id: entry.label for entry in found.entries}
    return dict(facts(found, labels)).get(name)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["box", "run", "box"], "2"),
        (["box", None, "", "run"], "2, 2 videos without a label"),
        ([None, None], "no labels"),
        ([], None),
    ],
)
def test_classes_are_counted(labels, expected):
    entries = [entry(f"v{i}", label) for i, label in enumerate(labels)]
    found = inputs(entries=entries)
    assert fact(found, "classes") == expected
    assert fact(found, "videos") == (str(len(labels)) if labels else None)


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({"epoch": [{}] * 3, "clustering": [], "done": []}, "3 of 600 epochs, unfinished"),
        ({"epoch": [{}] * 600, "clustering": [], "done": [{}]}, "600 of 600 epochs"),
        (None, "an unknown number of 600 epochs"),
    ],
)
def test_how_far_it_is_trained(records, expected):
    assert fact(inputs(records=records), "trained") == expected


def test_weights_from_elsewhere_were_not_trained_here():
    found = inputs(
        run={"imported": True, "settings": make_settings("ucf101-16f", options={"init": "w.pt@ab"})}
    )
    assert fact(found, "weights from") == "w.pt"
    assert {"objective", "trained on", "trained"}.isdisjoint(dict(facts(found, {})))


def test_settings_stand_beside_the_presets():
    own = make_settings("ucf101-16f", options={"epochs": 7, "lr": 0.5})
    rows = settings(inputs(run={"settings": own}))
    assert changed(rows) == ["lr", "epochs"]
    assert {r["name"]: (r["value"], r["preset"]) for r in rows}["epochs"] == ("7", "600")


@pytest.mark.parametrize("preset", ["own", "of-a-later-version", ""])
def test_of_no_known_preset_nothing_differs(preset):
    assert changed(settings(inputs(preset=preset))) == []


def test_top1_is_the_share_on_the_diagonal():
    cells = [[0, 0, 3], [0, 1, 1], [1, 1, 4]]
    sections = [
        {"key": "linear", "cells": cells},
        {"key": "neighbour", "cells": cells},
        {"key": "finetune", "cells": []},
    ]
    assert top1(sections) == {"linear": 7 / 8}


@pytest.mark.parametrize("nmi", [None, float("nan"), "0.5"])
def test_a_last_clustering_without_nmi_has_no_figure_of_it(nmi):
    lines = [{"epoch": 0, "nmi": 0.25}, {"epoch": 5, "nmi": nmi}]
    found = inputs(records={"epoch": [], "clustering": lines, "done": []})
    assert figures(found, None, confusion=[], clusters=None) == []


def test_the_last_clustering_counts():
    lines = [{"epoch": 0, "nmi": 0.25}, {"epoch": 5, "nmi": 0.5}]
    found = inputs(records={"epoch": [], "clustering": lines, "done": []})
    (nmi, count) = figures(
        found, None, confusion=[], clusters={"count": 1234, "videos": 5000, "epoch": 5}
    )
    assert (nmi["text"], nmi["note"]) == ("0.500", "after epoch 5")
    assert count["text"] == "1,234"
