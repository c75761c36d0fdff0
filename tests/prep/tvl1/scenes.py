"""Frames of known motion for the engines of TV-L1."""

import cv2
import numpy as np


def texture(height: int, width: int, *, seed: int) -> np.ndarray:
    """Smooth random gray values, float32 (H, W), 0 to 255."""
    noise = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX)


def moving(count: int, height: int, width: int, *, seed: int = 0, speed: float = 1) -> np.ndarray:
    """A drifting texture with a rectangle that moves the other way, uint8 (T, H, W)."""
    pair = [texture(height + 40, width + 40, seed=seed + i) for i in range(2)]
    frames = []
    for t in range(count):
        layers = []
        for image, (x, y) in zip(pair, ((1.3, -0.7), (-0.9, 0.4)), strict=True):
            shift = np.float32([[1, 0, speed * x * t - 20], [0, 1, speed * y * t - 20]])
            layers.append(cv2.warpAffine(image, shift, (width, height), flags=cv2.INTER_CUBIC))
        back, front = layers
        part = slice(height // 4, height // 2), slice(width // 3, 2 * width // 3)
        back[part] = front[part]
        frames.append(back)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def end_point_error(flow: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(flow - other, axis=-1).mean())
