"""Augmentation: one draw a clip, alike for all its frames (paper, section 4.1).

Frames get a random resized crop, a flip, colour jitter, grayscale and blur. Flow gets crop and
flip alone; a flip negates u, its horizontal component.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from slic.cache.levels import ZERO_LEVEL
from slic.config import Components, Settings

RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10
BLUR_SIGMAS = (0.1, 2.0)
# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
CHANNELS = {"u": slice(0, 1), "v": slice(1, 2), "uv": slice(0, 2)}

Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class Draw:
    """What happens to all frames of one clip.

    Attributes:
        top, left, height, width: the crop, pixels of the source.
        flip: mirror left and right.
        jitter: (operation, amount) in order of application; empty for none.
        gray: drop the colours.
        sigma: of the Gaussian blur, pixels; 0 for none.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    gray: bool
    sigma: float


def draw(height: int, width: int, rng: np.random.Generator, *, settings: Settings) -> Draw:
    """Draw one clip's augmentation; the same numbers are drawn whatever comes out."""
    crop = random_crop(height, width, rng, smallest=settings.crop_area)
    flip, jittered, gray, blurred = rng.random(4) < (
        0.5,
        settings.jitter_probability,
        settings.grayscale_probability,
        settings.blur_probability,
    )
    low = max(0.0, 1 - settings.jitter)
    factors = rng.uniform(low, 1 + settings.jitter, size=3)
    hue = rng.uniform(-settings.hue, settings.hue)
    amounts = [
        ("brightness", factors[0]),
        ("contrast", factors[1]),
        ("saturation", factors[2]),
        ("hue", hue),
    ]
    order = rng.permutation(4)
    sigma = rng.uniform(*BLUR_SIGMAS)
    jitter = tuple((amounts[i][0], float(amounts[i][1])) for i in order) if jittered else ()
    return Draw(*crop, bool(flip), jitter, bool(gray), float(sigma) if blurred else 0.0)


def random_crop(
    height: int, width: int, rng: np.random.Generator, *, smallest: float
) -> tuple[int, int, int, int]:
    """A crop (top, left, height, width) of random area and ratio 3/4 to 4/3.

    Where no try fits into the frame, the largest centred crop within the ratios is taken.
    """
    areas = rng.uniform(smallest, 1, CROP_TRIES) * height * width
    ratios = np.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1]), CROP_TRIES))
    place = rng.random(2)
    for area, ratio in zip(areas, ratios, strict=True):
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    w = min(width, max(1, round(height * RATIOS[1])))
    h = min(height, max(1, round(width / RATIOS[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def augment_frames(clip: Clip, how: Draw, size: int) -> Clip:
    """Apply a draw to RGB frames: `(T, H, W, 3)` to `(T, size, size, 3)` uint8."""
    frames = _crop(clip, how, size)
    for operation, amount in how.jitter:
        frames = JITTER[operation](frames, amount)
    if how.gray:
        frames = np.repeat(_gray(frames)[..., None], 3, axis=-1)
    if how.sigma:
        kernel = 2 * max(1, round(0.05 * size)) + 1
        frames = np.stack([cv2.GaussianBlur(f, (kernel, kernel), how.sigma) for f in frames])
    return np.ascontiguousarray(frames)


def augment_flow(flow: Clip, how: Draw, size: int, *, components: Components = "u") -> Clip:
    """Crop and flip quantised flow, and make three channels of it, as an encoder takes them.

    Args:
        flow: `(T, H, W, 2)` uint8, zero at 128.
        how: the draw; its colours are left out.
        size: side in pixels.
        components: `u` or `v`, copied to the three channels (the paper's section 4.1 takes u),
            or `uv`: u, v, and no motion.

    Returns:
        `(T, size, size, 3)` uint8.
    """
    part = _crop(np.ascontiguousarray(flow[..., CHANNELS[components]]), how, size)
    if how.flip and "u" in components:
        # 256 - u, and 255 for the unused level 0, without leaving uint8.
        part[..., 0] = np.negative(np.maximum(part[..., 0], 1))
    if components == "uv":
        return np.concatenate((part, np.full_like(part[..., :1], ZERO_LEVEL)), axis=-1)
    return np.repeat(part, 3, axis=-1)


def _crop(clip: Clip, how: Draw, size: int) -> Clip:
    part = clip[:, how.top : how.top + how.height, how.left : how.left + how.width]
    shrinks = min(how.height, how.width) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    out = np.empty((len(clip), size, size, clip.shape[-1]), dtype=np.uint8)
    for target, frame in zip(out, part, strict=True):
        resized = cv2.resize(frame, (size, size), interpolation=interpolation)
        target[...] = resized.reshape(size, size, -1)
    return out[:, :, ::-1] if how.flip else out


def _gray(frames: Clip) -> Clip:
    return np.asarray(np.rint(frames.astype(np.float32) @ LUMA), dtype=np.uint8)


def _blend(frames: Clip, other: NDArray[np.float32], amount: float) -> Clip:
    mixed = amount * frames.astype(np.float32) + (1 - amount) * other
    return np.rint(np.clip(mixed, 0, 255)).astype(np.uint8)


def _brightness(frames: Clip, factor: float) -> Clip:
    return _blend(frames, np.zeros((), dtype=np.float32), factor)


def _contrast(frames: Clip, factor: float) -> Clip:
    means = (frames.astype(np.float32) @ LUMA).mean(axis=(1, 2))
    return _blend(frames, means[:, None, None, None], factor)


def _saturation(frames: Clip, factor: float) -> Clip:
    return _blend(frames, (frames.astype(np.float32) @ LUMA)[..., None], factor)


def _hue(frames: Clip, turns: float) -> Clip:
    tall = np.ascontiguousarray(frames).reshape(-1, frames.shape[2], 3)
    levels = np.arange(256)
    # OpenCV gives hue in 256ths of a turn and takes it in 255ths: shifted unheeded, hues drift.
    hues = np.rint((levels / 256 + turns) % 1 * 255)
    table = np.stack((hues, levels, levels), axis=-1).astype(np.uint8)
    hsv = cv2.LUT(cv2.cvtColor(tall, cv2.COLOR_RGB2HSV_FULL), table[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8).reshape(frames.shape)


JITTER = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
