"""Flow images into a store, against the linear rule worked out pixel by pixel."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slic.cache import ClipStore
from slic.errors import DatasetError, InputError, StoreError
from slic.prep.check import check_flow
from slic.prep.flow import prep_flow
from slic.prep.flow_import import flow_pixels
from slic.prep.store import PrepResult

pytestmark = pytest.mark.usefixtures("serial")


def write(folder: Path, form: str, pictures: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        Image.fromarray(picture).save(folder / form.format(number))


def levels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def tree(
    root: Path, *, frames: int = 4, size: tuple[int, int] = (20, 30), flows: int | None = None
) -> np.ndarray:
    """Frames and flow of one video, flow_x beside the frames; its levels (T-1, H, W, 2)."""
    write(root / "run/a", "img_{:05d}.png", levels(frames, *size, 3, seed=9))
    flow = levels(frames - 1 if flows is None else flows, *size, 2)
    write(root / "run/a", "flow_x_{:05d}.png", flow[..., 0])
    write(root / "run/a", "flow_y_{:05d}.png", flow[..., 1])
    return flow


def imported(root: Path, store: Path, *, bound: float | None = 20.0, **more: object) -> PrepResult:
    return prep_flow(str(root), store=str(store), engine="imported", bound=bound, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "size", "bound"), [(2, (20, 30), 3.5), (4, (9, 31), 20.0), (19, (33, 12), 20.0)]
)
def test_linear_rule(tmp_path: Path, frames: int, size: tuple[int, int], bound: float) -> None:
    flow = tree(tmp_path / "set", frames=frames, size=size)
    result = imported(tmp_path / "set", tmp_path / "s.zarr", bound=bound, codec="zstd")
    assert (result.written, result.failed) == (1, 0)
    store = ClipStore(tmp_path / "s.zarr")
    stored = store.read("run/a", 0, frames - 1, view="flow")
    # Level 0 is -bound and 255 is bound; half a level of the store is lost by rounding.
    pixels = (flow.astype(np.float64) / 255 * 2 - 1) * bound
    assert np.abs(store.read_flow("run/a", 0, frames - 1) - pixels).max() <= bound / 254 * 1.001
    assert set(stored[(flow == 127) | (flow == 128)].ravel().tolist()) <= {128}
    assert stored.min() >= 1
    assert store.flow_bound("run/a") == bound
    assert store.flow_attributes("run/a")["engine"] == "imported"
    assert store.settings("flow") == {"method": "imported", "bound": bound, "codec": "zstd"}
    assert imported(tmp_path / "set", tmp_path / "s.zarr", bound=bound).skipped == 1


@pytest.mark.parametrize("height", [16, 40])
def test_flow_is_scaled_with_the_frames(tmp_path: Path, height: int) -> None:
    """A constant flow of (5, -10) px at 40x80 is half of it in frames of 20x40."""
    root = tmp_path / "set"
    write(root / "run/a", "img_{:05d}.png", levels(3, 40, 80, 3))
    u, v = (round(127.5 + 127.5 * pixels * height / 40 / 20) for pixels in (5, -10))
    flow = np.full((2, height, 2 * height, 2), (u, v), np.uint8)
    write(root / "u/run/a", "{}.png", flow[..., 0])
    write(root / "v/run/a", "{}.png", flow[..., 1])
    imported(root, tmp_path / "s.zarr", short_side=20, codec="zstd")
    store = ClipStore(tmp_path / "s.zarr")
    found = store.read_flow("run/a", 0, 2)
    assert found.shape == (2, 20, 40, 2)
    assert np.abs(found - (2.5, -5.0)).max() < 0.15 * 20 / height
    assert store.flow_bound("run/a") == pytest.approx(20 * 20 / height)


def test_sides_that_shrink_differently() -> None:
    field = levels(3, 12, 30, 2)
    found = flow_pixels(field, (6, 10), bound=20.0)
    pixels = (field.astype(np.float64) - 127.5) / 127.5 * 20
    blocks = pixels.reshape(3, 6, 2, 10, 3, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(found, blocks * (10 / 30, 6 / 12), atol=1e-4)


def test_as_many_flow_images_as_frames(tmp_path: Path) -> None:
    flow = tree(tmp_path / "set", frames=4, flows=4)
    assert imported(tmp_path / "set", tmp_path / "s.zarr", codec="zstd").written == 1
    stored = ClipStore(tmp_path / "s.zarr").read_flow("run/a", 0, 3)
    assert np.abs(stored - (flow[:3].astype(float) - 127.5) / 127.5 * 20).max() < 0.09


def test_video_of_one_frame_has_no_flow_to_import(tmp_path: Path) -> None:
    tree(tmp_path / "set")
    write(tmp_path / "set/run/still", "img_{:05d}.png", levels(1, 8, 9, 3))
    assert imported(tmp_path / "set", tmp_path / "s.zarr").written == 2
    assert not ClipStore(tmp_path / "s.zarr").read_flow("run/still", 0, 3).any()


def test_one_reason_for_each_bad_video_and_the_others_go_on(tmp_path: Path) -> None:
    root = tmp_path / "set"
    tree(root)
    for name in ("none", "unequal", "gap", "short", "mixed", "cut", "no_v"):
        shutil.copytree(root / "run/a", root / "run" / name)
    for name in ("none", "short"):
        for image in (root / "run" / name).glob("flow_*"):
            if name == "none" or "00001" not in image.name:
                image.unlink()
    (root / "run/unequal/flow_y_00003.png").unlink()
    (root / "run/gap/flow_x_00002.png").unlink()
    Image.new("L", (8, 8)).save(root / "run/mixed/flow_y_00002.png")
    data = (root / "run/cut/flow_x_00001.png").read_bytes()
    (root / "run/cut/flow_x_00001.png").write_bytes(data[: len(data) // 2])
    for image in (root / "run/no_v").glob("flow_y_*"):
        image.unlink()
    path = tmp_path / "s.zarr"
    result = imported(root, path)
    assert (result.written, result.failed, result.new_failures) == (1, 7, 7)
    reasons = dict(result.failures)
    expected = {
        "run/none": "no flow: no flow images",
        "run/unequal": "no flow: 3 images of u and 2 of v",
        "run/gap": "no flow: run/gap: image of u number 2 is missing: the next is flow_x_00003.png",
        "run/short": "no flow: 1 flow images for 4 frames: expected 3",
        "run/mixed": "no flow: images: flow_y_00002.png is 8x8, but the images before it 30x20",
        "run/cut": "no flow: images: flow_x_00001.png does not decode as an image, or is too large",
        "run/no_v": "no flow: run/no_v: no numbered image of v",
    }
    assert reasons == expected
    assert {e.id for e in ClipStore(path).entries() if e.flow} == {"run/a"}
    assert len(ClipStore(path).entries()) == 8  # their frames are there
    shutil.copy(root / "run/a/flow_y_00003.png", root / "run/unequal/flow_y_00003.png")
    assert imported(root, path).written == 1


def test_folder_of_v_is_missing(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for folder in ("rgb/a/1", "rgb/a/2", "u/1", "v/1", "u/2"):
        write(root / folder, "{}.png", levels(2 if "rgb" in folder else 1, 8, 8, 3)[..., 0])
    result = imported(root, tmp_path / "s.zarr")
    assert dict(result.failures) == {"rgb/a/2": "no flow: no folder v/2"}
    assert result.written == 1


def test_changed_images_and_bounds(tmp_path: Path) -> None:
    root, path = tmp_path / "set", tmp_path / "s.zarr"
    tree(root)
    shutil.copytree(root / "run/a", root / "run/b")
    assert imported(root, path).written == 2
    Image.new("L", (30, 20)).save(root / "run/b/flow_x_00002.png")
    assert (imported(root, path).written, imported(root, path).written) == (1, 0)
    with pytest.raises(StoreError, match=r"bound 20\.0 -> 5\.0"):
        imported(root, path, bound=5.0)
    assert imported(root, path, bound=5.0, overwrite=True, limit=1).written == 1
    assert sum(e.flow is not None for e in ClipStore(path).entries()) == 1  # no mixture
    assert imported(root, path, bound=5.0).written == 1
    with pytest.raises(StoreError, match="method imported -> tvl1"):
        prep_flow(str(root), store=str(path), engine="cpu")
    with pytest.raises(StoreError, match="its flow was imported"):
        check_flow(str(path), pairs=1)


def test_what_cannot_be_imported(tmp_path: Path, drawn: Path, drawn_store: Path) -> None:
    tree(tmp_path / "set")
    for arguments, error, said in (
        ({"bound": None}, InputError, "--bound what level 255"),
        ({"bound": -1.0}, InputError, "must be above 0"),
        ({"parameters": {"nscales": 2}}, InputError, "do not apply to imported flow"),
        ({"device": "cuda"}, InputError, "do not apply to imported flow"),
    ):
        with pytest.raises(error, match=said):
            imported(tmp_path / "set", tmp_path / "s.zarr", **arguments)
    with pytest.raises(InputError, match="is a store"):
        prep_flow(str(drawn_store), engine="imported", bound=20.0)
    with pytest.raises(DatasetError, match="no flow images"):
        imported(drawn, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()
