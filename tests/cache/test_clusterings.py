"""clusters.h5, and the csv of clusters' names."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from slic.cache.clusterings import read_clusterings, read_names, record_clusters
from slic.errors import InputError


def clusters(path: Path) -> dict[str, list]:
    with h5py.File(path, "r") as file:
        ids = list(file["video"].asstr()[:])
        return {"video": ids} | {k: file[k][:].tolist() for k in file if k != "video"}


def test_clusterings_stand_beside_each_other(tmp_path):
    path = tmp_path / "clusters.h5"
    record_clusters(path, 0, {"b": 4, "a": 0})
    record_clusters(path, 10, {"b": 1, "a": 1})
    assert clusters(path) == {"video": ["b", "a"], "epoch00000": [4, 0], "epoch00010": [1, 1]}
    record_clusters(path, 10, {"b": 2, "a": 3})
    assert clusters(path)["epoch00010"] == [2, 3]
    assert [p.name for p in tmp_path.iterdir()] == ["clusters.h5"]


def test_clusterings_of_other_videos_are_not_mixed(tmp_path):
    path = tmp_path / "clusters.h5"
    record_clusters(path, 0, {"b": 4, "a": 0})
    record_clusters(path, 5, {"a": 0, "b": 4})
    assert clusters(path) == {"video": ["a", "b"], "epoch00005": [0, 4]}


def test_a_file_of_the_first_version_is_read_and_extended(tmp_path):
    path = tmp_path / "clusters.h5"
    with h5py.File(path, "w") as file:  # with strings of variable length, and no checksums of them
        file.create_dataset("video", data=["ü", "a"], dtype=h5py.string_dtype())
        file.create_dataset("epoch00000", data=np.array([4, 0]), fletcher32=True)
    assert read_clusterings(path).ids == ["ü", "a"]
    record_clusters(path, 5, {"ü": 1, "a": 1})
    found = read_clusterings(path)
    assert {k: v.tolist() for k, v in found.named.items()} == {
        "epoch00000": [4, 0],
        "epoch00005": [1, 1],
    }


# --- names -----------------------------------------------------------------------------------

HEADER = "clustering,cluster,name\n"


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "names.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path, *args, **more) -> str:
    with pytest.raises(InputError) as caught:
        read_names(path, *args, **more)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def test_names_are_read_as_the_page_saves_them(tmp_path):
    rows = 'epoch00019,12,bowling\r\nepoch00019,0,"drums, ""loud"" 🥁 <b>"\r\n\r\n'
    path = written(tmp_path, "\ufeff" + HEADER.replace("\n", "\r\n") + rows)
    expected = {12: "bowling", 0: 'drums, "loud" 🥁 <b>'}
    assert read_names(path) == read_names(path, "epoch00019", known={0, 12}) == expected


def test_a_file_without_names_is_none(tmp_path):
    assert read_names(written(tmp_path, HEADER), "epoch00001") == {}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        ("epoch00010,3,box", 3),  # of another clustering
        ("epoch00019,7,box", 3),  # no such cluster
        ("epoch00019,1,box", 3),  # named twice
        ("epoch00019,-1,box", 3),
        ("epoch00019,²,box", 3),
        ("epoch00019,3,  ", 3),
        ("epoch00019,3," + "x" * 201, 3),
        ("epoch00019,3,a,b", 3),
        ("epoch00019,3", 3),
        ('epoch00019,3,"two\nlines"', 4),
        ('epoch00019,3,"open', 3),
    ],
)
def test_a_wrong_row_is_named_by_its_line(tmp_path, row, line):
    path = written(tmp_path, f"{HEADER}epoch00019,1,run\n{row}\n")
    assert f"line {line}" in refusal(path, "epoch00019", known={1, 3, 10})


def test_names_of_several_clusterings_are_refused_whichever_is_meant(tmp_path):
    path = written(tmp_path, f"{HEADER}epoch00019,1,run\nepoch00010,2,box\n")
    assert "line 3" in refusal(path)


@pytest.mark.parametrize("text", ["", "cluster,name\n1,run\n", "a,b,c\n", "<!DOCTYPE html>\n"])
def test_another_header_is_refused(tmp_path, text):
    assert "clustering,cluster,name" in refusal(written(tmp_path, text))


def test_what_is_no_text_is_refused(tmp_path):
    refusal(written(tmp_path, HEADER.encode() + b"epoch00019,1,\xff\n"))
    refusal(tmp_path / "missing.csv")
    refusal(tmp_path)
