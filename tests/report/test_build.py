import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from slic.cache import ClipStore, EmbeddingCache
from slic.cache.embeddings import write_embeddings
from slic.datasets.videos import Video
from slic.engine.divergence import FAILED_STEP
from slic.errors import CheckpointError, InputError, LabelsMissing, StoreError
from slic.eval.classify import classify
from slic.eval.imported import evaluated_run
from slic.eval.retrieve import retrieve
from slic.report.build import build_report, report
from slic.runs import Run, create_run, find_run

HOSTILE = ["<script>alert(1)</script>", "\"'&`</style>", "🎬" * 40, "a" * 900, "\u202egpj.exe"]


def built(run: Run | None = None, **options) -> dict:
    """A report's sections, checked for what holds of all reports."""
    found, images = build_report(run or find_run(None), workers=0, say=str, **options)
    json.dumps(found, allow_nan=False)
    lengths = {len(column) for column in found["videos"].values()}
    assert len(lengths) == 1
    shown = set(rows(found))
    assert shown <= set(range(len(found["videos"]["id"])))
    sheets = {f"s{still // 100}" for still in found["videos"]["still"] if still >= 0}
    assert sheets == {name for name in images if name.startswith("s")}
    assert all(data[:4] == b"RIFF" for data in images.values())
    assert all("\n" not in remark for remark in found["remarks"])
    assert all(row["name"] and row["text"] for row in found["figures"])
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


# --- what is there ---------------------------------------------------------------------------


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
    assert f"{last['nmi']:.3f}" in [row["text"] for row in found["figures"]]
    assert [c["label"] for c in found["classes"]] == sorted(
        measured["per_class"], key=lambda label: (measured["per_class"][label], label)
    )


def test_clusters_are_those_of_the_file(work):
    found = built()
    with h5py.File(next(work.glob("runs/*/clusters.h5"))) as file:
        last = max(name for name in file if name != "video")
        known = dict(zip(file["video"].asstr()[:], file[last][:].tolist(), strict=True))
    assert found["clusters"]["clustering"] == last
    for cluster in found["clusters"]["listed"]:
        ids = [found["videos"]["id"][row] for row in cluster["videos"]]
        assert {known[video] for video in ids} == {cluster["id"]}
        assert len(ids) == cluster["size"]
    table = zip(found["videos"]["id"], found["videos"]["cluster"], strict=True)
    assert all(known.get(video) == cluster for video, cluster in table)


def test_settings_differ_from_the_presets_where_they_do(work):
    found = built()
    changed = {s["name"]: s["value"] for s in found["settings"] if s["value"] != s["preset"]}
    assert changed.pop("epochs") == "2"
    assert set(changed) <= {"frames", "stride", "size", "batch_size", "cluster_every"} | {
        "warmup_epochs",
        "retrieval_clips",
    }


def test_the_same_seed_draws_the_same(work):
    first, again, other = built(seed=1), built(seed=1), built(seed=2)
    for each in (first, again, other):
        del each["made"]
    assert first == again
    assert first["gallery"] != other["gallery"]


def test_a_map_of_a_sample(work):
    assert len(built(sample=7)["map"]["videos"]) == 7


def test_another_split_says_what_was_seen_of_it(work):
    found = built(split=2)
    assert any("split 2" in remark for remark in found["remarks"])
    recall = retrieve(find_run(None), split=2, workers=0, say=str)["recall"]["1"]
    assert figure(found, "Recall at 1") == f"{100 * recall:.1f} %"


def test_names_of_clusters(work):
    path = work / "names.csv"
    clustering = built()["clusters"]["clustering"]
    path.write_text(f"clustering,cluster,name\n{clustering},0,<b>waving</b>\n")
    assert built(names=str(path))["names"] == {"0": "<b>waving</b>"}
    path.write_text("clustering,cluster,name\nepoch00077,0,waving\n")
    with pytest.raises(InputError, match="line 2"):
        built(names=str(path))
    path.write_text(f"clustering,cluster,name\n{clustering},999,waving\n")
    with pytest.raises(InputError, match="line 2"):
        built(names=str(path))


# --- stores of all kinds ---------------------------------------------------------------------


def test_without_labels_it_shows_what_can_be_shown(own):
    relabelled(own, lambda i, video: replace(video, label=None))
    found = built()
    assert present(found) == {"curves", "gallery", "clusters", "map"}
    assert not found["gallery"]["labelled"]
    assert set(found["videos"]["label"]) == {None}
    assert found["clusters"]["purity"] is None
    assert len(found["remarks"]) == 1
    assert not any(row["name"].startswith("Recall") for row in found["figures"])
    with pytest.raises(LabelsMissing):
        built(split=1)


def test_without_splits(own):
    relabelled(own, lambda i, video: replace(video, splits={}))
    found = built()
    assert present(found) == {"curves", "gallery", "clusters", "map"}
    assert found["clusters"]["purity"] is not None
    assert len(found["remarks"]) == 1
    with pytest.raises(StoreError, match="no split 1"):
        built(split=1)


def test_one_class_and_hostile_labels(own):
    relabelled(own, lambda i, video: replace(video, label=HOSTILE[i % len(HOSTILE)]))
    assert {c["label"] for c in built()["classes"]} <= set(HOSTILE)
    relabelled(own, lambda i, video: replace(video, label="only"))
    assert figure(built(), "Recall at 1") == "100.0 %"


@pytest.mark.parametrize("left", [1, 2, 3])
def test_few_videos(own, left):
    own.index.remove(own.ids[left:])
    found = built()
    assert {"curves", "clusters"} <= present(found)
    assert len([still for still in found["videos"]["still"] if still >= 0]) == left


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
@pytest.mark.parametrize("damage", ["cut", "text"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(work, name, lost, damage):
    run = find_run(None)
    classify(run, workers=0, say=str)
    before = present(built(run))
    (file,) = run.path.glob(name)
    text = b"\x80nonsense\n" * 3
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3] + text * (damage == "cut"))
    if damage == "text":
        file.write_bytes(text)
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


@pytest.mark.parametrize("rows", ["equal", "zero", "broken", "some broken"])
def test_embeddings_that_tell_nothing_apart(work, rows):
    run = find_run(None)
    retrieve(run, workers=0, say=str)
    (file,) = run.embeddings.glob("*px.h5")
    cache = EmbeddingCache(file)
    values = {"equal": 1.0, "zero": 0.0, "broken": np.nan, "some broken": np.nan}[rows]
    backbone, projection = (np.array(x) for x in (cache.backbone, cache.projection))
    for embedded in (backbone, projection):
        embedded[: 5 if rows == "some broken" else None] = values
    write_embeddings(
        file,
        cache.ids.tolist(),
        backbone=backbone,
        projection=projection,
        labels=cache.labels.tolist(),
        splits={k: words.tolist() for k, words in cache.splits.items()},
        attributes=cache.attributes,
    )
    found = built(run)
    assert ("gallery" in present(found)) == (rows != "broken")
    said = [remark for remark in found["remarks"] if "NaN" in remark]
    assert len(said) == ("broken" in rows)


def test_a_report_is_written_whole_or_not_at_all(work):
    result = report(find_run(None), workers=0, say=str)
    page = Path(result["path"])
    assert page == find_run(None).path / "report.html"
    assert page.stat().st_size == result["bytes"]
    before = page.read_bytes()
    with pytest.raises(InputError, match="--output"):
        report(find_run(None), output="runs", workers=0, say=str)
    with pytest.raises(InputError, match="--figure"):
        report(find_run(None), figure="gallery.gif", workers=0, say=str)
    assert page.read_bytes() == before
    assert {"figures", "curves", "gallery", "clusters", "map"} <= set(result["sections"])
