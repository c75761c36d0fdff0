from pathlib import Path

import pytest

from slic.cache.clusterings import read_names
from slic.errors import InputError

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
        ("epoch00019,1_0,box", 3),
        ("epoch00019,²,box", 3),
        ("epoch00019,99999999999999999999999,box", 3),
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
