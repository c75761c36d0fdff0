"""Trees of images, recognised by their names alone."""

from pathlib import Path

import pytest

from slic.datasets.videos import Dataset, read_dataset
from tests.datasets.trees import make, message


def images(*folders: str, form: str = "image_{:05d}.jpg", count: int = 3) -> list[str]:
    return [f"{folder}/{form.format(n)}" for folder in folders for n in range(1, count + 1)]


def labels(dataset: Dataset) -> dict[str, str | None]:
    assert (dataset.layout, dataset.of_images) == ("images", True)
    return {video.id: video.label for video in dataset.videos}


def flows(dataset: Dataset) -> dict[str, tuple[str, str] | None]:
    return {video.id: video.flow for video in dataset.videos}


def test_class_folders(tmp_path: Path) -> None:
    make(tmp_path, images("brush hair/v 1", "brush hair/v.2", "fall_floor/-x"))
    dataset = read_dataset(tmp_path)
    assert labels(dataset) == {
        "brush hair/v 1": "brush hair",
        "brush hair/v.2": "brush hair",
        "fall_floor/-x": "fall_floor",
    }
    assert {v.path for v in dataset.videos} == set(labels(dataset))
    assert set(flows(dataset).values()) == {None}
    assert read_dataset(tmp_path, layout="images") == dataset


def test_split_folders_and_a_folder_around(tmp_path: Path) -> None:
    make(tmp_path, images("rawframes/train/a/1", "rawframes/val/a/2"))
    dataset = read_dataset(tmp_path)
    assert [(v.label, v.splits) for v in dataset.videos] == [
        ("a", {1: "train"}),
        ("a", {1: "test"}),
    ]


def test_flat(tmp_path: Path) -> None:
    dataset = read_dataset(make(tmp_path, images("1", "2")))
    assert labels(dataset) == {"1": None, "2": None}


@pytest.mark.parametrize("inner", ["", "jpegs_256/", "frames/{label}/"])
def test_ucf101_by_names_and_lists(tmp_path: Path, inner: str) -> None:
    names = ("v_Archery_g01_c01", "v_Archery_g09_c02", "v_Bowling_g20_c01")
    paths = [inner.format(label=name.split("_")[1]) + name for name in names]
    make(tmp_path / "set", images(*paths, form="frame{:06d}.jpg"))
    dataset = read_dataset(tmp_path / "set")
    assert labels(dataset) == dict(zip(paths, ("Archery", "Archery", "Bowling"), strict=True))
    assert [v.group for v in dataset.videos] == ["g01", "g09", "g20"]
    assert [v.splits[1] for v in dataset.videos] == ["test", "train", "train"]
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "trainlist01.txt").write_text(f"Archery/{names[0]}.avi 1\nBowling/{names[2]}.avi 2\n")
    (lists / "testlist01.txt").write_text(f"Archery/{names[1]}.avi\n")
    listed = read_dataset(tmp_path / "set")
    assert [v.splits for v in listed.videos] == [{1: "train"}, {1: "test"}, {1: "train"}]


def test_hmdb51_and_kinetics(tmp_path: Path) -> None:
    name = "A.B_wave_f_cm_np1_ba_med_0"
    make(tmp_path / "h", images(f"wave/{name}"))
    (tmp_path / "h" / "wave_test_split2.txt").write_text(f"{name}.avi 2\n")
    (video,) = read_dataset(tmp_path / "h").videos
    assert (video.label, video.group, video.splits) == ("wave", "A.B", {2: "test"})
    make(tmp_path / "k", images("train/-a_000001_000011"))
    rows = "label,youtube_id,time_start,time_end,split\nrun fast,-a,1,11,train\n"
    (tmp_path / "k" / "train.csv").write_text(rows)
    (video,) = read_dataset(tmp_path / "k").videos
    assert (video.label, video.splits) == ("run fast", {1: "train"})


# --- flow ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"), [("flow_x_{:05d}.jpg", "flow_y_{:05d}.jpg"), ("x{}.png", "y{}.png")]
)
def test_flow_beside_the_frames(tmp_path: Path, x: str, y: str) -> None:
    make(tmp_path, images("a/1", "a/2"))
    make(tmp_path, [*images("a/1", form=x, count=2), *images("a/1", form=y, count=2)])
    assert flows(read_dataset(tmp_path)) == {"a/1": ("a/1", "a/1"), "a/2": None}


@pytest.mark.parametrize("frames", ["", "frames/", "jpegs_256/"])
@pytest.mark.parametrize("flow", ["", "tvl1_flow/"])
@pytest.mark.parametrize("below", ["{label}/{name}", "{name}"])
def test_flow_in_folders_u_and_v(tmp_path: Path, frames: str, flow: str, below: str) -> None:
    expected = {}
    for label, name in (("a", "v1"), ("a", "v2"), ("b", "v3")):
        end = below.format(label=label, name=name)
        video = f"{frames}{label}/{name}"
        expected[video] = (f"{flow}u/{end}", f"{flow}v/{end}")
        make(tmp_path, images(video, *expected[video]))
    make(tmp_path, images(f"{frames}b/v4"))
    dataset = read_dataset(tmp_path)
    assert flows(dataset) == expected | {f"{frames}b/v4": None}
    assert dataset.labels == ("a", "b")


def test_flow_inside_the_folder_of_the_video(tmp_path: Path) -> None:
    make(tmp_path, images("a/1", "a/1/u", "a/1/v"))
    assert flows(read_dataset(tmp_path)) == {"a/1": ("a/1/u", "a/1/v")}


def test_classes_may_be_called_u_and_v(tmp_path: Path) -> None:
    make(tmp_path, images(*(f"{letter}/clip{n}" for letter in "stuvw" for n in (1, 2))))
    dataset = read_dataset(tmp_path)
    assert dataset.labels == ("s", "t", "u", "v", "w")
    assert len(dataset.videos) == 10
    make(tmp_path / "two", images("u/1", "v/1"))
    assert read_dataset(tmp_path / "two").labels == ("u", "v")


def test_flow_without_frames_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, images("rgb/a/1", "u/a/1", "v/a/1", "u/a/2", "v/a/2"))
    make(tmp_path, images("rgb/a/3", form="flow_x_{:05d}.jpg"))
    dataset = read_dataset(tmp_path)
    assert flows(dataset) == {"rgb/a/1": ("u/a/1", "v/a/1")}
    assert "3 folders of flow without frames ignored" in dataset.notes


# --- images that are no videos ---------------------------------------------------------------


def test_thumbnails_beside_videos(tmp_path: Path) -> None:
    make(tmp_path, ("a/1.mp4", "a/2.mp4", "b/3.mp4", "a/thumb_001.jpg", "a/thumb_002.jpg"))
    dataset = read_dataset(tmp_path)
    assert (dataset.layout, dataset.of_images) == ("classes", False)
    assert [v.id for v in dataset.videos] == ["a/1.mp4", "a/2.mp4", "b/3.mp4"]
    assert not any("images" in note for note in dataset.notes)
    assert "no folder of numbered images" in message(tmp_path, "images")


def test_thumbnails_beside_folders_of_images(tmp_path: Path) -> None:
    make(tmp_path, images("a/1", "a/2", "b/1"))
    make(tmp_path, ("a/thumb_001.jpg", "a/thumb_002.jpg", "cover_1.png"))
    assert set(labels(read_dataset(tmp_path))) == {"a/1", "a/2", "b/1"}


def test_videos_and_folders_of_images(tmp_path: Path) -> None:
    make(tmp_path, images("rawframes/a/1", "rawframes/b/2"))
    make(tmp_path, ("videos/a/1.mp4", "videos/b/2.mp4"))
    dataset = read_dataset(tmp_path)
    assert [v.id for v in dataset.videos] == ["videos/a/1.mp4", "videos/b/2.mp4"]
    assert "2 folders of images ignored: see --layout images" in dataset.notes
    taken = read_dataset(tmp_path, layout="images")
    assert labels(taken) == {"rawframes/a/1": "a", "rawframes/b/2": "b"}
    assert "2 video files ignored: layout images" in taken.notes


def test_the_images_of_one_video(tmp_path: Path) -> None:
    make(tmp_path, images("."))
    assert "holds the images of one video; give its parent folder" in message(tmp_path)


def test_images_without_numbers(tmp_path: Path) -> None:
    assert "no video in this folder" in message(make(tmp_path, ("a/cover.jpg",)))


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside", images("far"))
    root = make(tmp_path / "set", images("a/1"))
    (root / "a" / "2").symlink_to(outside / "far", target_is_directory=True)
    dataset = read_dataset(root)
    assert list(labels(dataset)) == ["a/1"]
    assert dataset.notes[0] == "1 link to folders not followed"
