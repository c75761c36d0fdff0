"""Augmentation: one draw a clip, alike for all its frames (paper, section 4.1).

Frames get a random resized crop, a flip, colour jitter, grayscale and blur. Flow gets crop and
flip alone; a flip negates u, its horizontal component.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slic.cache.flow_levels import ZERO_LEVEL
from slic.config import Components, Settings

RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10
BLUR_SIGMAS = (0.1, 2.0)
# ITU-R BT.601 luma.
LUMA = np.array([0.299, 0.587, 0.114])

Clip = NDArray[np.uint8]
Image = NDArray[Any]  # of uint8; OpenCV's own types leave that open
Operation = Callable[[Image], Image]


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
    operations = [JITTER[name](amount) for name, amount in how.jitter]
    operations += [_gray] if how.gray else []
    operations += [_blur(how.sigma, size)] if how.sigma else []
    out = np.empty((len(clip), size, size, 3), dtype=np.uint8)
    # All of it frame by frame: a frame stays in the processor's cache, a clip does not.
    for target, frame in zip(out, clip, strict=True):
        image = _crop(frame, how, size)
        for operation in operations:
            image = operation(image)
        target[...] = image
    return out


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
    still = np.full((size, size), ZERO_LEVEL, dtype=np.uint8)
    out = np.empty((len(flow), size, size, 3), dtype=np.uint8)
    for target, field in zip(out, flow, strict=True):
        u, v = cv2.split(_crop(field, how, size))
        if how.flip:
            # 256 - u, and 255 for the unused level 0, without leaving uint8.
            u = np.negative(np.maximum(u, 1))
        planes = {"u": (u, u, u), "v": (v, v, v), "uv": (u, v, still)}
        cv2.merge(planes[components], dst=target)
    return out


def _crop(frame: Image, how: Draw, size: int) -> Image:
    part = frame[how.top : how.top + how.height, how.left : how.left + how.width]
    shrinks = min(how.height, how.width) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(part, (size, size), interpolation=interpolation)
    return cv2.flip(resized, 1) if how.flip else resized


def _gray(image: Image) -> Image:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur_kernel(sigma: float, size: int) -> NDArray[Any]:
    """Weights `(n, 1)` of the Gaussian blur; n is a tenth of the side, and odd."""
    return cv2.getGaussianKernel(2 * max(1, round(0.05 * size)) + 1, sigma)


def _blur(sigma: float, size: int) -> Operation:
    kernel = blur_kernel(sigma, size)
    # Nearer to torchvision's blur than cv2.GaussianBlur's fixed point, and faster.
    return lambda image: cv2.sepFilter2D(image, -1, kernel, kernel)


def _brightness(factor: float) -> Operation:
    return lambda image: cv2.addWeighted(image, factor, image, 0, 0)


def _contrast(factor: float) -> Operation:
    def apply(image: Image) -> Image:
        mean = float(LUMA @ cv2.mean(image)[:3])
        return cv2.addWeighted(image, factor, image, 0, (1 - factor) * mean)

    return apply


def _saturation(factor: float) -> Operation:
    blend = factor * np.eye(3) + (1 - factor) * LUMA
    return lambda image: cv2.transform(image, blend)


def _hue(turns: float) -> Operation:
    # OpenCV gives hue in 256ths of a turn and takes it in 255ths: shifted unheeded, hues drift.
    table = np.rint((np.arange(256) / 256 + turns) % 1 * 255).astype(np.uint8)

    def apply(image: Image) -> Image:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
        cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), table), hsv, 0)
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)

    return apply


JITTER: dict[str, Callable[[float], Operation]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
}
