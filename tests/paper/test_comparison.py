"""Our figures beside published ones, by hand."""

import json
from pathlib import Path

import pytest

from slic.paper.comparison import compared, lines, markdown, summary, write_comparison
from slic.published import TABLES, Row


def result() -> dict:
    rows = [
        compared(Row("other", "S3D", {"A": 50.0, "B": 60.0}), {}, ours_by="-", needs=None),
        compared(
            Row("SLIC", "R3D", {"A": 66.7}),
            {"A": [0.6, 0.7], "B": [0.5, 0.5]},
            ours_by="small",
            needs=None,
        ),
        compared(Row("SLIC", "S3D", {"A": 69.8}), {"A": [0.7]}, ours_by="small", needs=None),
        compared(Row("SLIC", "K400", {"B": 1.0}), {}, ours_by="small", needs="a store"),
    ]
    names: dict = {"table": "ablation", "scale": "demo", "title": "Title", "columns": ["A", "B"]}
    names |= {"note": "ours: drawn", "seeds": [0, 1]}
    return {**names, "rows": rows}


def test_summaries_by_hand() -> None:
    # Deviations of 5 points from 65: the sample's variance is 50.
    found = summary([0.6, 0.7])
    assert (found["mean"], found["spread"]) == pytest.approx((65, 50**0.5))
    assert summary([0.25]) == {"mean": 25.0, "spread": None, "values": [25.0]}


def test_lines_by_hand() -> None:
    assert list(lines(result())) == [
        ["other, S3D", "50.0", "60.0"],
        ["SLIC, R3D", "66.7", "-"],
        ["  ours: small", "65.0±7.1", "50.0±0.0"],
        ["  difference", "-1.7", "-"],
        ["SLIC, S3D", "69.8", "-"],
        ["  ours: small", "70.0", "-"],
        ["  difference", "+0.2", "-"],
        ["SLIC, K400", "-", "1.0"],
    ]


def test_files_are_json_and_a_markdown_table(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = write_comparison(result())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    assert json.loads(Path(names[0]).read_text())["rows"][1]["ours"]["A"]["values"] == [60, 70]
    text = Path(names[1]).read_text()
    assert text == markdown(result())
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {4}
    assert len(rows) == 2 + 8
    assert "ours: drawn; seeds 0, 1" in text


def test_published_figures_are_within_their_columns() -> None:
    for table in TABLES.values():
        own = [row for row in table.rows if row.training is not None]
        assert own
        for row in table.rows:
            assert set(row.published) <= set(table.columns)
            assert all(0 < figure < 100 for figure in row.published.values())
    # METHOD's tables: the last row of the ablation, and R3D-18 of the others.
    assert list(TABLES["ablation"].rows[-1].published.values()) == [66.7, 77.3, 25.3, 49.8]
    assert list(TABLES["table1"].rows[7].published.values()) == [71.6, 82.4, 28.9, 52.8]
    assert list(TABLES["table2"].rows[5].published.values()) == [83.2, 54.5]
