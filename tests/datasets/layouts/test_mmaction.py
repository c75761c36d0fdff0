"""mmaction2's lists, on trees of empty files."""

from pathlib import Path

import pytest

from slic.datasets.videos import Video, read_dataset
from tests.datasets.trees import make, message, write


@pytest.mark.parametrize(("end", "bom"), [("\n", ""), ("\r\n", "\ufeff")])
@pytest.mark.parametrize("base", ["", "videos/"])
@pytest.mark.parametrize(
    "given", ["ucf101_train_split_1_videos.txt", "ucf101_val_split_2_videos.txt"]
)
def test_lists_of_one_name(tmp_path: Path, base: str, given: str, end: str, bom: str) -> None:
    root = make(tmp_path / "ucf101", (f"{base}{p}" for p in ("a b/1.mp4", "c/2.avi", "c/3.avi")))
    for name, lines in {
        "ucf101_train_split_1_videos.txt": ("a b/1.mp4 0", "c/2.avi 12"),
        "ucf101_val_split_1_videos.txt": ("c/3.avi 12", ""),
        "ucf101_train_split_2_videos.txt": ("c/3.avi 12",),
        "ucf101_val_split_2_videos.txt": ("a b/1.mp4 0", "gone/4.avi 3"),
        "ucf101_train_split_1_rawframes.txt": ("another form 1 2",),
        "kinetics_train_split_1_videos.txt": ("nothing",),
    }.items():
        write(root / name, *lines, end=end, bom=bom)
    dataset = read_dataset(root / given)
    assert (dataset.layout, dataset.root, dataset.name) == ("mmaction", root, "ucf101")
    assert not dataset.of_images
    assert [(v.id, v.label, v.splits) for v in dataset.videos] == [
        (f"{base}a b/1.mp4", "0", {1: "train", 2: "test"}),
        (f"{base}c/2.avi", "12", {1: "train", 2: "unused"}),
        (f"{base}c/3.avi", "12", {1: "test", 2: "train"}),
    ]
    assert dataset.notes == (
        "1 listed video is not on disk",
        "no test split: val is used as test",
        "no label_map.txt in the folder of the list: classes are numbers",
    )


def test_kinetics_tree_with_label_map(tmp_path: Path) -> None:
    root = make(tmp_path / "k400", ("videos_train/-a.mp4", "videos_val/x y/_b.mp4"))
    write(root / "kinetics400_train_list_videos.txt", "-a.mp4 1")
    write(root / "kinetics400_val_list_videos.txt", "x y/_b.mp4 0")
    write(root / "label_map_k400.txt", "air drumming", "zumba", end="\r\n")
    assert read_dataset(root / "kinetics400_train_list_videos.txt").videos == (
        Video("videos_train/-a.mp4", "videos_train/-a.mp4", "zumba", None, {1: "train"}),
        Video("videos_val/x y/_b.mp4", "videos_val/x y/_b.mp4", "air drumming", None, {1: "test"}),
    )


def test_lists_in_a_folder_of_their_own(tmp_path: Path) -> None:
    make(tmp_path / "set", ("videos/a/1.mp4",))
    dataset = read_dataset(write(tmp_path / "set/annotations/train.txt", "a/1.mp4 7"))
    assert (dataset.root, dataset.name) == (tmp_path / "set", "set")
    assert [(v.id, v.label) for v in dataset.videos] == [("videos/a/1.mp4", "7")]


def test_test_lists_leave_val_unused(tmp_path: Path) -> None:
    make(tmp_path, ("1.mp4", "2.mp4", "3.mp4"))
    for number, word in enumerate(("train", "val", "test"), start=1):
        write(tmp_path / f"{word}.txt", f"{number}.mp4 0")
    dataset = read_dataset(tmp_path / "val.txt")
    assert [v.splits for v in dataset.videos] == [{1: "train"}, {1: "unused"}, {1: "test"}]


def test_rawframes_have_their_flow_beside_them(tmp_path: Path) -> None:
    root, names = tmp_path / "set", ("brush hair/a.b 1", "run/2")
    sides = [f"{prefix}_{n:05d}.jpg" for prefix in ("img", "flow_x", "flow_y") for n in (1, 2, 3)]
    make(root, (f"rawframes/{name}/{side}" for name in names for side in sides))
    listed = root / "x_train_split_1_rawframes.txt"
    dataset = read_dataset(write(listed, "brush hair/a.b 1 3 0", "run/2 3 1"))
    assert dataset.of_images
    assert [(v.id, v.label) for v in dataset.videos] == [
        ("rawframes/brush hair/a.b 1", "0"),
        ("rawframes/run/2", "1"),
    ]
    assert all(v.flow == (v.id, v.id) for v in dataset.videos)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (("a.mp4",), "line 1: 'a.mp4' cannot be parsed; expected '<video> <class number>'"),
        (("a.mp4 x",), "line 1: 'a.mp4 x' cannot be parsed"),
        (("b 12",), "line 1: 'b 12' cannot be parsed"),
        (("a.mp4 0", "a.mp4 0"), "line 2: a.mp4 is already listed on line 1"),
        (("../a.mp4 0",), "line 1: ../a.mp4 is outside the data set"),
        (("/etc/a.mp4 0",), "line 1: /etc/a.mp4 is outside the data set"),
        (("no.mp4 0",), "none of the listed videos is on disk"),
        (("", " "), "no video is listed"),
        (("a.mp4 3",), "line 1: class 3, where the label map has 2 lines"),
    ],
)
def test_bad_lists(tmp_path: Path, lines: tuple[str, ...], expected: str) -> None:
    make(tmp_path, ("a.mp4",))
    write(tmp_path / "label_map.txt", "x", "y")
    text = message(write(tmp_path / "train.txt", *lines))
    assert text.startswith(f"{tmp_path}/train.txt")
    assert expected in text


def test_more_that_is_wrong(tmp_path: Path) -> None:
    make(tmp_path, ("a.mp4",))
    train = write(tmp_path / "s_train.txt", "a.mp4 0")
    unnamed = write(tmp_path / "list.txt", "a.mp4 0")
    assert "contains neither train, val nor test" in message(unnamed)
    assert "give one of the lists" in message(tmp_path, "mmaction")
    write(tmp_path / "s_val.txt", "a.mp4 0")
    assert "s_val.txt line 1: a.mp4 is in another list" in message(train)
    (tmp_path / "s_val.txt").write_bytes(b"\xff.mp4 0\n")
    assert "s_val.txt: not UTF-8" in message(train)
    (tmp_path / "s_val.txt").unlink()
    write(tmp_path / "label_map.txt", "x")
    write(tmp_path / "label_map_2.txt", "x")
    assert "2 label maps, such as label_map.txt and label_map_2.txt" in message(train)


def test_link_that_leads_outside(tmp_path: Path) -> None:
    make(tmp_path / "far", ("b.mp4",))
    root = make(tmp_path / "set", ("a.mp4",))
    (root / "out").symlink_to(tmp_path / "far", target_is_directory=True)
    text = message(write(root / "train.txt", "a.mp4 0", "out/b.mp4 1"))
    assert "line 2: out/b.mp4 is a link that leads out of the list's folder" in text
