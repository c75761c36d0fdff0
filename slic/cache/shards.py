"""One video's array on disk: frames are appended one by one, and a clip is read at once.

It is a Zarr v3 array with a chunk per frame and up to 4,096 frames per shard. Zarr reads it too,
and writes its metadata; but only here is it written without holding all frames in memory, and read
with one positioned read per clip.
"""

import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from slic.cache.metadata import read_metadata, write_metadata
from slic.errors import DamagedChunk
from slic.runtime.disk import raise_if_unreadable
from slic.runtime.regular_files import open_regular

CodecName = Literal["jpeg", "zstd"]
SHARD_FRAMES = 4096
_SUM_BYTES = 4
ZSTD_LEVEL = 3
MISSING = 2**64 - 1  # Zarr's offset of a chunk that was never written
_CHECKED_AT_ONCE = 256  # frames: limits the memory that checking a whole array takes


@dataclass(frozen=True)
class Codec:
    """The codec of an array's chunks: `jpeg` with a quality, or lossless `zstd`."""

    name: CodecName
    quality: int

    def encode(self, frame: NDArray[np.uint8]) -> bytes:
        """Encode a frame `(H, W, 3)` or flow field `(H, W, 2)`, uint8; without a checksum."""
        if self.name == "zstd":
            from numcodecs.zstd import Zstd

            return bytes(Zstd(level=ZSTD_LEVEL).encode(np.ascontiguousarray(frame)))
        encode, _ = _jpeg(frame.shape[-1])
        return encode(frame, quality=self.quality)

    def decode(self, data: bytes, out: NDArray[np.uint8]) -> None:
        """Decode a chunk into `out`; raise DamagedChunk if the bytes do not fit it."""
        if self.name == "zstd":
            _decode_zstd(data, out)
            return
        _, decode = _jpeg(out.shape[-1])
        try:
            decode(data, out)
        except ValueError as error:
            raise DamagedChunk(f"JPEG does not decode: {error}") from error


@cache
def _jpeg(channels: int) -> tuple[Callable[..., bytes], Callable[..., None]]:
    """Return encoder and decoder of frames or flow; imported late, because they import Zarr."""
    from slic.cache.codec import decode_flow, decode_frame, encode_flow, encode_frame

    return (encode_frame, decode_frame) if channels == 3 else (encode_flow, decode_flow)


def _decode_zstd(data: bytes, out: NDArray[np.uint8]) -> None:
    from numcodecs.zstd import Zstd

    try:
        out[...] = np.frombuffer(Zstd().decode(data), dtype=np.uint8).reshape(out.shape)
    except (RuntimeError, ValueError) as error:
        raise DamagedChunk(f"zstd chunk does not decode: {error}") from error


_NO_ARRAY = (OSError, ValueError, LookupError, TypeError, OverflowError)


class ArrayWriter:
    """Writes an array into a new folder, frame by frame; `close` makes it a Zarr array.

    Args:
        folder: the folder to create, outside of what readers see.
        codec: codec of the chunks.
    """

    def __init__(self, folder: Path, codec: Codec) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.codec = codec
        self.count = 0
        self._frame_shape: tuple[int, ...] = ()
        self._chunks: list[bytes] = []
        self._shards = 0

    def append(self, frame: NDArray[np.uint8]) -> None:
        """Add one `(H, W, C)` uint8 frame."""
        if self.count and frame.shape != self._frame_shape:
            raise ValueError(f"frame of {frame.shape} in an array of {self._frame_shape}")
        self._frame_shape = frame.shape
        data = self.codec.encode(frame)
        self._chunks.append(data + _sum(data))
        self.count += 1
        if len(self._chunks) == SHARD_FRAMES:
            self._flush()

    def close(self, attributes: dict[str, Any], *, empty_shape: tuple[int, ...] = ()) -> None:
        """Write the last shard and the metadata, and flush everything to disk.

        Args:
            attributes: the array's attributes.
            empty_shape: `(H, W, C)` of an array without frames (flow of a video of one frame).
        """
        if self._chunks:
            self._flush()
        shape = (self.count, *(self._frame_shape or empty_shape))
        _write_metadata(self.folder, shape, self.codec, attributes)

    def _flush(self) -> None:
        slots = min(SHARD_FRAMES, self.count)
        path = self.folder / f"c.{self._shards}.0.0.0"
        with path.open("wb") as file:
            file.write(b"".join(self._chunks))
            file.write(_shard_index([len(c) for c in self._chunks], slots))
            file.flush()
            os.fsync(file.fileno())
        self._chunks = []
        self._shards += 1


def _shard_index(lengths: list[int], slots: int) -> bytes:
    index = np.full((slots, 2), MISSING, dtype="<u8")
    index[: len(lengths), 1] = lengths
    index[: len(lengths), 0] = np.cumsum([0, *lengths[:-1]])
    data = index.tobytes()
    return data + _sum(data)


def _sum(data: bytes) -> bytes:
    return struct.pack("<I", google_crc32c.value(data))


def _write_metadata(
    folder: Path, shape: tuple[int, ...], codec: Codec, attributes: dict[str, Any]
) -> None:
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

    from slic.cache.codec import JpegCodec

    frame_shape = shape[1:]
    jpeg = codec.name == "jpeg"
    zarr.create_array(
        store=folder,
        shape=shape,
        dtype="uint8",
        chunks=(1, *frame_shape),
        shards=(max(1, min(SHARD_FRAMES, shape[0])), *frame_shape),
        serializer=JpegCodec(quality=codec.quality) if jpeg else BytesCodec(),
        compressors=[Crc32cCodec()] if jpeg else [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        chunk_key_encoding={"name": "default", "separator": "."},
        attributes=attributes,
        overwrite=False,
    )
    path = folder / "zarr.json"
    write_metadata(path, json.loads(path.read_bytes()))


class ArrayReader:
    """Reads frames of an array from its files, and verifies every chunk's checksum.

    Attributes:
        shape: `(T, H, W, C)`.
        attributes: the array's attributes.
        codec: codec of its chunks.

    Args:
        folder: the array's folder.

    Raises:
        DamagedChunk: its zarr.json is missing or damaged, or describes another kind of array.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = read_metadata(folder / "zarr.json")
            frames, height, width, channels = (int(n) for n in meta["shape"])
            self.shape = (frames, height, width, channels)
            self.attributes: dict[str, Any] = meta["attributes"]
            self._shard_frames = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
            if min(self.shape) < 0 or not 1 <= self._shard_frames <= SHARD_FRAMES:
                raise ValueError("a size is negative, or too large")
            self.codec = _codec_of(meta["codecs"][0]["configuration"]["codecs"])
        except _NO_ARRAY as error:
            raise_if_unreadable(folder, error)
            raise DamagedChunk(f"{folder.name}: zarr.json does not describe an array") from error
        self._indices: dict[int, NDArray[np.uint64]] = {}

    def read(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the frames at the given positions, `(len(frames), H, W, C)` uint8.

        Raises:
            DamagedChunk: bytes are missing, fail their checksum, or do not decode.
        """
        out = np.empty((len(frames), *self.shape[1:]), dtype=np.uint8)
        shards = frames // self._shard_frames
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            chunks = self._chunks(int(shard), frames[where] % self._shard_frames)
            for target, chunk in zip(where.tolist(), chunks, strict=True):
                self.codec.decode(chunk, out[target])
        return out

    @property
    def shards(self) -> int:
        """Number of shard files."""
        return -(-self.shape[0] // self._shard_frames)

    def check(self) -> int:
        """Verify all checksums; return the number of bytes.

        Only the first frame of each shard is decoded: the others were written together with it.

        Raises:
            DamagedChunk: as `read`.
        """
        total = 0
        for shard in range(self.shards):
            first = shard * self._shard_frames
            self.read(np.array([first]))
            frames = min(self._shard_frames, self.shape[0] - first)
            for begin in range(0, frames, _CHECKED_AT_ONCE):
                slots = np.arange(begin, min(frames, begin + _CHECKED_AT_ONCE))
                total += sum(len(chunk) + _SUM_BYTES for chunk in self._chunks(shard, slots))
            self._indices.clear()
        return total

    def _chunks(self, shard: int, slots: NDArray[np.int64]) -> Iterator[bytes]:
        """Read chunks of one shard with a single read; yield them without their checksums."""
        spans = self._index(shard)[slots]
        if np.any(spans == np.uint64(MISSING)):
            raise DamagedChunk(f"{self.folder.name}: a frame is missing from shard {shard}")
        offsets, ends = spans[:, 0].astype(np.int64), spans.sum(axis=1).astype(np.int64)
        first = int(offsets.min())
        data = self._bytes(shard, first, int(ends.max()) - first)
        places = zip((offsets - first).tolist(), (ends - first).tolist(), strict=True)
        for slot, (begin, end) in zip(slots.tolist(), places, strict=True):
            yield self._without_sum(data[begin:end], shard, slot)

    def _index(self, shard: int) -> NDArray[np.uint64]:
        if shard not in self._indices:
            size = 16 * self._shard_frames + _SUM_BYTES
            data = self._bytes(shard, -size, size)
            if _sum(data[:-_SUM_BYTES]) != data[-_SUM_BYTES:]:
                raise DamagedChunk(f"{self.folder.name}: the index of shard {shard} is damaged")
            self._indices[shard] = np.frombuffer(data[:-_SUM_BYTES], dtype="<u8").reshape(-1, 2)
        return self._indices[shard]

    def _bytes(self, shard: int, offset: int, count: int) -> bytes:
        """Read bytes of a shard file; a negative offset counts from its end."""
        try:
            handle = open_regular(self.folder / f"c.{shard}.0.0.0")
            try:
                size = os.fstat(handle).st_size
                begin = offset if offset >= 0 else size + offset
                is_inside = 0 <= begin <= begin + count <= size
                data = os.pread(handle, count, begin) if is_inside else b""
            finally:
                os.close(handle)
        except OSError as error:
            raise_if_unreadable(self.folder, error)
            raise DamagedChunk(f"{self.folder.name}: shard {shard}: {error.strerror}") from error
        if not is_inside or len(data) != count:
            raise DamagedChunk(f"{self.folder.name}: shard {shard} is cut short")
        return data

    def _without_sum(self, data: bytes, shard: int, frame: int) -> bytes:
        chunk = data[:-_SUM_BYTES]
        if _sum(chunk) != data[-_SUM_BYTES:]:
            raise DamagedChunk(
                f"{self.folder.name}: a frame fails its checksum (frame {frame} of shard {shard})"
            )
        return chunk


def _codec_of(codecs: list[dict[str, Any]]) -> Codec:
    if codecs[0]["name"] == "slic.jpeg":
        return Codec("jpeg", quality=int(codecs[0]["configuration"]["quality"]))
    if [c["name"] for c in codecs] == ["bytes", "zstd", "crc32c"]:
        return Codec("zstd", quality=0)
    raise ValueError("unknown codecs")
