"""One video's array on disk: writing its shards whole, and reading clips from them fast.

An array is a Zarr v3 array whose chunk is one frame and whose shard is up to 4,096 frames. Zarr
reads and describes it; the bytes are written here one encoded frame at a time (so that memory
holds no decoded video) and read here with one positioned read a clip.
"""

import json
import math
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from slic.cache.metadata import read_metadata, sealed
from slic.errors import DamagedChunk
from slic.runtime.disk import raise_if_unreadable, sync
from slic.runtime.regular_files import open_regular

CodecName = Literal["jpeg", "zstd"]
SHARD_FRAMES = 4096
ZSTD_LEVEL = 3
MISSING = 2**64 - 1
CHUNK_OVERHEAD = 1 << 16  # bytes of a frame beyond twice its pixels
ZSTD_MAGIC = bytes.fromhex("28b52ffd")


@dataclass(frozen=True)
class Codec:
    """How a chunk becomes bytes: `jpeg` at a quality, or lossless `zstd`."""

    name: CodecName
    quality: int

    def encode(self, frame: NDArray[np.uint8]) -> bytes:
        """Encode one `(H, W, 3)` frame or `(H, W, 2)` flow field, without its checksum."""
        if self.name == "zstd":
            from numcodecs.zstd import Zstd

            return bytes(Zstd(level=ZSTD_LEVEL).encode(np.ascontiguousarray(frame)))
        encode, _ = _jpeg(frame.shape[-1])
        return encode(frame, quality=self.quality)

    def decode(self, data: bytes, out: NDArray[np.uint8]) -> None:
        """Decode one chunk into `out`; DamagedChunk if the bytes do not fit it."""
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
    """Encoder and decoder of frames or of flow; imported late, as they import Zarr."""
    from slic.cache.codec import decode_flow, decode_frame, encode_flow, encode_frame

    return (encode_frame, decode_frame) if channels == 3 else (encode_flow, decode_flow)


def _decode_zstd(data: bytes, out: NDArray[np.uint8]) -> None:
    from numcodecs.zstd import Zstd

    # Decoded into a buffer of the frame's size, whatever the bytes would become; one that they
    # do not fill, numcodecs returns all the same.
    if _zstd_content(data) != out.size:
        raise DamagedChunk("zstd chunk is of another size than its frame")
    try:
        flat = Zstd().decode(data, np.empty(out.size, dtype=np.uint8))
        out[...] = np.frombuffer(flat, dtype=np.uint8).reshape(out.shape)
    except (RuntimeError, ValueError) as error:
        raise DamagedChunk(f"zstd chunk does not decode: {error}") from error


def _zstd_content(data: bytes) -> int | None:
    """Bytes that a zstd frame says it decodes to (RFC 8878, 3.1.1.1); None if it does not say."""
    if len(data) < 5 or data[:4] != ZSTD_MAGIC:
        return None
    flag, single, dictionary = data[4] >> 6, data[4] >> 5 & 1, (0, 1, 2, 4)[data[4] & 3]
    if flag == 0 and not single:
        return None
    begin = 5 + (1 - single) + dictionary
    size = int.from_bytes(data[begin : begin + (1, 2, 4, 8)[flag]], "little")
    return size + 256 if flag == 1 else size


_NO_ARRAY = (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError)


class ArrayWriter:
    """Writes one array into an empty folder, frame by frame; `close` makes it a Zarr array.

    Args:
        folder: the array's folder, not yet visible to readers.
        codec: how chunks are encoded.
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
        self._chunks.append(data + struct.pack("<I", google_crc32c.value(data)))
        self.count += 1
        if len(self._chunks) == SHARD_FRAMES:
            self._flush()

    def close(self, attributes: dict[str, Any], *, empty_shape: tuple[int, ...] = ()) -> None:
        """Write the last shard and the metadata, and sync everything to disk.

        Args:
            attributes: the array's attributes.
            empty_shape: `(H, W, C)` of an array without frames (the flow of a 1-frame video).
        """
        if self._chunks:
            self._flush()
        shape = (self.count, *(self._frame_shape or empty_shape))
        _write_metadata(self.folder, shape, self.codec, attributes)
        for name in ("zarr.json", "."):
            sync(self.folder / name)

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
    return data + struct.pack("<I", google_crc32c.value(data))


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
    path.write_text(json.dumps(sealed(json.loads(path.read_bytes())), indent=2))


class ArrayReader:
    """Reads frames of one array by its own files; every chunk's checksum is verified.

    Attributes:
        shape: `(T, H, W, C)`.
        attributes: the array's attributes.
        codec: of its chunks.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            meta = read_metadata(folder / "zarr.json")
            frames, height, width, channels = (int(n) for n in meta["shape"])
            self.shape = (frames, height, width, channels)
            self.attributes: dict[str, Any] = dict(meta["attributes"])
            self._shard_frames = int(meta["chunk_grid"]["configuration"]["chunk_shape"][0])
            if min(self.shape) < 0 or not 1 <= self._shard_frames <= SHARD_FRAMES:
                raise ValueError("a size is negative, or too large")
            self.codec = _codec_of(meta["codecs"][0]["configuration"]["codecs"])
        except _NO_ARRAY as error:
            raise_if_unreadable(folder, error)
            raise DamagedChunk(f"{folder.name}: zarr.json does not describe an array") from error
        self._indices: dict[int, NDArray[np.uint64]] = {}

    def read(self, frames: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames at the given positions, `(len(frames), H, W, C)` uint8.

        Raises:
            DamagedChunk: bytes are missing, or fail their checksum, or do not decode.
        """
        out = self._room(len(frames))
        shards = frames // self._shard_frames
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            self._read_shard(int(shard), frames[where] % self._shard_frames, out, where)
        return out

    def _room(self, count: int) -> NDArray[np.uint8]:
        try:
            return np.empty((count, *self.shape[1:]), dtype=np.uint8)
        except (MemoryError, ValueError, OverflowError) as error:
            size = " x ".join(map(str, self.shape[1:]))
            raise DamagedChunk(f"frames of {size} do not fit in memory") from error

    @property
    def shards(self) -> int:
        """How many shard files it has."""
        return -(-self.shape[0] // self._shard_frames)

    def check(self) -> int:
        """Read all of it, one frame at a time; how many bytes.

        Every checksum is compared. The first frame of a shard is decoded as well: the others
        then are what was written with it.

        Raises:
            DamagedChunk: as `read`.
        """
        total = 0
        out = self._room(1)[0]
        for shard in range(self.shards):
            frames = min(self._shard_frames, self.shape[0] - shard * self._shard_frames)
            for slot, (offset, length) in enumerate(self._index(shard)[:frames].tolist()):
                if MISSING in (offset, length):
                    raise DamagedChunk(f"{self.folder.name}: a frame is missing from shard {shard}")
                chunk = self._checked(self._bytes(shard, offset, length), shard, slot)
                if slot == 0:
                    self.codec.decode(chunk, out)
                total += length
            self._indices.clear()
        return total

    def _read_shard(
        self,
        shard: int,
        slots: NDArray[np.int64],
        out: NDArray[np.uint8],
        where: NDArray[np.int64],
    ) -> None:
        spans = self._index(shard)[slots]
        if np.any(spans == np.uint64(MISSING)):
            raise DamagedChunk(f"{self.folder.name}: a frame is missing from shard {shard}")
        offsets, ends = spans[:, 0].astype(np.int64), spans.sum(axis=1).astype(np.int64)
        first, last = int(offsets.min()), int(ends.max())
        # Frames stand in order, and none takes much more than its pixels.
        most = (int(np.ptp(slots)) + 1) * (2 * math.prod(self.shape[1:]) + CHUNK_OVERHEAD)
        if first < 0 or np.any(ends < offsets) or last - first > most:
            raise DamagedChunk(f"{self.folder.name}: shard {shard} has its frames out of place")
        data = self._bytes(shard, first, last - first)
        spots = (where.tolist(), (offsets - first).tolist(), (ends - first).tolist())
        for slot, target, begin, end in zip(slots.tolist(), *spots, strict=True):
            self.codec.decode(self._checked(data[begin:end], shard, slot), out[target])

    def _index(self, shard: int) -> NDArray[np.uint64]:
        if shard not in self._indices:
            size = 16 * self._shard_frames
            data = self._bytes(shard, -(size + 4), size + 4)
            if google_crc32c.value(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
                raise DamagedChunk(f"{self.folder.name}: the index of shard {shard} is damaged")
            self._indices[shard] = np.frombuffer(data[:-4], dtype="<u8").reshape(-1, 2)
        return self._indices[shard]

    def _bytes(self, shard: int, offset: int, count: int) -> bytes:
        try:
            handle = open_regular(self.folder / f"c.{shard}.0.0.0")
            try:
                size = os.fstat(handle).st_size
                begin = offset if offset >= 0 else size + offset
                there = 0 <= begin <= begin + count <= size
                data = os.pread(handle, count, begin) if there else b""
            finally:
                os.close(handle)
        except OSError as error:
            raise_if_unreadable(self.folder, error)
            raise DamagedChunk(f"{self.folder.name}: shard {shard}: {error.strerror}") from error
        if not there or len(data) != count:
            raise DamagedChunk(f"{self.folder.name}: shard {shard} is cut short")
        return data

    def _checked(self, data: bytes, shard: int, frame: int) -> bytes:
        """A chunk without its checksum, which it must bear out."""
        chunk, end = data[:-4], data[-4:]
        if len(end) < 4 or google_crc32c.value(chunk) != struct.unpack("<I", end)[0]:
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
