"""The JPEG codec, against OpenCV's and Pillow's readers."""

import io
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr
from PIL import Image, JpegImagePlugin

from slic.cache.codec import (
    JpegCodec,
    decode_flow,
    decode_frame,
    encode_flow,
    encode_frame,
)
from slic.errors import DamagedChunk

SIZES = ((48, 64), (27, 33), (1, 1), (8, 8), (9, 7), (128, 171))


def picture(height: int, width: int, *, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth random picture, so that JPEG changes it by a few levels only."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (4, 4, channels)).astype(np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).reshape(
        height, width, channels
    )


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_frame_is_what_other_readers_see(height: int, width: int) -> None:
    frame = picture(height, width)
    data = encode_frame(frame, quality=90)
    out = np.empty_like(frame)
    decode_frame(data, out)

    theirs = cv2.cvtColor(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    # Same bytes; libraries may interpolate the chroma plane differently by rounding.
    assert np.abs(out.astype(int) - theirs).max() <= 3
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGB"
    assert image.size == (width, height)
    assert JpegImagePlugin.get_sampling(image) == 2  # 4:2:0


def test_frame_that_is_not_contiguous() -> None:
    frame = picture(20, 30)
    out = np.empty((20, 30, 3), np.uint8)
    decode_frame(encode_frame(frame[:, ::-1], quality=90), out)
    expected = np.empty_like(out)
    decode_frame(encode_frame(frame[:, ::-1].copy(), quality=90), expected)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_flow_is_one_grey_jpeg_with_u_above_v(height: int, width: int) -> None:
    flow = picture(height, width, channels=2)
    data = encode_flow(flow, quality=95)
    plane = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    rows, columns = -(-height // 8) * 8, -(-width // 8) * 8
    assert plane.shape == (2 * rows, columns)

    out = np.empty_like(flow)
    decode_flow(data, out)
    np.testing.assert_array_equal(out[..., 0], plane[:height, :width])
    np.testing.assert_array_equal(out[..., 1], plane[rows : rows + height, :width])
    assert np.abs(out.astype(int) - flow).max() <= 12


@pytest.mark.parametrize(("height", "width"), [(13, 21), (8, 8), (1, 1)])
def test_flow_components_do_not_bleed_into_each_other(height: int, width: int) -> None:
    flow = np.empty((height, width, 2), np.uint8)
    flow[..., 0], flow[..., 1] = 1, 255
    out = np.empty_like(flow)
    decode_flow(encode_flow(flow, quality=95), out)
    np.testing.assert_array_equal(out, flow)


@pytest.mark.parametrize("data", [b"", b"no JPEG at all", b"\xff\xd8\xff\xe0"])
def test_what_is_no_jpeg_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedChunk, match="not a JPEG"):
        decode_frame(data, np.empty((8, 8, 3), np.uint8))
    with pytest.raises(DamagedChunk, match="not a JPEG"):
        decode_flow(data, np.empty((8, 8, 2), np.uint8))


def test_jpeg_of_another_size_is_damaged() -> None:
    with pytest.raises(DamagedChunk, match="JPEG of 16x24 where 24x16 is expected"):
        decode_frame(encode_frame(picture(16, 24), quality=90), np.empty((24, 16, 3), np.uint8))
    with pytest.raises(DamagedChunk, match="JPEG of 32x24 where 48x16 is expected"):
        decode_flow(
            encode_flow(picture(16, 24, channels=2), quality=90), np.empty((24, 16, 2), np.uint8)
        )


def test_plain_zarr_finds_the_codec_by_its_entry_point(tmp_path: Path) -> None:
    array = zarr.create_array(
        store=tmp_path / "a",
        shape=(1, 8, 8, 3),
        chunks=(1, 8, 8, 3),
        dtype="uint8",
        serializer=JpegCodec(),
        compressors=None,
    )
    array[:] = 77
    script = f"import sys, zarr; print(zarr.open({str(tmp_path / 'a')!r}, mode='r')[0, 3, 5])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[77 77 77]"), done.stderr


@pytest.mark.parametrize(
    ("shape", "chunks", "dtype"),
    [
        ((4, 8, 8, 3), (2, 8, 8, 3), "uint8"),
        ((4, 8, 8, 4), (1, 8, 8, 4), "uint8"),
        ((8, 8, 3), (8, 8, 3), "uint8"),
        ((4, 8, 8, 3), (1, 8, 8, 3), "float32"),
    ],
)
def test_other_chunks_are_refused(
    tmp_path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: str
) -> None:
    array = zarr.create_array(
        store=tmp_path / "a",
        shape=shape,
        chunks=chunks,
        dtype=dtype,
        serializer=JpegCodec(),
        compressors=None,
    )
    with pytest.raises(ValueError, match=r"slic\.jpeg encodes chunks \(1, H, W, 3\)"):
        array[:] = 1
