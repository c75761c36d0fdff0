"""Augmentation: random parameters per clip, applied to all its frames (paper, section 4.1).

Frames get a random resized crop, a flip, colour jitter, grayscale and blur. Flow gets only the
crop and the flip, which negates u, its horizontal component.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slic.cache.flow_levels import ZERO_LEVEL
from slic.clips.pixels import Image, Pixels, resize
from slic.config import Components, Settings

# Crop ratios and attempts are those of torchvision's RandomResizedCrop.
RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10
BLUR_SIGMAS = (0.1, 2.0)
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601

Operation = Callable[[Image], Image]


@dataclass(frozen=True)
class Augmentation:
    """Parameters of the augmentation of one clip.

    Attributes:
        top, left, height, width: The crop, in pixels of the source.
        flip: Mirror left and right.
        jitter: (operation, amount) pairs in the order of application; empty for no jitter.
        gray: Convert to grayscale.
        sigma: Standard deviation of the Gaussian blur in pixels; 0 for no blur.
    """

    top: int
    left: int
    height: int
    width: int
    flip: bool
    jitter: tuple[tuple[str, float], ...]
    gray: bool
    sigma: float

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """Top, left, height and width of the crop."""
        return self.top, self.left, self.height, self.width


def draw_augmentation(
    height: int, width: int, rng: np.random.Generator, *, settings: Settings
) -> Augmentation:
    """Draw the augmentation of a clip of `height` x `width` pixels.

    Every call takes the same number of values from `rng`, whatever they turn out to be, so that
    the augmentation of one clip does not depend on another's.
    """
    crop = random_crop(height, width, rng, smallest=settings.crop_area)
    flip, jittered, gray, blurred = rng.random(4) < (
        0.5,
        settings.jitter_probability,
        settings.grayscale_probability,
        settings.blur_probability,
    )
    factors = rng.uniform(max(0.0, 1 - settings.jitter), 1 + settings.jitter, size=3)
    hue = rng.uniform(-settings.hue, settings.hue)
    amounts = list(zip(JITTER, [*factors.tolist(), hue], strict=True))
    order = rng.permutation(4)
    sigma = rng.uniform(*BLUR_SIGMAS)
    jitter = tuple(amounts[i] for i in order) if jittered else ()
    return Augmentation(*crop, bool(flip), jitter, bool(gray), float(sigma) if blurred else 0.0)


def random_crop(
    height: int, width: int, rng: np.random.Generator, *, smallest: float
) -> tuple[int, int, int, int]:
    """Draw a crop (top, left, height, width) of random area and of a ratio from 3/4 to 4/3.

    If no attempt fits into the frame, it is the largest centred crop within these ratios.

    Args:
        height, width: The frame's size in pixels.
        rng: Random generator.
        smallest: Smallest area of a crop, relative to the frame's.
    """
    areas = rng.uniform(smallest, 1, CROP_TRIES) * height * width
    ratios = np.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1]), CROP_TRIES))
    down, right = rng.random(2)
    for area, ratio in zip(areas, ratios, strict=True):
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(down * (height - h + 1)), int(right * (width - w + 1)), h, w
    w = min(width, max(1, round(height * RATIOS[1])))
    h = min(height, max(1, round(width / RATIOS[0])))
    return (height - h) // 2, (width - w) // 2, h, w


def augment_frames(clip: Pixels, params: Augmentation, size: int) -> Pixels:
    """Augment RGB frames: `(T, H, W, 3)` uint8 to `(T, size, size, 3)`."""
    operations = [JITTER[name](amount) for name, amount in params.jitter]
    operations += [_gray] if params.gray else []
    operations += [_blur(params.sigma, size)] if params.sigma else []
    out = np.empty((len(clip), size, size, 3), dtype=np.uint8)
    # Frame by frame, because a frame stays in the processor's cache and a clip does not.
    for target, frame in zip(out, clip, strict=True):
        image = _crop(frame, params, size)
        for operation in operations:
            image = operation(image)
        target[...] = image
    return out


def augment_flow(
    flow: Pixels, params: Augmentation, size: int, *, components: Components = "u"
) -> Pixels:
    """Crop and flip quantised flow, and convert it to the three channels of an encoder's input.

    Args:
        flow: `(T, H, W, 2)` uint8, with zero motion at 128.
        params: The augmentation; its colours are ignored.
        size: Side of the result in pixels.
        components: `u` or `v`, repeated in all channels (section 4.1 uses u), or `uv`: u, v and
            zero motion.

    Returns:
        `(T, size, size, 3)` uint8.
    """
    still = np.full((size, size), ZERO_LEVEL, dtype=np.uint8)
    out = np.empty((len(flow), size, size, 3), dtype=np.uint8)
    for target, field in zip(out, flow, strict=True):
        u, v = cv2.split(_crop(field, params, size))
        if params.flip:
            # 256 - u in uint8; the unused level 0 counts as 1.
            u = np.negative(np.maximum(u, 1))
        planes = {"u": (u, u, u), "v": (v, v, v), "uv": (u, v, still)}
        cv2.merge(planes[components], dst=target)
    return out


def _crop(frame: Image, params: Augmentation, size: int) -> Image:
    top, left, height, width = params.crop
    part = resize(frame[top : top + height, left : left + width], size)
    return cv2.flip(part, 1) if params.flip else part


def _gray(image: Image) -> Image:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur_kernel(sigma: float, size: int) -> NDArray[Any]:
    """Return `(n, 1)` weights of the Gaussian blur; n is odd, about a tenth of the side."""
    return cv2.getGaussianKernel(2 * max(1, round(0.05 * size)) + 1, sigma)


def _blur(sigma: float, size: int) -> Operation:
    kernel = blur_kernel(sigma, size)
    # Closer to torchvision's blur than cv2.GaussianBlur, which is in fixed point, and faster.
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
    # OpenCV returns hue in 256ths of a turn but expects 255ths.
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
