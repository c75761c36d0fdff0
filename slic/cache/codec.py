"""The codec of a clip store's chunks: one JPEG per frame or flow field.

A frame chunk `(1, H, W, 3)` is an RGB JPEG with 4:2:0 chroma. A flow chunk `(1, H, W, 2)` is a
grey JPEG with u above v, each padded at its edge to a multiple of 8 so that no JPEG block mixes
the two. An entry point registers the codec with Zarr as `slic.jpeg`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from zarr.abc.codec import ArrayBytesCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.common import JSON, parse_named_configuration

from slic.errors import DamagedChunk

CODEC_NAME = "slic.jpeg"
BLOCK = 8


def padded(length: int) -> int:
    """Round a length in pixels up to whole JPEG blocks."""
    return -(-length // BLOCK) * BLOCK


def encode_frame(frame: NDArray[np.uint8], *, quality: int) -> bytes:
    """Encode an RGB frame `(H, W, 3)` uint8 as a JPEG with 4:2:0 chroma."""
    contiguous = np.ascontiguousarray(frame)
    return simplejpeg.encode_jpeg(
        contiguous, quality=quality, colorspace="RGB", colorsubsampling="420"
    )


def decode_frame(data: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a JPEG directly into `out` `(H, W, 3)` uint8, C-contiguous.

    Raises:
        DamagedChunk: the bytes are not a JPEG of that size.
    """
    _check_size(data, height=out.shape[0], width=out.shape[1])
    simplejpeg.decode_jpeg(data, "RGB", buffer=out)


def encode_flow(flow: NDArray[np.uint8], *, quality: int) -> bytes:
    """Encode a quantised flow field `(H, W, 2)` uint8 as a grey JPEG, u above v."""
    height, width = flow.shape[:2]
    rows, columns = padded(height), padded(width)
    margin = ((0, rows - height), (0, columns - width))
    stacked = np.concatenate([np.pad(flow[..., c], margin, mode="edge") for c in (0, 1)])
    return simplejpeg.encode_jpeg(
        stacked[..., None], quality=quality, colorspace="GRAY", colorsubsampling="Gray"
    )


def decode_flow(data: bytes, out: NDArray[np.uint8]) -> None:
    """Decode a flow JPEG into `out` `(H, W, 2)` uint8.

    Raises:
        DamagedChunk: the bytes are no flow JPEG of that size.
    """
    height, width = out.shape[:2]
    rows = padded(height)
    _check_size(data, height=2 * rows, width=padded(width))
    stacked = simplejpeg.decode_jpeg(data, "GRAY")[..., 0]
    out[..., 0] = stacked[:height, :width]
    out[..., 1] = stacked[rows : rows + height, :width]


def _check_size(data: bytes, *, height: int, width: int) -> None:
    try:
        found = simplejpeg.decode_jpeg_header(data)[:2]
    except ValueError as error:
        raise DamagedChunk(f"not a JPEG: {error}") from error
    if found != (height, width):
        raise DamagedChunk(f"JPEG of {found[0]}x{found[1]} where {height}x{width} is expected")


def _check_chunk(spec: ArraySpec) -> None:
    shape, dtype = spec.shape, spec.dtype.to_native_dtype()
    if len(shape) != 4 or shape[0] != 1 or shape[-1] not in (2, 3) or dtype != np.uint8:
        right = "(1, H, W, 3) or (1, H, W, 2) of uint8"
        raise ValueError(f"{CODEC_NAME} encodes chunks {right}, not {shape} of {dtype}")


@dataclass(frozen=True)
class JpegCodec(ArrayBytesCodec):
    """Zarr codec `slic.jpeg`: chunks `(1, H, W, 3)` or `(1, H, W, 2)` uint8 as plain JPEGs.

    Args:
        quality: quality of the JPEGs, 1 to 100. Default: 90.
    """

    is_fixed_size = False
    quality: int = 90

    @classmethod
    def from_dict(cls, data: dict[str, JSON]) -> Self:
        _, configuration = parse_named_configuration(data, CODEC_NAME)
        return cls(quality=int(str(configuration["quality"])))

    def to_dict(self) -> dict[str, JSON]:
        return {"name": CODEC_NAME, "configuration": {"quality": self.quality}}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        raise NotImplementedError("a JPEG's size is not known before it is encoded")

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        _check_chunk(chunk_spec)
        frames = np.empty(chunk_spec.shape, dtype=np.uint8)
        decode = decode_frame if chunk_spec.shape[-1] == 3 else decode_flow
        decode(chunk_data.to_bytes(), frames[0])
        return chunk_spec.prototype.nd_buffer.from_numpy_array(frames)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer | None:
        _check_chunk(chunk_spec)
        frame = chunk_data.as_numpy_array()[0]
        encode = encode_frame if chunk_spec.shape[-1] == 3 else encode_flow
        return chunk_spec.prototype.buffer.from_bytes(encode(frame, quality=self.quality))
