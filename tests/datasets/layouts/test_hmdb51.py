"""HMDB51's layout, on trees of empty files."""

from pathlib import Path

import pytest

from slic.datasets.videos import Dataset, read_dataset
from tests.datasets.trees import make, message

NAMES = {
    "brush_hair": (
        "April_09_brush_hair_u_nm_np1_ba_goo_0",
        "April_09_brush_hair_u_nm_np1_ba_goo_1",
        "Brushing_Hair_with_Beth_brush_hair_f_cm_np2_le_bad_12",
    ),
    "kick": ("kick__Bruce_Lee_sidekick_kick_f_nm_np1_ri_med_0", "#1_(HD)!_kick_l_cm_np1_fr_med_3"),
    "kick_ball": ("Amazing_Soccer_#2_kick_ball_f_cm_np1_fr_bad_1",),
}
FLAGS = {  # of split 1, 2, 3: 0 unused, 1 train, 2 test
    "April_09_brush_hair_u_nm_np1_ba_goo_0": "210",
    "April_09_brush_hair_u_nm_np1_ba_goo_1": "210",
    "Brushing_Hair_with_Beth_brush_hair_f_cm_np2_le_bad_12": "121",
    "kick__Bruce_Lee_sidekick_kick_f_nm_np1_ri_med_0": "122",
    "#1_(HD)!_kick_l_cm_np1_fr_med_3": "201",
    "Amazing_Soccer_#2_kick_ball_f_cm_np1_fr_bad_1": "110",
}
PART = {"0": "unused", "1": "train", "2": "test"}


def videos(root: Path, *, suffix: str = ".avi") -> Path:
    return make(root, (f"{label}/{name}{suffix}" for label in NAMES for name in NAMES[label]))


def lists(folder: Path, *, splits: str = "123", end: str = "\n", bom: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for label, names in NAMES.items():
        for number in splits:
            text = "".join(f"{name}.avi {FLAGS[name][int(number) - 1]} {end}" for name in names)
            (folder / f"{label}_test_split{number}.txt").write_bytes((bom + text).encode())
    return folder


def check(dataset: Dataset, numbers: str = "123") -> None:
    assert dataset.layout == "hmdb51"
    assert len(dataset.videos) == len(FLAGS)
    for video in dataset.videos:
        name = Path(video.path).name.removesuffix(".avi").removesuffix(".mp4")
        assert video.splits == {int(k): PART[FLAGS[name][int(k) - 1]] for k in numbers}
        assert video.label is not None
        assert name in NAMES[video.label]


@pytest.mark.parametrize(("end", "bom"), [("\n", ""), ("\r\n", ""), ("\n", "\ufeff")])
@pytest.mark.parametrize(
    ("videos_in", "lists_in"),
    [
        ("set/hmdb51_org", "set/testTrainMulti_7030_splits"),
        ("set", "set/test_train_splits"),
        ("set", "set"),
        ("set", "anything beside"),
        ("set/videos", "set/annotations"),
    ],
)
def test_lists_in_and_beside_the_tree(
    tmp_path: Path, videos_in: str, lists_in: str, end: str, bom: str
) -> None:
    videos(tmp_path / videos_in)
    lists(tmp_path / lists_in, end=end, bom=bom)
    dataset = read_dataset(tmp_path / "set")
    check(dataset)
    assert dataset.notes == ()
    assert dataset.labels == ("brush_hair", "kick", "kick_ball")


def test_groups_are_the_titles(tmp_path: Path) -> None:
    lists(videos(tmp_path))
    groups = {Path(v.path).stem: v.group for v in read_dataset(tmp_path).videos}
    assert groups == {
        "April_09_brush_hair_u_nm_np1_ba_goo_0": "April_09",
        "April_09_brush_hair_u_nm_np1_ba_goo_1": "April_09",
        "Brushing_Hair_with_Beth_brush_hair_f_cm_np2_le_bad_12": "Brushing_Hair_with_Beth",
        "kick__Bruce_Lee_sidekick_kick_f_nm_np1_ri_med_0": "kick__Bruce_Lee_sidekick",
        "#1_(HD)!_kick_l_cm_np1_fr_med_3": "#1_(HD)!",
        "Amazing_Soccer_#2_kick_ball_f_cm_np1_fr_bad_1": "Amazing_Soccer_#2",
    }


@pytest.mark.parametrize("name", ["April_09_wave_u_nm_np1_ba_goo_0", "holiday", "kick_0"])
def test_no_group_where_the_name_does_not_say(tmp_path: Path, name: str) -> None:
    make(tmp_path, (f"kick/{name}.avi",))
    (tmp_path / "kick_test_split1.txt").write_text(f"{name}.avi 1\n")
    (video,) = read_dataset(tmp_path).videos
    assert (video.label, video.group, video.splits) == ("kick", None, {1: "train"})


def test_without_lists_titles_are_held_out_together(tmp_path: Path) -> None:
    for title in "abcdefgh":
        make(tmp_path, (f"wave/{title}_wave_f_cm_np1_ba_med_{i}.avi" for i in range(3)))
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "hmdb51"
    assert dataset.notes[0] == "no official lists of HMDB51"
    parts = {g: {v.splits[1] for v in dataset.videos if v.group == g} for g in "abcdefgh"}
    assert all(len(words) == 1 for words in parts.values())
    assert sum(words == {"test"} for words in parts.values()) == 2


def test_lists_of_another_data_set_beside_it_do_not_count(tmp_path: Path) -> None:
    lists(tmp_path / "lists")
    make(tmp_path / "set", ("wave/A_wave_f_cm_np1_ba_med_0.avi",))
    assert read_dataset(tmp_path / "set").notes[0] == "no official lists of HMDB51"


def test_folders_with_spaces_other_case_and_suffix(tmp_path: Path) -> None:
    make(tmp_path, (f"Brush Hair/{name}.mp4" for name in NAMES["brush_hair"]))
    make(tmp_path, (f"KICK/{name}.mp4" for name in NAMES["kick"]))
    make(tmp_path, (f"all/{name}.mp4" for name in NAMES["kick_ball"]))  # found by its name alone
    lists(tmp_path / "lists")
    check(read_dataset(tmp_path))


def test_two_classes_may_have_one_name(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.avi", "b/1.avi", "c/1.avi"))
    (tmp_path / "a_test_split1.txt").write_text("1.avi 1\n")
    (tmp_path / "b_test_split1.txt").write_text("1.avi 2\n")
    dataset = read_dataset(tmp_path)
    assert [v.splits for v in dataset.videos] == [{1: "train"}, {1: "test"}, {1: "unused"}]
    assert [v.label for v in dataset.videos] == ["a", "b", "c"]


def test_missing_and_unlisted_videos_and_lists(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.avi", "a/2.avi", "b/3.avi"))
    (tmp_path / "a_test_split1.txt").write_text("1.avi 1\n\n4.avi 2\n5.avi 0\n")
    (tmp_path / "b_test_split1.txt").write_text("3.avi 2")
    (tmp_path / "a_test_split2.txt").write_text("1.avi\t2\n")
    dataset = read_dataset(tmp_path)
    assert dataset.notes == (
        "split 2: 1 of 2 classes without a list",
        "official lists of split 1, 2 only",
        "2 listed videos are not on disk",
        "1 video in no list, or unused in all: unused",
    )
    assert [v.splits for v in dataset.videos] == [
        {1: "train", 2: "test"},
        {1: "unused", 2: "unused"},
        {1: "test", 2: "unused"},
    ]


def test_the_fullest_folder_of_lists_is_read(tmp_path: Path) -> None:
    lists(videos(tmp_path / "set"), splits="123")
    folder = tmp_path / "set" / "old"
    folder.mkdir()
    (folder / "kick_test_split1.txt").write_text("no line of a list\n")
    check(read_dataset(tmp_path / "set"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.avi 3\n", "line 1: '1.avi 3' cannot be parsed; expected '<name>.avi' and 1 (train)"),
        ("1.avi 1\n1.avi\n", "line 2: '1.avi' cannot be parsed"),
        ("1.avi 1\n1.AVI 2\n", "line 2: 1.AVI is listed above with another number"),
        ("2.avi 1\n", "HMDB51's lists name none of the 1 videos; remove the lists"),
        ("\x1b[31m 5\n", r"\x1b[31m 5"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, expected: str) -> None:
    make(tmp_path, ("a/1.avi",))
    (tmp_path / "a_test_split1.txt").write_text(text)
    assert expected in message(tmp_path)


def test_lists_lead_nowhere(tmp_path: Path) -> None:
    make(tmp_path, ("set/a/1.avi", "2.avi"))
    (tmp_path / "set" / "a_test_split1.txt").write_text("../../2.avi 2\n/etc/passwd 2\n1.avi 1\n")
    dataset = read_dataset(tmp_path / "set")
    assert [(v.path, v.splits) for v in dataset.videos] == [("a/1.avi", {1: "train"})]


def test_layout_that_does_not_fit(tmp_path: Path) -> None:
    assert "pass --layout classes" in message(make(tmp_path, ("a/1.avi",)), "hmdb51")
