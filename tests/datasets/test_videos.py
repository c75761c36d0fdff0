"""Data set layouts, on trees of empty files."""

import hashlib
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from slic.datasets.videos import VIDEO_SUFFIXES, Dataset, Video, hold_out, read_dataset
from slic.errors import DatasetError
from tests.datasets.trees import make, message, write

UCF = (
    "Archery/v_Archery_g01_c01.avi",
    "Archery/v_Archery_g08_c02.avi",
    "Archery/v_Archery_g25_c01.avi",
    "HandstandPushups/v_HandStandPushups_g07_c01.avi",
    "HandstandPushups/v_HandStandPushups_g15_c01.avi",
)


def labels(dataset: Dataset) -> dict[str, str | None]:
    return {video.id: video.label for video in dataset.videos}


def parts(dataset: Dataset, number: int = 1) -> dict[str, str]:
    return {video.id: video.splits[number] for video in dataset.videos}


# --- in general ------------------------------------------------------------------------------


def test_every_suffix_in_any_case_and_nothing_hidden_or_foreign(tmp_path: Path) -> None:
    wanted = {f"v{s}" for s in VIDEO_SUFFIXES} | {"UP.AVI", "x.y.Mp4"}
    other = (".hidden.mp4", ".cache/a.mp4", "notes.txt", "mp4", "a.mp4.part", ".mp4")
    dataset = read_dataset(make(tmp_path, (*wanted, *other)))
    assert set(labels(dataset)) == wanted
    assert len(VIDEO_SUFFIXES) == 13


def test_links(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", ("real.mp4", "sub/other.mp4"))
    root = make(tmp_path / "set", ("a/1.mp4",))
    (root / "a" / "linked.mp4").symlink_to(outside / "real.mp4")
    (root / "a" / "gone.mp4").symlink_to(outside / "nothing.mp4")
    (root / "a" / "self.mp4").symlink_to("self.mp4")
    (root / "b").symlink_to(outside / "sub", target_is_directory=True)
    (root / "loop.mp4").symlink_to(root, target_is_directory=True)
    dataset = read_dataset(root)
    assert set(labels(dataset)) == {"a/1.mp4", "a/linked.mp4"}
    assert dataset.notes[:2] == (
        "2 links to folders not followed",
        "2 links to missing videos ignored",
    )


def test_names_that_are_not_utf8_are_left_out(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4", "é.mp4"))
    for name in (b"\xff.mp4", b"\xfe.txt"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    dataset = read_dataset(tmp_path)
    assert set(labels(dataset)) == {"a.mp4", "é.mp4"}
    assert dataset.notes == ("1 video ignored: file names that are not UTF-8",)


@pytest.mark.parametrize("name", ["a\nb/1.mp4", "a\r.mp4", "x/a\u2028.mp4"])
def test_line_break_in_a_name(tmp_path: Path, name: str) -> None:
    text = message(make(tmp_path, ("ok/1.mp4", name)))
    assert "contains a line break" in text
    assert ascii(name) in text


@pytest.mark.parametrize("path", ["nothing", "nothing.csv", ""])
def test_missing_path(tmp_path: Path, path: str) -> None:
    assert "no such file or folder" in message(tmp_path / "none" / path)


@pytest.mark.parametrize("path", ["a\0b", "a\nb", "a\udcffb"])
def test_impossible_path(path: str) -> None:
    assert "line break or bytes that are not UTF-8" in message(path)


def test_empty_folder(tmp_path: Path) -> None:
    assert message(tmp_path).endswith("the folder is empty")


def test_folder_without_video(tmp_path: Path) -> None:
    text = message(make(tmp_path, ("a.txt", "b/c.zip")))
    assert "no video in this folder; known suffixes: .3gp .avi" in text


def test_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, ("a/1.mp4", "b/1.mp4"))
    real = os.scandir

    def scandir(folder: str) -> object:
        if str(folder).rstrip("/").endswith("/b"):
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{tmp_path}/b/: cannot be read: Permission denied" in message(tmp_path)


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4", "t.csv"))
    assert "is a file; give a folder, .csv or .txt" in message(tmp_path / "a.mp4")
    assert "give a folder for layout flat" in message(tmp_path / "t.csv", "flat")
    assert "for layout csv, give the csv itself" in message(tmp_path, "csv")
    assert "'hmdb' is unknown; choose auto, ucf101, hmdb51, " in message(tmp_path, "hmdb")
    assert "pass --layout classes" in message(tmp_path, "ucf101")


# --- UCF101 ----------------------------------------------------------------------------------


def lists(folder: Path, *numbers: int, end: str = "\n") -> None:
    """Official lists for `UCF`: split k tests what its groups say."""
    write(folder / "classInd.txt", "1 Archery", "2 HandstandPushups", end=end)
    tested = {1: ("g01", "g07"), 2: ("g08",), 3: ("g15",)}
    for number in numbers:
        test = [p for p in UCF if any(g in p for g in tested[number])]
        train = [f"{p} {1 if 'Archery' in p else 2}" for p in UCF if p not in test]
        write(folder / f"trainlist0{number}.txt", *train, end=end)
        write(folder / f"testlist0{number}.txt", *test, end=end)


def test_ucf101_without_lists_follows_the_groups(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, UCF))
    assert dataset.layout == "ucf101"
    assert dataset.notes == ("no official lists: splits follow from group numbers",)
    assert [video.group for video in dataset.videos] == ["g01", "g08", "g25", "g07", "g15"]
    tested = [[k for k, part in video.splits.items() if part == "test"] for video in dataset.videos]
    assert tested == [[1], [2], [], [1], [3]]
    assert {p for v in dataset.videos for p in v.splits.values()} == {"train", "test"}


@pytest.mark.parametrize(
    ("group", "split"),
    [(1, 1), (7, 1), (8, 2), (14, 2), (15, 3), (21, 3), (22, None)],
)
def test_ucf101_group_limits(tmp_path: Path, group: int, split: int | None) -> None:
    (video,) = read_dataset(make(tmp_path, (f"A/v_A_g{group:02d}_c01.avi",))).videos
    assert video.splits == {k: "test" if k == split else "train" for k in (1, 2, 3)}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("where", ["set/ucfTrainTestlist", "set", "set/UCF-101", "set/a/b"])
def test_ucf101_official_lists(tmp_path: Path, where: str, end: str) -> None:
    make(tmp_path / "set", (f"UCF-101/{path}" for path in UCF))
    lists(tmp_path / where, 1, 2, 3, end=end)
    dataset = read_dataset(tmp_path / "set")
    assert (dataset.layout, dataset.notes) == ("ucf101", ())
    assert dataset.split_numbers == (1, 2, 3)
    assert dataset.labels == ("Archery", "HandstandPushups")
    assert list(parts(dataset, 1).values()) == ["test", "train", "train", "test", "train"]
    assert list(parts(dataset, 2).values()) == ["train", "test", "train", "train", "train"]
    assert list(parts(dataset, 3).values()) == ["train", "train", "train", "train", "test"]


@pytest.mark.parametrize(
    ("folder", "name", "listed"),
    [
        ("HandstandPushups", "HandStandPushups", "HandstandPushups"),
        ("HandStandPushups", "HandstandPushups", "HandStandPushups"),
        ("handstandpushups", "HandStandPushups", "HandStandPushups"),
    ],
)
def test_ucf101_case_of_handstand_pushups(
    tmp_path: Path, folder: str, name: str, listed: str
) -> None:
    make(tmp_path, (f"{folder}/v_{name}_g01_c01.avi", f"{folder}/v_{name}_g08_c01.avi"))
    write(tmp_path / "classInd.txt", "37 HandstandPushups")
    write(tmp_path / "testlist01.txt", f"{listed}/v_HandStandPushups_g01_c01.avi")
    write(tmp_path / "trainlist01.txt", f"HandstandPushups/v_{listed}_g08_c01.avi 37")
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("HandstandPushups",)
    assert list(parts(dataset).values()) == ["test", "train"]
    assert dataset.notes == ("official lists of split 1 only",)


def test_ucf101_lists_count_whatever_the_order_and_suffix(tmp_path: Path) -> None:
    make(tmp_path, ("X/v_X_g01_c01.mp4", "X/v_X_g01_c01.avi", "X/v_X_g02_c01.mp4"))
    write(tmp_path / "trainlist01.txt", "X/v_X_g01_c01.avi 1")
    write(tmp_path / "testlist01.txt", "X/v_X_g02_c01.avi")
    dataset = read_dataset(tmp_path)  # against the group numbers: the lists decide
    assert list(parts(dataset).values()) == ["train", "train", "test"]


def test_ucf101_missing_and_unlisted_videos(tmp_path: Path) -> None:
    make(tmp_path, ("A/v_A_g01_c01.avi", "A/v_A_g02_c01.avi", "A/v_A_g03_c01.avi"))
    write(tmp_path / "trainlist01.txt", "A/v_A_g01_c01.avi 1", "A/v_A_g09_c01.avi 1", "")
    write(tmp_path / "testlist01.txt", "A/v_A_g02_c01.avi", "A/v_A_g10_c01.avi")
    write(tmp_path / "trainlist02.txt", "A/v_A_g02_c01.avi 1", "A/v_A_g09_c01.avi 1")
    write(tmp_path / "testlist02.txt", "A/v_A_g10_c01.avi")
    dataset = read_dataset(tmp_path)
    assert dataset.notes == (
        "official lists of split 1, 2 only",
        "2 listed videos are not on disk",
        "1 video in no list: unused",
    )
    assert [video.splits for video in dataset.videos] == [
        {1: "train", 2: "unused"},
        {1: "test", 2: "train"},
        {1: "unused", 2: "unused"},
    ]


def test_ucf101_lone_list_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, UCF)
    write(tmp_path / "testlist02.txt", UCF[0])
    dataset = read_dataset(tmp_path)
    assert dataset.notes == (
        "testlist02.txt has no counterpart: split 2 ignored",
        "no official lists: splits follow from group numbers",
    )
    assert dataset.split_numbers == (1, 2, 3)


def test_ucf101_foreign_names(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, (*UCF, "Archery/intro.mp4")))
    (intro,) = (video for video in dataset.videos if "intro" in video.id)
    assert (intro.label, intro.group) == ("Archery", None)
    assert set(intro.splits.values()) == {"unused"}
    assert dataset.notes[-1] == "1 video not named v_<Class>_g<NN>_c<NN>: unused"


def test_ucf101_by_lists_alone(tmp_path: Path) -> None:
    make(tmp_path, ("x/1.avi", "y/1.avi"))
    write(tmp_path / "trainlist01.txt", "x/1.avi 1")
    write(tmp_path / "testlist01.txt", "y/1.avi")
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "ucf101"
    assert labels(dataset) == {"x/1.avi": "x", "y/1.avi": "y"}
    assert list(parts(dataset).values()) == ["train", "test"]


def test_ucf101_in_one_folder_that_is_no_class(tmp_path: Path) -> None:
    make(
        tmp_path,
        (path.replace("Archery/", "all/").replace("HandstandPushups/", "all/") for path in UCF),
    )
    lists(tmp_path, 1)
    assert read_dataset(tmp_path).labels == ("Archery", "HandstandPushups")


def test_ucf101_lists_with_backslashes_and_short_names(tmp_path: Path) -> None:
    make(tmp_path, UCF)
    write(tmp_path / "TrainList1.txt", *(path.replace("/", "\\") + " 1" for path in UCF[1:]))
    write(tmp_path / "testlist1.TXT", UCF[0].replace("/", "\\"))
    dataset = read_dataset(tmp_path)
    assert list(parts(dataset).values()) == ["test", "train", "train", "train", "train"]
    assert dataset.notes == ("official lists of split 1 only",)


def test_class_list_alone_does_not_make_it_ucf101(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.mp4", "b/2.mp4"))
    write(tmp_path / "lists" / "classInd.txt", "1 a")
    assert read_dataset(tmp_path).layout == "classes"


@pytest.mark.parametrize(
    ("file", "lines", "expected"),
    [
        ("testlist01.txt", (UCF[0], UCF[1]), "testlist01.txt line 2: v_archery_g08_c02 is also"),
        (
            "trainlist01.txt",
            ("Archery/no_suffix 1",),
            "trainlist01.txt line 1: 'Archery/no_suffix'",
        ),
        ("classInd.txt", ("1 Archery", "Bowling"), "classInd.txt line 2: 'Bowling' is not a class"),
        ("trainlist01.txt", ("Nobody/v_Nobody_g01_c01.avi 1",), ""),
    ],
)
def test_ucf101_bad_lists(tmp_path: Path, file: str, lines: tuple[str, ...], expected: str) -> None:
    make(tmp_path, UCF)
    lists(tmp_path, 1)
    write(tmp_path / file, *lines)
    if expected:
        assert expected in message(tmp_path)
    else:
        assert "1 listed video is not on disk" in read_dataset(tmp_path).notes


def test_ucf101_lists_of_something_else(tmp_path: Path) -> None:
    make(tmp_path, UCF)
    write(tmp_path / "trainlist01.txt", "Other/v_Other_g01_c01.avi 1")
    write(tmp_path / "testlist01.txt", "Other/v_Other_g02_c01.avi")
    assert "the lists name none of the 5 videos" in message(tmp_path)


# --- class folders ---------------------------------------------------------------------------


def test_classes_label_is_the_first_folder(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ("a b/1.mp4", "a b/deep/er/2.mp4", "c/3.mp4")))
    assert dataset.layout == "classes"
    assert labels(dataset) == {"a b/1.mp4": "a b", "a b/deep/er/2.mp4": "a b", "c/3.mp4": "c"}
    assert all(video.group is None for video in dataset.videos)
    assert dataset.notes == ("no split given: a quarter of each class held out",)


@pytest.mark.parametrize(
    ("folders", "expected", "notes"),
    [
        (("train", "test"), ["train", "test"], ()),
        (("Train", "TEST"), ["train", "test"], ()),
        (("train", "val"), ["train", "test"], ("no test split: val is used as test",)),
        (("train",), ["train"], ()),
    ],
)
def test_classes_in_split_folders(
    tmp_path: Path, folders: tuple[str, ...], expected: list[str], notes: tuple[str, ...]
) -> None:
    make(tmp_path, (f"{folder}/{c}/deep/1.mp4" for folder in folders for c in "ab"))
    dataset = read_dataset(tmp_path)
    by_folder = {video.id.split("/")[0]: video.splits for video in dataset.videos}
    assert [by_folder[folder] for folder in folders] == [{1: part} for part in expected]
    assert {video.label for video in dataset.videos} == {"a", "b"}
    assert dataset.notes == notes


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert read_dataset(make(tmp_path, ("bus/1.mp4", "train/2.mp4"))).labels == ("bus", "train")


def test_split_folders_beside_others(tmp_path: Path) -> None:
    text = message(make(tmp_path, ("train/a/1.mp4", "test/a/2.mp4", "extra/3.mp4")))
    assert "extra/ is next to split folders (test, train)" in text


@pytest.mark.parametrize("inner", ["", "train/"])
def test_classes_in_a_wrapper(tmp_path: Path, inner: str) -> None:
    dataset = read_dataset(make(tmp_path, (f"videos/{inner}{c}/1.mp4" for c in "ab")))
    assert dataset.labels == ("a", "b")
    assert dataset.videos[0].id == f"videos/{inner}a/1.mp4"
    assert dataset.notes[0] == "class folders found in videos/"


@pytest.mark.parametrize("paths", [("a/1.mp4",), ("a/x/1.mp4",), ("a/x/1.mp4", "a/2.mp4")])
def test_one_class_is_no_wrapper(tmp_path: Path, paths: tuple[str, ...]) -> None:
    dataset = read_dataset(make(tmp_path, paths))
    assert dataset.labels == ("a",)
    assert dataset.notes[-1] == "only one class, a: if it is not a class, use --layout flat"


def test_nothing_to_hold_out(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ("a/1.mp4", "b/1.mp4")))
    assert set(parts(dataset).values()) == {"train"}
    assert dataset.notes == (
        "no split given, and too few videos to hold any out: all videos are for training",
    )


# --- flat ------------------------------------------------------------------------------------


def test_flat_is_unlabelled_train(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, ("b.mp4", "a.mp4", "texts/readme.txt")))
    assert (dataset.layout, dataset.labelled, dataset.labels) == ("flat", False, ())
    assert parts(dataset) == {"a.mp4": "train", "b.mp4": "train"}
    assert dataset.notes == ()


def test_mix_of_top_and_folders(tmp_path: Path) -> None:
    make(tmp_path, ("top.mp4", "a/1.mp4", "a/2.mp4", "b/deep/3.mp4"))
    text = message(tmp_path)
    assert "1 video at the top and 3 in folders" in text
    assert "--layout classes" in text
    assert "--layout flat" in text
    flat = read_dataset(tmp_path, layout="flat")
    assert set(labels(flat).values()) == {None}
    assert set(parts(flat).values()) == {"train"}
    assert len(flat.videos) == 4
    classes = read_dataset(tmp_path, layout="classes")
    assert labels(classes)["top.mp4"] is None
    assert parts(classes)["top.mp4"] == "train"
    assert classes.labels == ("a", "b")


# --- csv -------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_csv_columns_in_any_order(tmp_path: Path, end: str, bom: str) -> None:
    make(tmp_path, ("v/b, c.mp4", "v/a.mp4", "v/d.mp4"))
    table = write(
        tmp_path / "table.csv",
        f"{bom}Split, group,path ,LABEL",
        'test,g1, "v/b, c.mp4",the label',
        "",
        "TRAIN, ,./v//a.mp4, x ",
        ",g2,v/d.mp4,",
        end=end,
    )
    dataset = read_dataset(table)
    assert (dataset.root, dataset.name, dataset.layout) == (tmp_path, "table", "csv")
    assert dataset.videos == (
        Video("v/a.mp4", "v/a.mp4", "x", None, {1: "train"}),
        Video("v/b, c.mp4", "v/b, c.mp4", "the label", "g1", {1: "test"}),
        Video("v/d.mp4", "v/d.mp4", None, "g2", {1: "unused"}),
    )
    assert dataset.notes == ()


@pytest.mark.parametrize(
    ("words", "expected", "notes"),
    [
        (("train", "val"), ["train", "test"], ("no test split: val is used as test",)),
        (
            ("train", "validation", "test"),
            ["train", "unused", "test"],
            ("val is unused: there is a test split",),
        ),
        (("train", "unused", "test"), ["train", "unused", "test"], ()),
        (("test", ""), ["test", "unused"], ()),
    ],
)
def test_csv_split_words(
    tmp_path: Path, words: tuple[str, ...], expected: list[str], notes: tuple[str, ...]
) -> None:
    make(tmp_path, (f"{i}.mp4" for i in range(len(words))))
    table = write(tmp_path / "t.csv", "path,split", *(f"{i}.mp4,{w}" for i, w in enumerate(words)))
    dataset = read_dataset(table)
    assert list(parts(dataset).values()) == expected
    assert dataset.notes == notes


def test_csv_without_split_holds_out_by_group(tmp_path: Path) -> None:
    rows = [f"{g}{i}.mp4,x,{g}" for g in "pqrs" for i in range(3)]
    make(tmp_path, (row.split(",")[0] for row in rows))
    dataset = read_dataset(write(tmp_path / "t.csv", "path,label,group", *rows))
    tested = {video.group for video in dataset.videos if video.splits == {1: "test"}}
    assert tested == {min("pqrs", key=lambda g: hashlib.blake2b(g.encode()).digest())}
    assert sum(part == "test" for part in parts(dataset).values()) == 3
    assert dataset.notes == ("no split given: a quarter of each class held out by group",)


def test_csv_missing_files_stay_out(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4", "folder.mp4/x.txt"))
    lines = ("path,split", "gone.mp4,test", "a.mp4,val", "folder.mp4,train")
    dataset = read_dataset(write(tmp_path / "t.csv", *lines))
    assert parts(dataset) == {"a.mp4": "unused"}  # val, because the table has a test part
    assert dataset.notes[0] == "2 listed videos are not on disk, such as folder.mp4"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), "columns are none; expected: path"),
        (("path,label",), "no video is listed below the header"),
        (("path,lable", "a.mp4,x"), "'lable' may be 'label'"),
        (("filename,class", "a.mp4,x"), "'filename' may be 'path'; 'class' may be 'label'"),
        (("path,path", "a.mp4,a.mp4"), "columns are path,path; expected: path"),
        (("path;label", "a.mp4;x"), "columns are path;label"),
        (("path,label", "a.mp4"), "line 2: 1 cell under a header with 2"),
        (("path,label", "a.mp4,x,y"), "line 2: 3 cells under a header with 2; quote"),
        (("path", "a.mp4", '"b.mp4'), "line 3: not a csv"),
        (("path,label", ",x"), "line 2: the path is empty"),
        (("path", "a.mp4", "../a.mp4"), "line 3: ../a.mp4 is outside the data set"),
        (("path", "/etc/a.mp4"), "line 2: /etc/a.mp4 is outside the data set"),
        (("path", r"C:\a.mp4"), r"line 2: C:\a.mp4 is outside the data set"),
        (("path", "a.mp4", "b.mp4", "./a.mp4"), "line 4: a.mp4 is already listed on line 2"),
        (("path", "a\0.mp4"), "line 2: a cell contains NUL or a line break"),
        (("path,label", 'a.mp4,"x\ny"'), "a cell contains NUL or a line break"),
        (("path,split", "a.mp4,trian"), "line 2: split 'trian' is unknown; use train, val, test"),
        (("path", "x\x1b.mp4"), r"x\x1b.mp4"),
        (("path", "x/no.mp4", "y/no.mp4"), "none of the 2 listed videos is on disk, such as"),
    ],
)
def test_bad_csv(tmp_path: Path, lines: tuple[str, ...], expected: str) -> None:
    make(tmp_path, ("a.mp4", "b.mp4"))
    text = message(write(tmp_path / "t.csv", *lines))
    assert text.startswith(f"{tmp_path}/t.csv")
    assert expected in text


def test_csv_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("path\né.mp4\n".encode("latin-1"))
    assert "t.csv: not UTF-8 (byte 5)" in message(tmp_path / "t.csv")


@pytest.mark.parametrize("link", ["out.mp4", "out/real.mp4", "out/gone.mp4"])
def test_csv_link_that_leads_outside(tmp_path: Path, link: str) -> None:
    outside = make(tmp_path / "set-outside", ("real.mp4",))  # its path begins with the root's
    root = make(tmp_path / "set", ("a.mp4",))
    (root / "out.mp4").symlink_to(outside / "real.mp4")
    (root / "out").symlink_to(outside, target_is_directory=True)
    text = message(write(root / "t.csv", "path", "a.mp4", link))
    assert f"line 3: {link} is a link that leads out of" in text


def test_csv_link_that_stays_inside(tmp_path: Path) -> None:
    root = make(tmp_path / "real", ("deep/a.mp4",))
    (root / "b.mp4").symlink_to(root / "deep" / "a.mp4")
    (root / "alias").symlink_to(root / "deep", target_is_directory=True)
    write(root / "t.csv", "path", "b.mp4", "alias/a.mp4")
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    assert set(labels(read_dataset(tmp_path / "link" / "t.csv"))) == {"b.mp4", "alias/a.mp4"}


# --- hold-out rule ---------------------------------------------------------------------------


def grouped(label: str | None, groups: Iterable[str]) -> list[Video]:
    """Two videos of each group."""
    return [
        Video(path, path, label, group)
        for group in groups
        for path in (f"{label}/{group}_{i}.mp4" for i in range(2))
    ]


@pytest.mark.parametrize(
    ("groups", "tested"),
    [(1, 0), (2, 1), (3, 1), (4, 1), (5, 1), (6, 2), (9, 2), (10, 3), (25, 6), (26, 7)],
)
def test_hold_out_counts(groups: int, tested: int) -> None:
    videos = hold_out(grouped("x", (f"g{i:02d}" for i in range(1, groups + 1))))
    assert len({v.group for v in videos if v.splits[1] == "test"}) == tested
    for group in {v.group for v in videos}:
        assert len({v.splits[1] for v in videos if v.group == group}) == 1


def test_hold_out_by_hand() -> None:
    # First bytes of `printf g1 | b2sum` and so on.
    digests = {"g1": "63", "g2": "61", "g3": "96", "g4": "e0", "g5": "87", "g6": "9f"}
    for name, start in digests.items():
        assert hashlib.blake2b(name.encode()).hexdigest().startswith(start)
    videos = hold_out(grouped("x", digests))
    assert {v.group for v in videos if v.splits == {1: "test"}} == {"g2", "g1"}  # 6 / 4 = 1.5: two


def test_hold_out_does_not_depend_on_order() -> None:
    videos = grouped("x", "abcdefgh") + grouped("y", "abcdef")
    shuffled = random.Random(3).sample(videos, len(videos))
    expected = {video.id: video.splits for video in hold_out(videos)}
    again = hold_out(shuffled)
    assert [video.id for video in again] == [video.id for video in shuffled]
    assert {video.id: video.splits for video in again} == expected
    assert all(not video.splits for video in videos)  # the given ones are left alone


@pytest.mark.parametrize("column", ["path", "label", "group"])
def test_names_longer_than_any_path_are_refused_before_they_reach_a_store(
    tmp_path: Path, column: str
) -> None:
    (tmp_path / "a.mp4").touch()
    cells = {"path": "a.mp4", "label": "Run", "group": "g1"}
    table = tmp_path / "x.csv"

    def read(name: str) -> Dataset:
        table.write_text("path,label,group\n" + ",".join({**cells, column: name}.values()) + "\n")
        return read_dataset(table)

    with pytest.raises(DatasetError) as error:
        read("x" * 4097)
    assert len(str(error.value)) < (1000 if column != "path" else 5000)
    if column != "path":
        assert getattr(read("x" * 4096).videos[0], column) == "x" * 4096
