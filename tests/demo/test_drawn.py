"""Drawn videos: determinism, what is shared, the tree on disk, and how hard the set is."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import decord
import numpy as np
import pytest

from slic.demo import drawn
from slic.demo.drawn import draw_dataset, groups_tested
from slic.demo.figures import ACTIONS, CYCLES, Body, Manner, Pose, skeleton_of
from slic.demo.scenes import draw_clip
from slic.errors import DatasetError

SMALL = {"actions": 2, "groups": 3, "clips": 2, "frames": 5, "size": (64, 48)}


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def recall_at_1(features: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> float:
    """Fraction of queries whose most similar gallery item, by cosine, has their label."""
    flat = features.reshape(len(features), -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    nearest = (flat[queries] @ flat[~queries].T).argmax(axis=1)
    return float((labels[~queries][nearest] == labels[queries]).mean())


def thumbnail(picture: np.ndarray) -> np.ndarray:
    return cv2.resize(picture.astype(np.float32), (32, 32), interpolation=cv2.INTER_AREA)


def mean_frame(clip: np.ndarray) -> np.ndarray:
    return thumbnail(clip.mean(axis=0))


def motion_energy(clip: np.ndarray) -> np.ndarray:
    """Mean absolute difference of successive frames, over time and colours."""
    return thumbnail(np.abs(np.diff(clip.astype(np.float32), axis=0)).mean(axis=(0, 3)))


def difficulty(
    describe: Callable[[np.ndarray], np.ndarray], *, groups: int, clips: int, frames: int
) -> float:
    """Recall at 1 of the first 7/25 of the groups among the others."""
    described, labels, queries = [], [], []
    which = itertools.product(ACTIONS, range(1, groups + 1), range(1, clips + 1))
    for action, group, clip in which:
        picture = draw_clip(action, group=group, clip=clip, frames=frames, size=(64, 48))
        described.append(describe(picture))
        labels.append(action)
        queries.append(group in groups_tested(1, groups=groups))
    return recall_at_1(np.stack(described), np.array(labels), np.array(queries))


@pytest.mark.parametrize("size", [(64, 48), (97, 131)])
def test_a_clip_has_the_shape_asked_for(size: tuple[int, int]):
    clip = draw_clip("Kicking", group=1, clip=1, frames=2, size=size)
    assert clip.shape == (2, size[1], size[0], 3)
    assert clip.dtype == np.uint8


@pytest.mark.parametrize("other", [{"group": 3}, {"clip": 2}, {"seed": 1}])
def test_other_arguments_draw_another_clip(other: dict[str, int]):
    settings = {"group": 2, "clip": 3, "seed": 0}
    first = draw_clip("Waving", frames=2, **settings)
    second = draw_clip("Waving", frames=2, **{**settings, **other})
    assert np.abs(first.astype(int) - second).mean() > 2
    np.testing.assert_array_equal(draw_clip("Waving", frames=2, **settings), first)


def test_scene_bias_gives_a_class_its_colour():
    """Background hues of a class gather when all its groups are biased, not when none is."""

    def spread(bias: float) -> float:
        hues = []
        for group in range(1, 16):
            picture = draw_clip("Bowing", group=group, clip=1, frames=1, scene_bias=bias)[0]
            mean = picture[:24].reshape(-1, 3).mean(axis=0)
            hue = cv2.cvtColor(np.uint8([[mean]]), cv2.COLOR_RGB2HSV_FULL)[0, 0, 0]
            hues.append(np.exp(2j * np.pi * hue / 256))
        return 1 - abs(np.mean(hues))  # circular variance

    assert spread(1.0) < 0.2
    assert spread(0.0) > 0.5


@pytest.mark.parametrize("action", ACTIONS)
def test_poses_repeat_after_a_cycle(action: str):
    def numbers(phase: float) -> np.ndarray:
        pose = CYCLES[action](phase, Manner())
        ends = skeleton_of(pose, Body(), foot=(0.0, 0.0), height=1.0)
        return np.concatenate(list(ends.values()))

    np.testing.assert_allclose(numbers(0.7), numbers(0.7 + 2 * math.pi), atol=1e-9)
    assert np.abs(numbers(0.0) - numbers(2.0)).max() > 0.02 or action == "Kicking"


def test_a_skeleton_by_hand():
    """One arm straight up, one straight out to the right and bent upwards at the elbow."""
    body = Body(
        thigh=0.25, shin=0.25, torso=0.3, upper_arm=0.2, forearm=0.1, head=0.08, breadth=0.0
    )
    pose = Pose(
        arms=((math.pi, 0.0), (math.pi / 2, math.pi / 2)),
        legs=((0.0, 0.0), (math.pi / 2, -math.pi / 2)),
        lift=0.1,
    )
    bones = skeleton_of(pose, body, foot=(50.0, 200.0), height=100.0)
    np.testing.assert_allclose(bones["trunk"][0], (50, 140), atol=1e-9)  # 200 - lift 10 - leg 50
    np.testing.assert_allclose(bones["trunk"][1], (50, 110), atol=1e-9)
    np.testing.assert_allclose(bones["head"][0], (50, 100), atol=1e-9)  # torso + head + 0.02 up
    np.testing.assert_allclose(bones["arm0"], [(50, 110), (50, 90), (50, 80)], atol=1e-9)
    np.testing.assert_allclose(bones["arm1"], [(50, 110), (70, 110), (70, 100)], atol=1e-9)
    np.testing.assert_allclose(bones["leg1"], [(50, 140), (75, 140), (75, 165)], atol=1e-9)


def test_tree_and_lists_are_ucf101s(tmp_path: Path):
    assert draw_dataset(tmp_path / "set", **SMALL) == 12
    videos = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.avi"))
    assert len(videos) == 12
    assert videos[0] == "set/UCF-101/ArmCircles/v_ArmCircles_g01_c01.avi"
    folder = tmp_path / "set" / "ucfTrainTestlist"
    assert (folder / "classInd.txt").read_text() == "1 ArmCircles\n2 Bowing\n"
    test = (folder / "testlist02.txt").read_text().splitlines()
    train = (folder / "trainlist02.txt").read_text().splitlines()
    assert test == [f"{a}/v_{a}_g02_c0{c}.avi" for a in ("ArmCircles", "Bowing") for c in (1, 2)]
    assert train[0] == "ArmCircles/v_ArmCircles_g01_c01.avi 1"
    assert train[-1] == "Bowing/v_Bowing_g03_c02.avi 2"
    assert len(train) == 8


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (25, [tuple(range(first, first + 7)) for first in (1, 8, 15)]),
        (2, [(1,), (2,), (1,)]),
        (3, [(1,), (2,), (3,)]),
        (8, [(1, 2), (3, 4), (5, 6)]),
        (6, [(1, 2), (3, 4), (5, 6)]),
    ],
)
def test_fewer_groups_make_smaller_blocks(groups: int, expected: list[tuple[int, ...]]):
    assert [groups_tested(k, groups=groups) for k in (1, 2, 3)] == expected


def test_videos_decode_to_what_was_drawn(tmp_path: Path):
    settings = {"frames": 9, "scene_bias": 1.0, "seed": 5}
    draw_dataset(tmp_path / "set", actions=1, groups=2, clips=1, fps=12.5, **settings)
    path = tmp_path / "set/UCF-101/ArmCircles/v_ArmCircles_g02_c01.avi"
    expected = draw_clip("ArmCircles", group=2, clip=1, **settings)
    by_av = decoded(path)
    reader = decord.VideoReader(str(path))
    by_decord = reader.get_batch(range(len(reader))).asnumpy()
    assert by_av.shape == by_decord.shape == expected.shape
    assert reader.get_avg_fps() == 12.5
    for pictures in (by_av, by_decord):
        assert np.abs(pictures.astype(int) - expected).mean() < 6  # of 255: codec and 4:2:0
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.codec_tag) == ("mpeg4", "XVID")


def test_an_interrupted_set_is_continued(tmp_path: Path):
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_dataset(tmp_path / "set", **SMALL, on_video=stop)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.avi")}
    assert len(before) == 5
    assert draw_dataset(tmp_path / "set", **SMALL, on_video=lambda: calls.append(1)) == 12
    assert len(calls) == 5 + 12
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_a_broken_write_leaves_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*arguments: object, **settings: object):
        yield np.zeros((48, 64, 3), np.uint8)
        raise OSError("disk full")

    monkeypatch.setattr(drawn, "iterate_clip", broken)
    with pytest.raises(OSError, match="disk full"):
        draw_dataset(tmp_path / "set", **SMALL)
    left = [p for p in (tmp_path / "set" / "UCF-101").rglob("*") if p.is_file()]
    assert left == []


def test_another_set_is_not_overwritten(tmp_path: Path):
    draw_dataset(tmp_path / "set", **SMALL)
    with pytest.raises(DatasetError, match=r"set: was generated with seed 0, not 4; remove it or"):
        draw_dataset(tmp_path / "set", **SMALL, seed=4)
    (tmp_path / "set" / "drawn.json").write_text("not json")
    with pytest.raises(DatasetError, match=r"drawn\.json"):
        draw_dataset(tmp_path / "set", **SMALL)


def test_other_content_is_not_mixed_with(tmp_path: Path):
    (tmp_path / "holiday.avi").write_bytes(b"mine")
    with pytest.raises(DatasetError, match="is not empty"):
        draw_dataset(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.avi"]


@pytest.mark.slow
def test_the_class_is_in_the_motion():
    """A smaller set than the demo's, so that the bounds are wide; chance is 0.1."""
    sizes = {"groups": 11, "clips": 2, "frames": 16}
    assert difficulty(mean_frame, **sizes) <= 0.45
    assert difficulty(motion_energy, **sizes) >= 0.8
