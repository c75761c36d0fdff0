"""The usual way to read clips: one JPEG per frame in a folder, read and augmented by PIL."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter
from torchvision.transforms import functional as pil

from slic.cache import ClipStore
from slic.cache.shards import SHARD_FRAMES
from slic.clips.augmentation import Augmentation

JITTER = {
    "brightness": pil.adjust_brightness,
    "contrast": pil.adjust_contrast,
    "saturation": pil.adjust_saturation,
    "hue": pil.adjust_hue,
}


class JpegFolder:
    """Export the JPEGs of some videos of a store, the same bytes, one file per frame.

    Args:
        folder: where they go.
        store: its frames are JPEGs.
        ids: videos.
    """

    def __init__(self, folder: Path, store: ClipStore, ids: list[str]) -> None:
        self.folder = folder
        self.bytes = 0
        self._numbers = {video: number for number, video in enumerate(ids)}
        for video in ids:
            self._path(video, 0).parent.mkdir(parents=True)
            entry = store.entry(video)
            for index, jpeg in enumerate(stored_jpegs(store, entry.key, entry.frames or 0)):
                self._path(video, index).write_bytes(jpeg)
                self.bytes += len(jpeg)

    def images(self, video: str, start: int, count: int) -> list[Image.Image]:
        """Frames of one clip."""
        paths = (self._path(video, index) for index in range(start, start + count))
        return [Image.open(path).convert("RGB") for path in paths]

    def _path(self, video: str, index: int) -> Path:
        return self.folder / f"{self._numbers[video]:05d}" / f"{index:06d}.jpg"


def stored_jpegs(store: ClipStore, key: str, frames: int) -> list[bytes]:
    """Yield a video's JPEGs from its shards; each is followed by a checksum of 4 bytes."""
    jpegs: list[bytes] = []
    for shard in range(-(-frames // SHARD_FRAMES)):
        data = (store.path / "frames" / key / f"c.{shard}.0.0.0").read_bytes()
        slots = min(SHARD_FRAMES, frames)
        spans = np.frombuffer(data[-16 * slots - 4 : -4], dtype="<u8").reshape(-1, 2).tolist()
        jpegs += [data[begin : begin + size - 4] for begin, size in spans[: frames - len(jpegs)]]
    return jpegs


def stacked(images: list[Image.Image]) -> np.ndarray:
    """Stack images as a clip, `(T, H, W, 3)` uint8."""
    return np.stack([np.asarray(image) for image in images])


def augmented(image: Image.Image, params: Augmentation, size: int) -> Image.Image:
    """Apply the same augmentation to a PIL image by torchvision; blur by PIL, which is faster."""
    box = (params.top, params.left, params.height, params.width)
    image = pil.resized_crop(image, *box, [size, size])
    if params.flip:
        image = pil.hflip(image)
    for name, amount in params.jitter:
        image = JITTER[name](image, amount)
    if params.gray:
        image = pil.to_grayscale(image, num_output_channels=3)
    return image.filter(ImageFilter.GaussianBlur(params.sigma)) if params.sigma else image
