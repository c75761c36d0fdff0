"""Pixels of clips: resizing, and the test view."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Image = NDArray[Any]  # `(H, W, C)` uint8, which OpenCV's types do not guarantee


def resize(image: Image, size: int) -> Image:
    """Resize `(H, W, C)` to `(size, size, C)`, by areas if it shrinks, else linearly."""
    shrinks = min(image.shape[:2]) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


def centre_view(clip: Pixels, size: int) -> Pixels:
    """Cut the deterministic test view of a clip: the central square, resized.

    Args:
        clip: `(T, H, W, C)` uint8.
        size: Side of the result in pixels.

    Returns:
        `(T, size, size, C)` uint8.
    """
    height, width = clip.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = clip[:, top : top + side, left : left + side]
    # OpenCV drops the axis of a single channel.
    return np.stack([resize(frame, size) for frame in square]).reshape(len(clip), size, size, -1)
