"""Kinetics' layout, on trees of empty files."""

import random
from pathlib import Path

import pytest

from slic.datasets.videos import Video, read_dataset
from tests.datasets.trees import make, message, write

HEADER = "label,youtube_id,time_start,time_end,split"
TRAIN = ("playing guitar,-3B32lodo2M,59,69,train", '"eating, slowly",_dbcJuKJQNs,0,10,train')
VAL = ("playing guitar,---QUuC4vJs,184,194,validate",)


def table(file: Path, *rows: str, header: str = HEADER, end: str = "\n", bom: str = "") -> Path:
    return write(file, header, *rows, end=end, bom=bom)


def found(root: Path) -> dict[str, tuple[str | None, str]]:
    dataset = read_dataset(root)
    assert dataset.layout == "kinetics"
    return {video.id: (video.label, video.splits[1]) for video in dataset.videos}


@pytest.mark.parametrize(("end", "bom"), [("\n", ""), ("\r\n", ""), ("\r\n", "\ufeff")])
@pytest.mark.parametrize("names", ["train.csv val.csv", "annotations/kinetics-400_{}.csv", "all"])
@pytest.mark.parametrize(
    ("guitar", "eating", "suffix"),
    [
        ("playing guitar/", "eating, slowly/", ".mp4"),
        ("playing_guitar/", "x/", ".mkv"),
        ("", "", ".webm"),
    ],
)
def test_trees(
    tmp_path: Path, guitar: str, eating: str, suffix: str, names: str, end: str, bom: str
) -> None:
    paths = (
        f"train/{guitar}-3B32lodo2M_000059_000069{suffix}",
        f"train/{eating}_dbcJuKJQNs_000000_000010{suffix}",
        f"val/{guitar}---QUuC4vJs_000184_000194{suffix}",
    )
    make(tmp_path, paths)
    if names == "all":
        table(tmp_path / "kinetics.csv", *TRAIN, *VAL, end=end, bom=bom)
    else:
        train, val = names.split() if " " in names else (names.format("train"), names.format("val"))
        table(tmp_path / train, *TRAIN, end=end, bom=bom)
        table(tmp_path / val, *VAL, end=end, bom=bom)
    assert found(tmp_path) == {
        paths[0]: ("playing guitar", "train"),
        paths[1]: ("eating, slowly", "train"),
        paths[2]: ("playing guitar", "test"),
    }
    assert read_dataset(tmp_path).notes == ("no test split: val is used as test",)


def test_names_without_times_and_columns_in_any_order(tmp_path: Path) -> None:
    make(tmp_path, ("-a.mp4", "_b.mp4", "c_000005_000015.mp4", "_b_000001_000011.mp4"))
    table(
        tmp_path / "k.csv",
        "train,0,11.0,1,_b,run",
        "test,1,10,0,-a,hop",
        "train,1,15,5,c,run",
        header="Split, is_cc,time_end,time_start,youtube_id,LABEL",
    )
    assert found(tmp_path) == {
        "-a.mp4": ("hop", "test"),
        "_b.mp4": ("run", "train"),
        "_b_000001_000011.mp4": ("run", "train"),
        "c_000005_000015.mp4": ("run", "train"),
    }


def test_id_of_several_clips(tmp_path: Path) -> None:
    make(tmp_path, ("x_000000_000010.mp4", "x_000020_000030.mp4", "x.mp4", "y.mp4"))
    table(tmp_path / "k.csv", "run,x,0,10,train", "hop,x,20,30,test", "sit,y,3,13,train")
    dataset = read_dataset(tmp_path)
    assert dataset.videos == (
        Video("x.mp4", "x.mp4", None, None, {1: "unused"}),
        Video("x_000000_000010.mp4", "x_000000_000010.mp4", "run", "x", {1: "train"}),
        Video("x_000020_000030.mp4", "x_000020_000030.mp4", "hop", "x", {1: "test"}),
        Video("y.mp4", "y.mp4", "sit", None, {1: "train"}),
    )
    assert dataset.notes == ("1 video in no csv: unused",)


@pytest.mark.parametrize("header", [HEADER, "youtube_id,time_start,time_end,split"])
def test_test_split_without_labels_tests_nothing(tmp_path: Path, header: str) -> None:
    make(tmp_path, ("a.mp4", "b.mp4", "c.mp4", "d.mp4"))
    table(tmp_path / "train.csv", "run,a,0,10,train")
    table(tmp_path / "val.csv", "run,b,0,10,val")
    blank = "," if header == HEADER else ""
    table(tmp_path / "test.csv", f"{blank}c,0,10,test", f"{blank}d,1,11,test", header=header)
    assert found(tmp_path) == {
        "a.mp4": ("run", "train"),
        "b.mp4": ("run", "test"),
        "c.mp4": (None, "unused"),
        "d.mp4": (None, "unused"),
    }
    notes = read_dataset(tmp_path).notes
    assert notes == ("2 test videos without label: unused", "no test split: val is used as test")


def test_labelled_test_split(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4", "b.mp4", "c.mp4"))
    table(tmp_path / "k.csv", "run,a,0,10,train", "run,b,0,10,val", "run,c,0,10,test")
    table(tmp_path / "old.csv", "c,0,10,test", header="youtube_id,time_start,time_end,split")
    assert found(tmp_path) == {
        "a.mp4": ("run", "train"),
        "b.mp4": ("run", "unused"),
        "c.mp4": ("run", "test"),
    }
    # A test split that is listed and not on disk is no reason to leave val unused.
    (tmp_path / "c.mp4").unlink()
    assert found(tmp_path)["b.mp4"] == ("run", "test")
    assert read_dataset(tmp_path).notes[0] == "1 listed video is not on disk"


def test_unlisted_videos(tmp_path: Path) -> None:
    make(tmp_path, ("train/run/a.mp4", "train/run/b.mp4", "val/Ice_Skating/c.mp4", "val/new/d.mp4"))
    table(tmp_path / "train.csv", "run,a,0,10,train", "ice skating,gone,0,10,train")
    assert found(tmp_path) == {
        "train/run/a.mp4": ("run", "train"),
        "train/run/b.mp4": (None, "unused"),  # the list of train is there and lacks it
        "val/Ice_Skating/c.mp4": ("ice skating", "test"),  # no list of val: the folders count
        "val/new/d.mp4": (None, "test"),
    }
    assert read_dataset(tmp_path).notes == (
        "1 listed video is not on disk",
        "1 video in no csv: unused",
        "no test split: val is used as test",
    )


def test_repeated_rows(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4", "b.mp4", "c.mp4"))
    table(tmp_path / "1.csv", "run,a,0,10,train", "run,b,0,10,train", "run,c,0,10,train")
    table(tmp_path / "2.csv", "run,a,0,10,train", "hop,b,0,10,train", "run,c,0,10,val")
    assert found(tmp_path) == {
        "a.mp4": ("run", "train"),
        "b.mp4": (None, "unused"),
        "c.mp4": (None, "unused"),
    }
    note = "2 videos listed with different labels or splits: unused"
    assert note in read_dataset(tmp_path).notes


def test_csv_itself(tmp_path: Path) -> None:
    make(tmp_path, ("train/a.mp4", "train/b.mp4"))
    table(tmp_path / "other.csv", "sit,a,0,10,train", "sit,b,0,10,train")
    dataset = read_dataset(table(tmp_path / "mine.csv", "run,a,0,10,train"))
    assert (dataset.layout, dataset.root, dataset.name) == ("kinetics", tmp_path, "mine")
    assert [(v.label, v.splits[1]) for v in dataset.videos] == [("run", "train"), (None, "unused")]


def test_other_tables_are_left_alone(tmp_path: Path) -> None:
    make(tmp_path, ("run/a.mp4", "hop/b.mp4"))
    (tmp_path / "notes.csv").write_text("a,b\n")
    assert read_dataset(tmp_path).layout == "classes"


def test_generated_sets_of_any_size(tmp_path: Path) -> None:
    random_ = random.Random(7)
    letters = "abcXYZ019-_"
    expected: dict[str, tuple[str, str]] = {}
    rows = []
    for _ in range(200):
        video = "".join(random_.choices(letters, k=11))
        start = random_.randint(0, 2000)
        label = random_.choice(["run", "sword fighting", "a, b", 'say "x"'])
        word = random_.choice(["train", "test"])
        quoted = '"' + label.replace('"', '""') + '"'
        rows.append(f"{quoted},{video},{start},{start + 10},{word},0")
        if random_.random() < 0.7:
            path = f"{word}/{label.replace(' ', '_')}/{video}_{start:06d}_{start + 10:06d}.mp4"
            expected[path] = (label, word)
    table(tmp_path / "k.csv", *rows, header=f"{HEADER},is_cc")
    make(tmp_path, expected)
    assert found(tmp_path) == expected
    assert read_dataset(tmp_path).notes == (f"{200 - len(expected)} listed videos are not on disk",)


@pytest.mark.parametrize(
    ("header", "row", "expected"),
    [
        ("label,youtube_id,time_start,split", "x,a,0,train", "no column time_end; expected: label"),
        (HEADER, "x,a,0,10", "line 2: 4 cells under a header with 5"),
        (HEADER, "x,a,zero,10,train", "line 2: time 'zero' is not a number of seconds"),
        (HEADER, "x,a,0,nan,train", "line 2: time 'nan' is not a number"),
        (HEADER, "x,a,0,10,trian", "line 2: split 'trian' is unknown; use train, val, validate"),
        (HEADER, "x,,0,10,train", "line 2: the id is empty"),
        (HEADER, '"x\ny",a,0,10,train', "contains NUL or a line break"),
        (HEADER, '"x,a,0,10,train', "not a csv"),
        (HEADER, "x,../a,0,10,train", "none of the 1 listed videos is among the 1 on disk"),
        (HEADER, "", "no video is listed below the header"),
    ],
)
def test_bad_csv(tmp_path: Path, header: str, row: str, expected: str) -> None:
    make(tmp_path, ("train/a.mp4",))
    text = message(table(tmp_path / "t.csv", row, header=header).parent)
    assert text.startswith(f"{tmp_path}/t.csv")
    assert expected in text


def test_layout_that_does_not_fit(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.mp4",))
    assert "no csv with columns label,youtube_id" in message(tmp_path, "kinetics")
