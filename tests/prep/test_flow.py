"""`prep flow`: what is stored, against TV-L1 of the stored frames and JPEG's own error bound."""

import io
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from PIL import Image

from slic.cache import ClipStore, video_key
from slic.cache.codec import encode_flow
from slic.errors import InputError, StoreError
from slic.prep import flow_video
from slic.prep.flow import prep_flow
from slic.prep.flow_video import to_gray
from slic.prep.frames import prep_frames
from slic.prep.tvl1 import Tvl1Parameters, engine_version, tvl1_flow
from tests.videos import write_video

pytestmark = pytest.mark.usefixtures("serial")

SIZE = (48, 36)
VIDEOS = {"Run/a.avi": 5, "Run/b.avi": 2, "Hop/one.avi": 1}


def write_moving(path: Path, frames: int, *, seed: int) -> None:
    """A patch that moves over a textured ground by 1.5 pixels a frame."""
    rng = np.random.default_rng(seed)
    ground, patch = (
        cv2.resize(rng.integers(0, 256, (9, 12, 3)).astype(np.uint8), SIZE) for _ in range(2)
    )
    pictures = [ground.copy() for _ in range(frames)]
    for number, picture in enumerate(pictures):
        shift = np.float64([[1, 0, 1.5 * number], [0, 1, -number]])
        picture[12:30, 8:32] = cv2.warpAffine(patch, shift, SIZE)[12:30, 8:32]
    write_video(path, pictures, qmin="2", qmax="2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "set"
    for seed, (name, frames) in enumerate(VIDEOS.items()):
        write_moving(root / name, frames, seed=seed)
    return root


@pytest.fixture(scope="module")
def whole(data: Path, serial: None) -> Path:
    """A store with flow, that tests read only."""
    path = data.parent / "whole.zarr"
    result = prep_flow(str(data), store=str(path))
    assert (result.written, result.failed, result.frames) == (3, 0, 5)
    assert any(f"engine {engine_version('cpu')} in " in note for note in result.notes)
    return path


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "own.zarr"))


def levels(path: Path, video: str, *, bound: float) -> np.ndarray:
    """Quantised TV-L1 flow of the stored frames, by the formula written out."""
    frames = zarr.open_array(path / "frames" / video_key(video), mode="r")[:]
    flow = tvl1_flow(to_gray(frames)).astype(np.float64)
    return 128 + np.rint(127 * np.clip(flow / bound, -1, 1))


def stored(path: Path, video: str) -> np.ndarray:
    return zarr.open_array(path / "flow" / video_key(video), mode="r")[:]


# --- what is stored --------------------------------------------------------------------------


def test_lossless_flow_is_the_quantised_flow_of_the_stored_frames(
    data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.zarr"
    prep_flow(str(data), store=str(path), codec="zstd", bound=2.0)
    expected = levels(path, "Run/a.avi", bound=2.0)
    found = stored(path, "Run/a.avi")
    assert found.shape == (4, 36, 48, 2)
    # A float32 quotient may round to the other side of a half level.
    assert np.abs(found - expected).max() <= 1
    assert (found == expected).mean() > 0.999
    assert len(np.unique(found)) > 20  # something moves
    back = (found.astype(float) - 128) * 2.0 / 127
    frames = zarr.open_array(path / "frames" / video_key("Run/a.avi"), mode="r")[:]
    flow = np.clip(tvl1_flow(to_gray(frames)), -2, 2)
    assert np.abs(back - flow).max() <= 2.0 / 127 / 2 * 1.001


def test_jpeg_flow_is_that_within_the_error_of_its_own_quantisation(whole: Path) -> None:
    expected = levels(whole, "Run/a.avi", bound=3.0)
    found = stored(whole, "Run/a.avi").astype(float)
    # JPEG rounds each of a block's 64 coefficients by at most half its table's step; its
    # transform keeps sums of squares; and pixels are rounded once more, in and out.
    jpeg = Image.open(io.BytesIO(encode_flow(expected[0].astype(np.uint8), quality=95)))
    steps = np.array(jpeg.quantization[0], float)
    rms_levels = np.sqrt(np.mean(steps**2)) / 2 + 1
    assert 1 < rms_levels < 5
    for field, wanted in zip(found, expected, strict=True):
        assert np.sqrt(np.mean((field - wanted) ** 2)) <= rms_levels
    assert np.abs(found - expected).mean() < 1.5
    assert np.abs(expected - 128).mean() > 3


def test_default_bound_is_a_twelfth_of_the_short_side_and_attributes_say_all(whole: Path) -> None:
    attributes = dict(zarr.open_array(whole / "flow" / video_key("Run/a.avi"), mode="r").attrs)
    assert attributes == {
        "id": "Run/a.avi",
        "bound": 36 / 12,
        "engine": engine_version("cpu"),
        "parameters": asdict(Tvl1Parameters()),
        "fingerprint": ClipStore(whole).entry("Run/a.avi").flow,
        "crc32c": attributes["crc32c"],
    }
    store = ClipStore(whole)
    assert store.flow_bound("Run/a.avi") == 3.0
    settings = store.settings("flow")
    assert settings is not None
    assert settings["method"] == "tvl1"
    assert settings["bound"] == "short side / 12"
    assert (settings["codec"], settings["quality"]) == ("jpeg", 95)
    assert json.loads((whole / "zarr.json").read_text())["attributes"]["flow"] == settings


def test_video_of_one_frame_has_zero_flow(whole: Path) -> None:
    assert stored(whole, "Hop/one.avi").shape == (0, 36, 48, 2)
    clip = ClipStore(whole).read("Hop/one.avi", 0, 4, view="flow")
    np.testing.assert_array_equal(clip, np.full((4, 36, 48, 2), 128))
    assert ClipStore(whole).flow_bound("Hop/one.avi") == 3.0


def test_flow_in_blocks_is_flow_at_once(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_video, "BLOCK_FRAMES", 2)
    path = tmp_path / "s.zarr"
    prep_flow(str(data), store=str(path))
    np.testing.assert_array_equal(stored(path, "Run/a.avi"), stored(whole, "Run/a.avi"))


def test_gray_is_luma() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]])
    frames = colours.astype(np.uint8).reshape(1, 1, 5, 3)
    # ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B.
    np.testing.assert_array_equal(to_gray(frames), [[[76, 150, 29, 255, 18]]])


# --- again, and otherwise --------------------------------------------------------------------


def test_second_run_does_nothing_on_store_and_data_set(data: Path, own: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in own.rglob("zarr.json")}
    for source, more in ((str(own), {}), (str(data), {"store": str(own)})):
        result = prep_flow(source, **more)
        assert (result.videos, result.written, result.skipped, result.frames) == (3, 0, 3, 0)
        assert not [note for note in result.notes if note.startswith("flow computed")]
    assert {p: p.stat().st_mtime_ns for p in own.rglob("zarr.json")} == before


def test_another_bound_is_refused_and_overwrite_replaces(own: Path) -> None:
    with pytest.raises(StoreError) as caught:
        prep_flow(str(own), bound=2)
    assert str(caught.value) == (
        f"{own}: holds flow with other parameters (bound short side / 12 -> 2.0);"
        " give --overwrite to replace them, or another --store"
    )
    assert ClipStore(own).flow_bound("Run/a.avi") == 3.0
    result = prep_flow(str(own), bound=2, overwrite=True)
    assert (result.written, result.skipped) == (3, 0)
    assert ClipStore(own).flow_bound("Run/a.avi") == 2.0
    wrong = stored(own, "Run/a.avi") - levels(own, "Run/a.avi", bound=2.0)
    assert np.abs(wrong).mean() < 1.5
    assert prep_flow(str(own), bound=2).written == 0


def test_stopped_overwrite_leaves_no_mixture(own: Path) -> None:
    # As if it had been stopped after the first video.
    assert prep_flow(str(own), bound=2, overwrite=True, limit=1).written == 1
    store = ClipStore(own)
    (done,) = (entry.id for entry in store.entries() if entry.flow is not None)
    assert store.flow_bound(done) == 2.0
    for entry in store.entries():
        if entry.id != done:
            with pytest.raises(StoreError, match="has no flow"):
                store.read(entry.id, 0, 1, view="flow")
    assert prep_flow(str(own), bound=2).written == 2  # goes on from there
    assert {ClipStore(own).flow_bound(video) for video in store.ids} == {2.0}


def test_other_parameters_are_refused_before_frames_are_decoded(data: Path, own: Path) -> None:
    root = Path(shutil.copytree(data, own.parent / "more"))
    write_moving(root / "Run" / "new.avi", 3, seed=9)
    with pytest.raises(StoreError, match=r"bound short side / 12 -> 2\.0"):
        prep_flow(str(root), store=str(own), bound=2)
    assert len(ClipStore(own).index.entries()) == 3


@pytest.mark.parametrize(
    ("given", "option"), [({"retry": True}, "--retry"), ({"short_side": 24}, "--short-side")]
)
def test_what_only_a_data_set_can_give_is_refused_of_a_store(
    own: Path, given: dict, option: str
) -> None:
    with pytest.raises(InputError, match=f"is a store: {option} needs the data set"):
        prep_flow(str(own), **given)


@pytest.mark.parametrize("bound", [0, -1, float("nan"), float("inf")])
def test_impossible_bound(own: Path, bound: float) -> None:
    with pytest.raises(InputError, match=r"--bound .*: must be above 0"):
        prep_flow(str(own), bound=bound)


def test_flow_follows_frames_that_are_made_again(data: Path, own: Path) -> None:
    prep_frames(str(data), store=str(own), short_side=24, overwrite=True)
    with pytest.raises(StoreError, match=r"has no flow; run `slic prep flow"):
        ClipStore(own).read("Run/a.avi", 0, 1, view="flow")
    assert prep_flow(str(own)).written == 3
    assert ClipStore(own).read("Run/a.avi", 0, 1, view="flow").shape == (1, 24, 32, 2)
    assert ClipStore(own).flow_bound("Run/a.avi") == 2.0


def test_frame_parameters_of_the_store_are_kept_and_others_refused(
    data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.zarr"
    prep_frames(str(data), store=str(path), short_side=24, limit=1)
    assert prep_flow(str(data), store=str(path)).written == 3
    assert {e.height for e in ClipStore(path).entries()} == {24}
    with pytest.raises(StoreError, match="short_side 24 -> 32"):
        prep_flow(str(data), store=str(path), short_side=32)


# --- what fails ------------------------------------------------------------------------------


def test_damaged_frames_fail_alone_and_say_what_to_do(own: Path) -> None:
    shard = own / "frames" / video_key("Run/a.avi") / "c.0.0.0.0"
    content = bytearray(shard.read_bytes())
    content[100] ^= 4
    shard.write_bytes(content)
    result = prep_flow(str(own), overwrite=True)
    assert (result.written, result.failed, result.new_failures) == (2, 1, 1)
    ((video, reason),) = result.failures
    assert video == "Run/a.avi"
    assert reason.startswith("frames damaged, no flow: ")
    assert "`slic prep frames` again" in reason
    assert "\n" not in reason
