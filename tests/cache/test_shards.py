"""Writing and reading one array, with Zarr itself as the reference."""

import struct
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

import slic.cache.shards as shards
from slic.cache.codec import JpegCodec, decode_flow, decode_frame, encode_flow, encode_frame
from slic.cache.metadata import CHECKSUM
from slic.cache.shards import ArrayReader, ArrayWriter, Codec, CodecName
from slic.errors import DamagedChunk

CODECS: dict[CodecName, Codec] = {"jpeg": Codec("jpeg", quality=90), "zstd": Codec("zstd", 0)}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write(folder: Path, data: np.ndarray, *, codec: CodecName = "jpeg") -> Path:
    writer = ArrayWriter(folder, CODECS[codec])
    for frame in data:
        writer.append(frame)
    writer.close({"id": "v"}, empty_shape=data.shape[1:])
    assert writer.count == len(data)
    return folder


def coded(data: np.ndarray) -> np.ndarray:
    """What JPEG makes of each frame, one by one."""
    out = np.empty_like(data)
    rgb = data.shape[-1] == 3
    encode, decode = (encode_frame, decode_frame) if rgb else (encode_flow, decode_flow)
    for frame, target in zip(data, out, strict=True):
        decode(encode(frame, quality=90), target)
    return out


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
@pytest.mark.parametrize("channels", [3, 2])
@pytest.mark.parametrize(
    ("frames", "height", "width", "per_shard"),
    [(7, 24, 32, 4096), (1, 27, 33, 4096), (7, 13, 21, 3), (6, 9, 7, 3), (5, 1, 1, 1)],
)
def test_zarr_and_reader_see_the_same_pixels(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    codec: CodecName,
    channels: int,
    frames: int,
    height: int,
    width: int,
    per_shard: int,
) -> None:
    monkeypatch.setattr(shards, "SHARD_FRAMES", per_shard)
    data = noise(frames, height, width, channels)
    folder = write(tmp_path / "a", data, codec=codec)
    expected = data if codec == "zstd" else coded(data)

    array = zarr.open_array(folder, mode="r")
    assert array.shape == data.shape
    assert array.chunks == (1, height, width, channels)
    np.testing.assert_array_equal(array[:], expected)
    reader = ArrayReader(folder)
    assert reader.shape == data.shape
    assert (
        reader.attributes == {"id": "v"} == {k: v for k, v in array.attrs.items() if k != CHECKSUM}
    )
    np.testing.assert_array_equal(reader.read(np.arange(frames)), expected)
    # Any order, repeats, across shards.
    order = np.random.default_rng(1).integers(0, frames, 11)
    np.testing.assert_array_equal(reader.read(order), expected[order])

    count = -(-frames // per_shard)
    names = {f"c.{n}.0.0.0" for n in range(count)} | {"zarr.json"}
    assert {item.name for item in folder.iterdir()} == names


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_array_without_frames(tmp_path: Path, codec: CodecName) -> None:
    folder = write(tmp_path / "a", np.empty((0, 12, 10, 2), np.uint8), codec=codec)
    assert zarr.open_array(folder, mode="r").shape == (0, 12, 10, 2)
    assert ArrayReader(folder).read(np.arange(0)).shape == (0, 12, 10, 2)


def test_chunk_on_disk_is_a_jpeg_followed_by_its_checksum(tmp_path: Path) -> None:
    data = noise(3, 16, 24, 3)
    shard = (write(tmp_path / "a", data) / "c.0.0.0.0").read_bytes()
    offset = 0
    for frame in data:
        jpeg = encode_frame(frame, quality=90)
        assert shard[offset : offset + len(jpeg)] == jpeg
        offset += len(jpeg)
        assert shard[offset : offset + 4] == struct.pack("<I", google_crc32c.value(jpeg))
        offset += 4
    assert len(shard) == offset + 3 * 16 + 4


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    writer = ArrayWriter(tmp_path / "a", CODECS["jpeg"])
    writer.append(noise(8, 8, 3))
    with pytest.raises(ValueError, match=r"\(8, 9, 3\)"):
        writer.append(noise(8, 9, 3))


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
@pytest.mark.parametrize("channels", [3, 2])
def test_no_flipped_bit_of_a_shard_goes_unseen(
    tmp_path: Path, codec: CodecName, channels: int
) -> None:
    frames = 6
    folder = write(tmp_path / "a", noise(frames, 12, 10, channels), codec=codec)
    shard = folder / "c.0.0.0.0"
    whole = shard.read_bytes()
    rng = np.random.default_rng(channels)
    index = range(len(whole) - 16 * frames - 4, len(whole))
    places = {0, *rng.integers(0, len(whole), 150).tolist(), *index}
    for place in sorted(places):
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(broken)
        with pytest.raises(DamagedChunk, match=r"^a: "):
            ArrayReader(folder).read(np.arange(frames))
    shard.write_bytes(whole)
    assert len(ArrayReader(folder).read(np.arange(frames))) == frames


def test_damage_to_one_frame_leaves_the_others_readable(tmp_path: Path) -> None:
    data = noise(6, 12, 10, 3)
    folder = write(tmp_path / "a", data)
    shard = folder / "c.0.0.0.0"
    broken = bytearray(shard.read_bytes())
    broken[2] ^= 1
    shard.write_bytes(broken)
    reader = ArrayReader(folder)
    np.testing.assert_array_equal(reader.read(np.arange(1, 6)), coded(data)[1:])
    with pytest.raises(DamagedChunk, match="a frame fails its checksum"):
        reader.read(np.arange(0, 2))


def test_missing_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_FRAMES", 2)
    data = noise(4, 12, 10, 3)
    folder = write(tmp_path / "a", data)
    (folder / "c.1.0.0.0").unlink()
    reader = ArrayReader(folder)
    np.testing.assert_array_equal(reader.read(np.arange(2)), coded(data)[:2])
    with pytest.raises(DamagedChunk, match="shard 1: No such file"):
        reader.read(np.arange(4))


def test_frame_that_was_never_written(tmp_path: Path) -> None:
    array = zarr.create_array(
        store=tmp_path / "a",
        shape=(4, 8, 8, 3),
        dtype="uint8",
        chunks=(1, 8, 8, 3),
        shards=(4, 8, 8, 3),
        serializer=JpegCodec(quality=90),
        compressors=[Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    array[:2] = noise(2, 8, 8, 3)
    with pytest.raises(DamagedChunk, match="a frame is missing"):
        ArrayReader(tmp_path / "a").read(np.arange(4))


@pytest.mark.parametrize("codec", ["jpeg", "zstd"])
def test_right_checksum_over_bytes_that_do_not_decode(tmp_path: Path, codec: CodecName) -> None:
    folder = write(tmp_path / "a", noise(1, 8, 8, 3), codec=codec)
    data = b"neither JPEG nor zstd"
    index = struct.pack("<QQ", 0, len(data) + 4)
    crc = [struct.pack("<I", google_crc32c.value(part)) for part in (data, index)]
    (folder / "c.0.0.0.0").write_bytes(data + crc[0] + index + crc[1])
    with pytest.raises(DamagedChunk):
        ArrayReader(folder).read(np.arange(1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{}",
        "[" * 100_000,
        '{"shape": [1, 2, 3], "attributes": {}}',
        '{"shape": [1, 8, 8, 3], "attributes": {}, "codecs": [],'
        ' "chunk_grid": {"configuration": {"chunk_shape": [1]}}}',
        '{"shape": [1, 8, 8, 3], "attributes": {}, "codecs": [{"configuration": {"codecs": []}}],'
        ' "chunk_grid": {"configuration": {"chunk_shape": [0]}}}',
    ],
)
def test_damaged_metadata(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "a", noise(1, 8, 8, 3))
    (folder / "zarr.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedChunk, match=r"zarr\.json does not describe an array"):
        ArrayReader(folder)
