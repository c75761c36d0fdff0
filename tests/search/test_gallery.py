"""`slic search --html`: what the page says and shows."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from slic.cache import ClipStore
from slic.errors import InputError
from slic.runs import Run, find_run
from slic.search import gallery, search

HERE = {"device": "cpu", "workers": 0, "say": str}


@pytest.fixture
def run(work: Path) -> Run:
    return find_run(None)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], dict[str, bytes]]]:
    """What each page written is made of."""
    made = []
    write = gallery.write_page

    def note(path: Path, report: dict[str, Any], images: dict[str, bytes]) -> int:
        made.append((json.loads(json.dumps(report, allow_nan=False)), dict(images)))
        return write(path, report, images)

    monkeypatch.setattr(gallery, "write_page", note)
    return made


def rows_of(report: dict[str, Any]) -> list[dict[str, Any]]:
    (view,) = report["gallery"]["views"]
    (group,) = view["groups"]
    return group["rows"]


def test_a_page_shows_what_is_listed(run, drawn, tmp_path, pages):
    entries = ClipStore(run.store).entries()
    words = [str(drawn / entries[0].path), entries[9].id]
    found = search(run, words, k=4, html=str(tmp_path / "found.html"), **HERE)
    assert found["html"] == str(tmp_path / "found.html")
    assert (tmp_path / "found.html").stat().st_size > 10_000
    ((report, images),) = pages
    assert report["kind"] == "search"
    table = report["videos"]
    rows = rows_of(report)
    # A page is for others: files are named without their folders.
    assert [table["id"][row["query"]] for row in rows] == [Path(words[0]).name, words[1]]
    shown = [
        (words[number], table["id"][other["video"]], other["similarity"])
        for number, row in enumerate(rows)
        for other in row["neighbours"]
    ]
    assert shown == [(r["query"], r["id"], r["similarity"]) for r in found["results"]]
    labels = {entry.id: entry.label for entry in entries}
    assert {other["right"] for other in rows[0]["neighbours"]} == {None}
    for other in rows[1]["neighbours"]:
        assert other["right"] == (labels[table["id"][other["video"]]] == entries[9].label)
    assert report["gallery"]["labelled"]
    assert len({len(column) for column in table.values()}) == 1
    # The file itself and the video of the store that it is have pictures of their own.
    assert all(still >= 0 for still in table["still"])
    assert set(images) == {"s0", *(f"m{row}" for row in range(len(table["id"])))}


def test_windows_and_segments_are_shown_as_such(run, tmp_path, pages):
    ids = ClipStore(run.store).ids
    how = {"window": "0.4s", "stride": "0.2s", "html": str(tmp_path / "found.html"), **HERE}
    found = search(run, [f"{ids[0]}#t=0.2,0.6", ids[1]], k=3, **how)
    report, _ = pages[0]
    table, rows = report["videos"], rows_of(report)
    assert [table["id"][row["query"]] for row in rows] == [f"{ids[0]}#t=0.2,0.6", ids[1]]
    first = [table["id"][other["video"]] for other in rows[0]["neighbours"]]
    assert first == [f"{r['id']}#t={r['start']:g},{r['end']:g}" for r in found["results"][:3]]
    assert {table["seconds"][o["video"]] for o in rows[0]["neighbours"]} == {0.4}
    assert "0.4 s" in dict(report["facts"])["windows"]


def test_a_store_that_is_gone_and_a_query_that_fails(run, drawn, work, tmp_path, pages, slic):
    entries = ClipStore(run.store).entries()
    file = str(drawn / entries[3].path)
    how = {"k": 3, "window": "0.4s", **HERE}
    before = search(run, [file], **how)["results"]
    (work / "ucf101.zarr").unlink()
    (broken := tmp_path / "<script>alert(1).mp4").write_bytes(b"x")
    html = tmp_path / "new" / "found.html"
    found = search(run, [file, str(broken)], html=str(html), **how)
    assert found["results"] == [{**row, "path": row["id"]} for row in before]
    report, images = pages[0]
    assert any(remark.startswith(broken.name) for remark in report["remarks"])
    assert str(tmp_path) not in json.dumps(report)
    names = [report["videos"]["id"][o["video"]] for o in rows_of(report)[0]["neighbours"]]
    assert [name.split("#t=")[0] for name in names] == [row["id"] for row in before]
    with pytest.raises(InputError, match="is gone"):
        search(run, [entries[0].id], **how)
    assert "m0" in images
    assert "<script>alert" not in html.read_text()


def test_files_of_one_name_are_told_apart(run, drawn, tmp_path, pages):
    words = []
    for number, entry in enumerate(ClipStore(run.store).entries()[:2]):
        (tmp_path / str(number)).mkdir()
        words.append(shutil.copy(drawn / entry.path, tmp_path / str(number) / "a.avi"))
    search(run, [str(word) for word in words], k=1, html=str(tmp_path / "found.html"), **HERE)
    table, rows = pages[0][0]["videos"], rows_of(pages[0][0])
    assert [table["id"][row["query"]] for row in rows] == [str(word) for word in words]


def test_many_answers_are_a_sample_and_it_says_so(run, tmp_path, pages, monkeypatch):
    monkeypatch.setattr(gallery, "MOST_RESULTS", 5)
    ids = ClipStore(run.store).ids
    search(run, ids[:2], k=9, html=str(tmp_path / "found.html"), **HERE)
    report, _ = pages[0]
    assert [len(row["neighbours"]) for row in rows_of(report)] == [2, 2]
    assert any(re.search(r"\b4 of 18\b", remark) for remark in report["remarks"])


def test_a_page_that_cannot_be_written_is_refused_first(run, tmp_path, monkeypatch, slic):
    from slic.embed import cached

    monkeypatch.setattr(cached, "embed", None)
    query = ClipStore(run.store).ids[0]
    for name in ("file", "film.MP4"):
        (tmp_path / name).write_text("mine")
    for html in (tmp_path, tmp_path / "film.MP4", tmp_path / "file" / "found.html"):
        code, out, err = slic("search", query, "--clips", "1", "--html", str(html))
        assert code in (1, 2)
        assert (out, len(err.strip().splitlines())) == ("", 1)
    assert {(tmp_path / name).read_text() for name in ("file", "film.MP4")} == {"mine"}


def test_the_terminal_shows_seconds_windows_and_the_page(run, tmp_path, slic, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    html = str(tmp_path / "found.html")
    words = ("--window", "0.4s", "--k", "2", "--html", html, "--workers", "0")
    code, out, _ = slic("search", ClipStore(run.store).ids[0], *words)
    assert code == 0
    assert "seconds" in out.splitlines()[1]
    assert len(re.findall(r"\d\.\d\d-\d\.\d\d", out)) == 2
    assert re.search(r"\d windows", out)
    assert html in out
