"""`slic cache export`: what is written reads back equal by pyarrow, csv and NumPy."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest

from slic.cache import EmbeddingCache
from slic.cache.clusterings import record_clusters
from slic.cache.embeddings import WindowPositions, write_embeddings
from slic.errors import InputError
from slic.runs import find_run
from slic.upkeep.export import export
from slic.upkeep.export_formats import write_csv, write_npz, write_parquet

HOSTILE = ["=cmd|' /C calc'!A0", 'quote " and, comma', "two\nlines", "a\r\nb", "🎥 видео"]
HOSTILE += ["NULL", "nan", " spaces ", "1e5", "x" * 3000]
AWKWARD = [0.0, -0.0, 1e-45, 3.4e38, 0.1, 1 / 3, -1.5e-7, 16777217.0, np.pi, 1e-30]


def hostile_cache(path: Path, *, labels: bool = True, seed: int = 0) -> EmbeddingCache:
    rng = np.random.default_rng(seed)
    count = len(HOSTILE)
    backbone = rng.standard_normal((count, 7)).astype(np.float32)
    backbone.ravel()[: len(AWKWARD)] = AWKWARD
    write_embeddings(
        path,
        HOSTILE,
        backbone=backbone,
        projection=rng.standard_normal((count, 3)).astype(np.float32) * 1e-20,
        labels=[None if n % 3 else HOSTILE[-n] for n in range(count)] if labels else [None] * count,
        splits={1: ["train", "test"] * (count // 2), 2: [None] * count, 3: ["unused"] * count},
        attributes={"store": "odd", "checkpoint": "e00001.abc", "protocol": "1clips"},
    )
    return EmbeddingCache(path)


def read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    return header, rows


def test_parquet_holds_the_cache_and_the_last_clustering(slic: Any, work: Path) -> None:
    code, out, _ = slic("cache", "export", "--json", "--workers", "0")
    result = json.loads(out)
    assert (code, result["path"]) == (0, "ucf101-small-1-ucf101.parquet")
    table = pq.read_table(result["path"])
    [file] = Path("runs/ucf101-small-1/embeddings").glob("*2clips*[!n].h5")
    cache = EmbeddingCache(file)
    assert cache.labels is not None
    texts = {"id": cache.ids, "label": cache.labels}
    texts |= {f"split{number}": words for number, words in cache.splits.items()}
    for name, rows in texts.items():
        assert table.column(name).to_pylist() == rows.tolist()
    for name in ("backbone", "projection"):
        rows = getattr(cache, name)
        kind = table.schema.field(name).type
        assert kind == pyarrow.list_(pyarrow.float32(), rows.shape[1])
        assert np.array_equal(np.array(table.column(name).to_pylist(), np.float32), rows)
    about = json.loads(table.schema.metadata[b"slic"])
    assert about == {key: result[key] for key in about}
    assert about["run"] == "ucf101-small-1"
    assert about["checkpoint"] == cache.attributes["checkpoint"]
    assert Path(result["path"]).stat().st_size == result["bytes"]
    clusters = dict(zip(table["id"].to_pylist(), table["cluster"].to_pylist(), strict=True))
    with h5py.File("runs/ucf101-small-1/clusters.h5") as file:
        last = sorted(name for name in file if name != "video")[-1]
        clustered = dict(zip(file["video"].asstr()[()], file[last][()].tolist(), strict=True))
    assert result["clustering"] == last
    assert result["clustered"] == len(clustered) < len(clusters)
    assert clusters == {video: clustered.get(video) for video in clusters}


def test_formats_agree_and_missing_values_are_theirs(work: Path) -> None:
    run = find_run(None)
    ids = json.loads(json.dumps(EmbeddingCache(next(run.embeddings.glob("*.h5"))).ids.tolist()))
    record_clusters(run.path / "clusters.h5", 7, {ids[1]: 5, "not in the store": 6})
    how = {"feature": "backbone", "workers": 0, "say": str}
    for kind in ("csv", "npz", "parquet"):
        assert export(run, output=f"out.{kind}", **how)["clustered"] == 1
    table = pq.read_table("out.parquet")
    header, rows = read_csv(Path("out.csv"))
    with np.load("out.npz") as arrays:
        names = ["id", "label", "split1", "split2", "split3", "cluster", "backbone"]
        assert [*arrays] == [*names, "about"]
        assert table.column_names == names
        wide = [f"backbone_{n}" for n in range(arrays["backbone"].shape[1])]
        assert header == [*names[:-1], *wide]
        clusters = arrays["cluster"].tolist()
        assert sorted(set(clusters)) == [-1, 5]
        assert table["cluster"].to_pylist() == [None if c == -1 else c for c in clusters]
        assert [row[5] for row in rows] == ["" if c == -1 else str(c) for c in clusters]
        assert json.loads(str(arrays["about"]))["clustering"] == "epoch00007"
        values = np.array([[np.float32(cell) for cell in row[6:]] for row in rows])
        assert np.array_equal(values, arrays["backbone"])


@pytest.mark.parametrize("labels", [True, False])
def test_texts_and_numbers_read_back_exactly(tmp_path: Path, labels: bool) -> None:
    cache = hostile_cache(tmp_path / "odd.h5", labels=labels)
    said: list[str] = []
    for kind in ("parquet", "csv", "npz"):
        export(cache.path, output=str(tmp_path / f"o.{kind}"), say=said.append)
    expected = HOSTILE
    given = [""] * len(HOSTILE) if cache.labels is None else cache.labels.tolist()
    table = pq.read_table(tmp_path / "o.parquet")
    assert table["id"].to_pylist() == expected
    assert table["label"].to_pylist() == [label or None for label in given]
    assert "split2" not in table.column_names
    assert table["cluster"].to_pylist() == [None] * len(expected)
    header, rows = read_csv(tmp_path / "o.csv")
    assert [row[0] for row in rows] == expected
    assert [row[1] for row in rows] == given
    begin = header.index("backbone_0")
    values = np.array([[np.float32(cell) for cell in row[begin : begin + 7]] for row in rows])
    assert values.tobytes() == cache.backbone.tobytes()  # of -0.0 too
    with np.load(tmp_path / "o.npz", allow_pickle=False) as arrays:
        assert arrays["id"].tolist() == expected
        assert arrays["label"].tolist() == given
        assert arrays["projection"].tobytes() == cache.projection.tobytes()
        assert arrays["id"].dtype.kind == "U"
        assert json.loads(str(arrays["about"]))["run"] is None
    # A spreadsheet would compute these: the csv's reader is told, and the texts stay.
    assert len(said) == 1
    assert "formulas" in said[0]


@pytest.mark.parametrize("count", [0, 1, 2048, 5000])
def test_tables_of_every_size_in_parts(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(count)
    ids = np.array([f"v{n}" for n in range(count)], dtype=np.str_)
    values = {
        "id": ids,
        "cluster": rng.integers(-1, 3, count),
        "start": rng.random(count),
        "backbone": rng.standard_normal((count, 3)).astype(np.float32),
    }
    for write in (write_parquet, write_csv, write_npz):
        write(tmp_path / write.__name__, values, "{}")
    table = pq.read_table(tmp_path / "write_parquet")
    header, rows = read_csv(tmp_path / "write_csv")
    assert header == ["id", "cluster", "start", "backbone_0", "backbone_1", "backbone_2"]
    assert len(table) == len(rows) == count
    assert table["start"].to_pylist() == [float(row[2]) for row in rows] == values["start"].tolist()
    with np.load(tmp_path / "write_npz") as arrays:
        for name, column in values.items():
            assert np.array_equal(arrays[name], column)


def test_windows_of_videos_say_where_they_lie(tmp_path: Path) -> None:
    rows = np.eye(3, dtype=np.float32)
    write_embeddings(
        tmp_path / "windows.h5",
        ["a#t=0,2", "a#t=1,3", "b#t=0,2"],
        backbone=rows,
        projection=rows,
        labels=["x", "x", None],
        splits={},
        attributes={"store": "s", "checkpoint": "e00001.abc", "protocol": "1clips"},
        places=WindowPositions(
            np.array(["a", "a", "b"]), np.array([0.0, 1.0, 0.0]), np.array([2.0, 3.0, 2.04])
        ),
    )
    found = export(tmp_path / "windows.h5", output=str(tmp_path / "w.parquet"), say=str)
    assert (found["rows"], found["videos"]) == (3, 2)
    table = pq.read_table(tmp_path / "w.parquet")
    names = ["id", "of", "start", "end", "label", "cluster", "backbone", "projection"]
    assert table.column_names == names
    assert table["of"].to_pylist() == ["a", "a", "b"]
    assert table["end"].to_pylist() == [2.0, 3.0, 2.04]
    assert table["label"].to_pylist() == ["x", "x", None]


def test_names_of_clusters(work: Path) -> None:
    run = find_run(None)
    ids = EmbeddingCache(next(run.embeddings.glob("*.h5"))).ids.tolist()
    record_clusters(run.path / "clusters.h5", 7, {ids[0]: 5, ids[1]: 2, ids[2]: 5})
    name = '=bowling, "two lines" <b> 🎳'
    with Path("names.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("clustering", "cluster", "name"), ("epoch00007", 5, name)])
    export(run, output="named.parquet", names="names.csv", workers=0, say=str)
    table = pq.read_table("named.parquet")
    found = dict(zip(table["id"].to_pylist(), table["cluster_name"].to_pylist(), strict=True))
    assert found == {video: name if video in (ids[0], ids[2]) else None for video in found}
    Path("names.csv").write_text("clustering,cluster,name\nepoch00003,5,bowling\n")
    with pytest.raises(InputError, match=r"names\.csv"):
        export(run, output="other.parquet", names="names.csv", workers=0, say=str)
    assert not Path("other.parquet").exists()


def test_a_cache_of_another_store_has_no_clusters(work: Path) -> None:
    run = find_run(None)
    Path("other.zarr").symlink_to(Path("ucf101.zarr").resolve())
    Path("ucf101-small-1-other.parquet").write_text("an older export")
    found = export(run, store="other.zarr", overwrite=True, workers=0, say=str)
    assert len(pq.read_table("ucf101-small-1-other.parquet")) == found["rows"] == 24
    assert (found["clustering"], found["clustered"]) == (None, 0)
    with pytest.raises(InputError, match="names"):
        export(run, store="other.zarr", names="n.csv", overwrite=True, workers=0, say=str)


def test_a_cache_in_a_run_has_its_clusters(slic: Any, work: Path) -> None:
    export(find_run(None), workers=0, say=str)
    [cache] = Path("runs/ucf101-small-1/embeddings").glob("*2clips*[!n].h5")
    code, out, _ = slic("cache", "export", str(cache), "--output", "a.npz", "--json")
    assert code == 0
    assert json.loads(out)["run"] == "ucf101-small-1"
    assert json.loads(out)["clustered"] > 0


WRONG = {
    "no such run": ["--run", "none"],
    "no such cache": ["none.h5"],
    "damaged cache": ["damaged.h5"],
    "a folder as cache": ["runs"],
    "unknown suffix": ["--output", "out.xlsx"],
    "suffix of another format": ["--output", "out.csv", "--format", "npz"],
    "no such folder": ["--output", "missing/out.csv"],
    "a folder as output": ["--output", "folder.csv", "--overwrite"],
    "there already": ["--output", "there.csv"],
    "cache and run": ["damaged.h5", "--run", "ucf101-small-1"],
    "cache and store": ["damaged.h5", "--store", "ucf101.zarr"],
    "no such store": ["--store", "none.zarr"],
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_one_line(slic: Any, work: Path, case: str) -> None:
    Path("damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    Path("there.csv").write_text("mine")
    Path("folder.csv").mkdir()
    code, out, err = slic("cache", "export", *WRONG[case], "--workers", "0")
    assert (code, out) == (2, "")
    assert "Traceback" not in err
    assert err.splitlines()[-1].startswith("slic: ")
    assert Path("there.csv").read_text() == "mine"
    assert not [*Path().glob("*.parquet"), *Path().glob(".*")]


def test_the_example_of_the_documentation_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = hostile_cache(tmp_path / "odd.h5")
    export(cache.path, output="ucf101.parquet", say=str)
    text = (Path(__file__).parents[2] / "docs/export.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert np.array_equal(np.asarray(names["backbone"]), cache.backbone)
