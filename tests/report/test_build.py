"""`slic report`: which sections there are, what is missing, and where the page goes."""

import itertools
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from slic.cache import ClipStore
from slic.datasets.videos import Video
from slic.engine.divergence import FAILED_STEP
from slic.errors import CheckpointError, InputError, LabelsMissing, StoreError
from slic.eval.classify import classify
from slic.eval.imported import evaluated_run
from slic.eval.retrieve import retrieve
from slic.report.build import report
from slic.runs import Run, create_run, find_run


def built(run: Run | None = None, **options) -> dict:
    """The data of a written page, after checks that hold for every report."""
    result = report(run or find_run(None), workers=0, say=str, **options)
    page = Path(result["path"]).read_text()
    found = json.loads(page.partition('id="report">')[2].partition("</script>")[0])
    lengths = {len(column) for column in found["videos"].values()}
    assert len(lengths) == 1
    shown = set(rows(found))
    assert shown <= set(range(len(found["videos"]["id"])))
    sheets = {still // 100 for still in found["videos"]["still"] if still >= 0}
    assert all(f'id="image-s{sheet}"' in page for sheet in sheets)
    assert all("\n" not in remark for remark in found["remarks"])
    assert all(row["name"] and row["text"] for row in found["figures"])
    assert result["remarks"] == found["remarks"]
    assert result["bytes"] == Path(result["path"]).stat().st_size < 25_000_000
    return found


def rows(found: dict) -> list[int]:
    """Rows of the table of videos that sections refer to."""
    shown = list(found["map"]["videos"]) if found["map"] else []
    for view in (found["gallery"] or {"views": []})["views"]:
        for row in itertools.chain(*(group["rows"] for group in view["groups"])):
            shown += [row["query"], *(n["video"] for n in row["neighbours"])]
    for cluster in (found["clusters"] or {"listed": []})["listed"]:
        shown += cluster["videos"]
    return shown


def present(found: dict) -> set[str]:
    optional = ("curves", "gallery", "classes", "clusters", "confusion", "map", "failed", "paper")
    return {name for name in optional if found[name]}


def figure(found: dict, name: str) -> str:
    return {row["name"]: row["text"] for row in found["figures"]}[name]


def refused(slic, *words: str) -> str:
    """The last line on stderr of a command that is refused."""
    code, out, err = slic("report", "--workers", "0", *words)
    assert (code, out) == (2, "")
    return err.splitlines()[-1]


@pytest.fixture
def own(work: Path) -> ClipStore:
    """The store of `work`, as a copy that may be changed."""
    path = work / "ucf101.zarr"
    target = path.resolve()
    path.unlink()
    shutil.copytree(target, path)
    return ClipStore(path, writable=True)


def relabelled(store: ClipStore, change) -> None:
    videos = [
        Video(id=e.id, path=e.path, label=e.label, group=e.group, splits={1: e.split1})
        for e in store.entries()
    ]
    store.index.relabel([change(i, video) for i, video in enumerate(videos)])


# --- a complete run --------------------------------------------------------------------------


def test_a_run_has_every_section_and_the_figures_of_the_other_commands(work):
    run = find_run(None)
    measured = retrieve(run, workers=0, say=str)
    linear = classify(run, workers=0, say=str)
    found = built(run)
    assert present(found) == {"curves", "gallery", "classes", "clusters", "confusion", "map"}
    assert found["remarks"] == []
    for k, value in measured["recall"].items():
        assert figure(found, f"Recall at {k}") == f"{100 * value:.1f} %"
    assert figure(found, "Linear layer, top-1") == f"{100 * linear['top1']:.1f} %"
    last = run.records("clustering")[-1]
    assert figure(found, "Clusters") == str(last["clusters"]) == str(found["clusters"]["count"])
    recall = {c["label"]: c["recall"] for c in found["classes"]}
    assert recall == pytest.approx(measured["per_class"])
    changed = {s["name"]: s["value"] for s in found["settings"] if s["value"] != s["preset"]}
    assert changed["epochs"] == "2"
    assert "lr" not in changed
    with h5py.File(run.path / "clusters.h5") as file:
        name = max(name for name in file if name != "video")
        known = dict(zip(file["video"].asstr()[:], file[name][:].tolist(), strict=True))
    assert found["clusters"]["clustering"] == name
    for cluster in found["clusters"]["listed"]:
        ids = [found["videos"]["id"][row] for row in cluster["videos"]]
        assert {known[video] for video in ids} == {cluster["id"]}
        assert len(ids) == cluster["size"]
    table = zip(found["videos"]["id"], found["videos"]["cluster"], strict=True)
    assert all(known.get(video) == cluster for video, cluster in table)


def test_the_seed_decides_what_is_drawn(work):
    first, again, other = (built(seed=seed, sample=7) for seed in (1, 1, 2))
    for each in (first, again, other):
        del each["made"]
    assert first == again
    assert first["gallery"] != other["gallery"]
    assert len(first["map"]["videos"]) == 7


def test_another_split_has_a_remark_on_what_was_seen_of_it(work):
    found = built(split=2)
    assert any("pretrained on split 1" in remark for remark in found["remarks"])
    recall = retrieve(find_run(None), split=2, workers=0, say=str)["recall"]["1"]
    assert figure(found, "Recall at 1") == f"{100 * recall:.1f} %"


def test_names_of_clusters(work, slic):
    rows = "clustering,cluster,name\nepoch00002,0,<b>waving</b>\n"
    Path("names.csv").write_text(rows)
    assert built(names="names.csv")["names"] == {"0": "<b>waving</b>"}
    for wrong in ("epoch00077,0,box", "epoch00002,999,box", "epoch00002,x,box"):
        Path("names.csv").write_text(f"{rows}{wrong}\n")
        assert "names.csv line 3" in refused(slic, "--names", "names.csv")


# --- stores of all kinds ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lacking", "error"),
    [({"label": None}, LabelsMissing), ({"splits": {}}, StoreError)],
)
def test_without_labels_or_splits_it_shows_what_can_be_shown(own, lacking, error):
    relabelled(own, lambda i, video: replace(video, **lacking))
    found = built()
    assert present(found) == {"curves", "gallery", "clusters", "map"}
    assert not found["gallery"]["labelled"]
    assert (found["clusters"]["purity"] is None) == ("label" in lacking)
    assert len(found["remarks"]) == 1
    with pytest.raises(error):
        built(split=1)


def test_failed_videos_are_listed_with_their_reasons(own):
    failed = replace(own.entries()[0], reason="no video in it <img>", frames=None)
    odd = replace(own.entries()[1], remark="cut short after 3 frames")
    own.index.put(failed, odd)
    assert built()["failed"] == {
        "count": 1,
        "listed": [{"id": failed.id, "reason": "no video in it <img>"}],
        "damaged": [{"id": odd.id, "reason": "cut short after 3 frames"}],
    }


def test_another_store_has_its_own_videos_and_not_the_clusters(work, own):
    shutil.copytree(own.path, work / "other.zarr")
    other = ClipStore(work / "other.zarr", writable=True)
    relabelled(other, lambda i, video: replace(video, label=f"class {i % 2}"))
    found = built(store="other.zarr")
    assert ["store", "other.zarr"] in found["facts"]
    assert {c["label"] for c in found["classes"]} == {"class 0", "class 1"}
    assert all(not cluster["videos"] for cluster in found["clusters"]["listed"])
    assert found["clusters"]["purity"] is None
    assert set(found["videos"]["cluster"]) == {None}
    assert len(found["remarks"]) == 1


def test_the_same_store_elsewhere_is_still_the_runs(work, own):
    own.path.rename(work / "moved.zarr")
    found = built(store="moved.zarr")
    assert any(cluster["videos"] for cluster in found["clusters"]["listed"])
    assert found["remarks"] == []


# --- what is missing -------------------------------------------------------------------------


def test_a_store_that_is_gone_leaves_cached_embeddings_without_pictures(work):
    before = built()
    (work / "ucf101.zarr").unlink()
    found = built()
    assert present(found) == present(before)
    assert set(found["videos"]["still"]) == {-1}
    assert found["videos"]["label"] == before["videos"]["label"]
    assert found["clusters"]["purity"] == before["clusters"]["purity"]
    assert found["figures"] == before["figures"]
    assert any("ucf101.zarr" in remark for remark in found["remarks"])


def test_neither_store_nor_embeddings(work):
    (work / "ucf101.zarr").unlink()
    found = built()
    assert present(found) == {"curves", "clusters"}
    assert len(found["remarks"]) == 2
    with pytest.raises(StoreError, match="no such store"):
        built(store="ucf101.zarr")


def test_a_run_that_has_just_begun(work):
    settings = find_run(None).settings
    run = create_run(
        work / "runs" / "new",
        settings,
        store=work / "ucf101.zarr",
        store_digest="aaaaaaaa",
        preset="cpu-small",
    )
    found = built(run)
    assert present(found) == set()
    assert any("no checkpoint yet" in remark for remark in found["remarks"])
    assert ["trained", "0 of 2 epochs, unfinished"] in found["facts"]
    with pytest.raises(InputError, match="no clusters"):
        built(run, names="any.csv")


def test_a_run_stopped_within_its_first_epochs(work):
    run = find_run(None)
    run.checkpoint.unlink()
    lines = run.metrics.read_text().splitlines()
    run.metrics.write_text("".join(f"{line}\n" for line in lines[:2]) + lines[2][:20])
    (run.path / FAILED_STEP).write_text("{}")
    found = built(run)
    assert present(found) == {"curves", "clusters"}
    assert any(FAILED_STEP in remark for remark in found["remarks"])
    assert ["trained", "1 of 2 epochs, unfinished"] in found["facts"]


def test_weights_from_elsewhere_have_no_curves_and_clusters(work):
    weights = next(work.glob("runs/*/checkpoints/latest"))
    run = evaluated_run(None, weights=str(weights), preset=None, store=None, say=str)
    found = built(run)
    assert present(found) == {"gallery", "classes", "confusion", "map"}
    assert all(s["value"] == s["preset"] for s in found["settings"])


# --- what is damaged -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("clusters.h5", {"clusters"}),
        ("metrics.jsonl", {"curves"}),
        ("checkpoints/latest", {"gallery", "classes", "confusion", "map"}),
        ("embeddings/*px.h5", {"gallery", "classes", "confusion", "map"}),
        ("classify/linear*.json", set()),
    ],
)
def test_a_damaged_file_is_named_and_the_rest_is_shown(work, name, lost):
    run = find_run(None)
    classify(run, workers=0, say=str)
    before = present(built(run))
    (file,) = run.path.glob(name)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3] + b"\x80nonsense\n")
    found = built(run)
    assert present(found) == before - lost
    (remark,) = found["remarks"]
    assert file.name in remark


def test_a_damaged_store_is_named(work, own):
    built()
    (own.path / "index" / "index.sqlite").write_bytes(b"nonsense" * 1000)
    found = built()
    assert present(found) == {"curves", "clusters"}
    assert all("index" in remark for remark in found["remarks"])
    with pytest.raises(StoreError):
        built(store="ucf101.zarr")


def test_a_damaged_config_is_an_error(work):
    (find_run(None).path / "config.toml").write_text("[")
    with pytest.raises(CheckpointError):
        built()


def test_broken_embeddings_are_counted(work):
    run = find_run(None)
    retrieve(run, workers=0, say=str)
    (path,) = run.embeddings.glob("*px.h5")
    with h5py.File(path, "r+") as file:
        file["backbone"][:5] = np.nan
    found = built(run)
    assert found["gallery"]
    assert len([remark for remark in found["remarks"] if "NaN" in remark]) == 1


# --- the command -----------------------------------------------------------------------------


def test_the_command_writes_where_it_is_asked_to(work, slic):
    code, out, err = slic("report", "--workers", "0", "--json", "--figure", "gallery.svg")
    assert code == 0, err
    result = json.loads(out)
    assert out.count("\n") == 1
    assert Path(result["path"]) == find_run(None).path / "report.html"
    assert Path(result["path"]).read_text().lower().startswith("<!doctype html>")
    assert result["store"] == "ucf101.zarr"
    assert {"figures", "curves", "gallery", "clusters", "confusion"} <= set(result["sections"])
    assert "<svg" in Path("gallery.svg").read_text()
    code, out, _ = slic("report", "--workers", "0", "--output", "to/look at/me.html")
    assert code == 0
    assert "me.html" in out
    assert [p.name for p in Path("to/look at").iterdir()] == ["me.html"]


def test_the_page_holds_no_path_of_this_machine(work):
    path = next((work / "runs").iterdir())
    (path / "clusters.h5").write_bytes(b"nonsense")
    (path / "checkpoints" / "latest").unlink()
    found = built(find_run(str(path)), store=str(work / "ucf101.zarr"), split=2)
    assert any("clusters.h5" in remark for remark in found["remarks"])
    assert any("checkpoint" in remark for remark in found["remarks"])
    assert str(work) not in (path / "report.html").read_text()


def test_a_run_whose_name_is_not_utf_8(work):
    named = os.fsdecode(b"runs/\xff run")
    next((work / "runs").iterdir()).rename(named)
    page = report(find_run(named), workers=0, say=str)["path"]
    assert "<title>? run</title>" in Path(page).read_text()


def test_pictures_take_the_room_that_the_text_leaves(work, monkeypatch):
    run = find_run(None)
    most = report(run, workers=0, say=str)["bytes"] - 50_000
    monkeypatch.setattr("slic.page.writing.RESERVE", 10_000)
    monkeypatch.setattr("slic.page.writing.LARGEST", most)
    smaller = report(run, workers=0, say=str)
    assert smaller["bytes"] < most
    assert any("small" in remark for remark in smaller["remarks"])
    monkeypatch.setattr("slic.page.writing.LARGEST", 20_000)
    assert any("--sample" in remark for remark in built(run)["remarks"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--split", "7"), "no split 7"),
        (("--output", "runs"), "--output"),
        (("--output", "report.pdf"), ".html"),
        (("--figure", "gallery.gif"), ".svg"),
        (("--figure", "runs"), "--figure"),
        (("--names", "none.csv"), "none.csv"),
        (("--sample", "0"), "sample"),
        (("--preset", "demo"), "--preset"),
    ],
)
def test_unusable_options_are_one_line(work, slic, words, expected):
    assert expected in refused(slic, *words)
    assert not list(Path("runs").glob("*/report.html"))
