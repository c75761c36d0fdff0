"""Generated clips: a person performing an action in front of a scene, all details random."""

import colorsys
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from slic.demo.figures import (
    ACTIONS,
    CYCLES,
    Body,
    Colour,
    Limb,
    Manner,
    draw_figure,
    skeleton_of,
)

_MARGIN = 0.06  # scenery beyond the frame for the camera to drift over, in frame heights
_GOLDEN = (math.sqrt(5) - 1) / 2
_IDLE_ARMS: tuple[Limb, ...] = ((0.15, 0.0), (0.4, 0.1), (0.75, -1.5))


@dataclass(frozen=True)
class _Actor:
    """A person and their place; lengths are fractions of the frame's height."""

    body: Body
    manner: Manner
    x: float  # from the middle of the frame
    ground: float
    height: float


@dataclass(frozen=True)
class _Take:
    """What differs between the clips of one group; angles in radians, times in frames."""

    drift: np.ndarray  # (2,): amplitude of the camera's drift in x and y, in frame heights
    period: float
    phase: float
    mirrored: bool
    near: int
    gain: float
    drift_period: np.ndarray
    drift_phase: np.ndarray


def draw_clip(action: str, **options: Any) -> np.ndarray:
    """Generate a clip as one array.

    Args:
        action: one of `ACTIONS`.
        options: the other arguments of `iterate_clip`.

    Returns:
        `(T, H, W, 3)` uint8 RGB.
    """
    return np.stack(list(iterate_clip(action, **options)))


def iterate_clip(
    action: str,
    *,
    group: int,
    clip: int,
    frames: int = 40,
    size: tuple[int, int] = (128, 96),
    scene_bias: float = 0.4,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Generate a clip frame by frame; the same arguments give the same clip.

    Args:
        action: one of `ACTIONS`.
        group: number of the group, from 1. As in UCF101, the clips of a group share scene and
            person.
        clip: number of the clip in its group, from 1; it decides tempo, phase, camera drift and
            mirroring.
        frames: length; a longer clip begins with the shorter one.
        size: width and height in pixels, at least 16.
        scene_bias: fraction of an action's groups whose background has the action's own colour.
        seed: random seed.

    Yields:
        `(H, W, 3)` uint8 RGB.
    """
    rng = _generator(seed, action, group)
    hue = _background_hue(rng, action, group=group, scene_bias=scene_bias, seed=seed)
    scene, brightness = _draw_scene(rng, hue, size=size)
    actor = _cast(rng, brightness)
    rng = _generator(seed, action, group, clip)
    take = _direct(rng)
    width, height = size
    backdrop = np.clip(scene * take.gain, 0, 255).astype(np.uint8)
    # One field of sensor noise, seen through a window at random places: cheaper than new noise.
    noise = np.rint(rng.normal(0.0, 3.0, (2 * height, 2 * width, 3))).astype(np.int16)
    for t in range(frames):
        picture = _draw_frame(action, backdrop, actor, take, t, size)
        top, left = rng.integers(height + 1), rng.integers(width + 1)
        grain = noise[top : top + height, left : left + width]
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _background_hue(
    rng: np.random.Generator, action: str, *, group: int, scene_bias: float, seed: int
) -> float:
    """Choose the background's hue in [0, 1): the action's own for its share of the groups."""
    any_hue, shift = rng.uniform(0.0, 1.0), rng.normal(0.0, 0.03)
    # Steps of the golden ratio spread the biased groups evenly over training and test groups.
    turn = (_generator(seed, action).uniform() + group * _GOLDEN) % 1.0
    own = ACTIONS.index(action) / len(ACTIONS) + shift
    return (own if turn < scene_bias else any_hue) % 1.0


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))


def _draw_scene(
    rng: np.random.Generator, hue: float, *, size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Draw a textured wall with shapes, lit from one side.

    Returns:
        float32 RGB with margins, and the wall's brightness (HSV value).
    """
    width, height = size
    pad = math.ceil(_MARGIN * height)
    shape = height + 2 * pad, width + 2 * pad
    value = float(rng.uniform(0.2, 0.45) if rng.random() < 0.5 else rng.uniform(0.75, 0.95))
    scene = np.empty((*shape, 3), np.float32)
    scene[:] = _rgb(hue, float(rng.uniform(0.25, 0.65)), value)
    for _ in range(rng.integers(2, 6)):
        _draw_distractor(rng, scene, unit=height, value=value)
    for cells, strength in ((5, 18.0), (16, 8.0)):
        grid = rng.standard_normal((cells, cells + cells // 3, 3)).astype(np.float32)
        grid = 0.7 * grid.mean(axis=2, keepdims=True) + 0.3 * grid
        texture = cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC)
        scene += strength * rng.uniform(0.3, 1.0) * texture
    # Light from one side: a plane of factors about 1.
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.35)
    y, x = np.mgrid[-1.0 : 1.0 : shape[0] * 1j, -1.0 : 1.0 : shape[1] * 1j]
    light = 1.0 + strength * (math.cos(angle) * x + math.sin(angle) * y)
    scene *= light.astype(np.float32)[..., None]
    return np.clip(scene, 0.0, 255.0), value


def _draw_distractor(
    rng: np.random.Generator, scene: np.ndarray, *, unit: int, value: float
) -> None:
    """Draw a rectangle, an ellipse or a pole of random colour, in place."""
    rows, columns = scene.shape[:2]
    x, y = round(rng.uniform(0, columns)), round(rng.uniform(0, rows))
    a, b = (max(1, round(part)) for part in rng.uniform(0.05, 0.3, 2) * unit)
    colour = _rgb(*rng.uniform((0.0, 0.1, value - 0.2), (1.0, 0.8, value + 0.15)))
    kind = rng.integers(3)
    if kind == 0:
        cv2.rectangle(scene, (x - a, y - b), (x + a, y + b), colour, -1)
    elif kind == 1:
        cv2.ellipse(scene, (x, y), (a, b), rng.uniform(0, 180), 0, 360, colour, -1)
    else:
        tilt = round(rng.normal(0.0, 0.1) * unit)
        cv2.line(scene, (x - tilt, 0), (x + tilt, rows), colour, max(1, a // 3))


def _cast(rng: np.random.Generator, brightness: float) -> _Actor:
    """Draw a random person whose colours stand out against the background's brightness."""
    low, high = (0.85, 1.0) if brightness < 0.6 else (0.05, 0.25)
    skin, shirt, trousers = (
        _rgb(*rng.uniform((0.0, 0.0, low), (1.0, 0.45, high))) for _ in range(3)
    )
    body = Body(
        thigh=rng.uniform(0.21, 0.26),
        shin=rng.uniform(0.21, 0.25),
        torso=rng.uniform(0.26, 0.33),
        upper_arm=rng.uniform(0.18, 0.22),
        forearm=rng.uniform(0.18, 0.22),
        head=rng.uniform(0.065, 0.095),
        breadth=rng.uniform(0.04, 0.16),
        limb_radius=rng.uniform(0.05, 0.062),
        torso_radius=rng.uniform(0.07, 0.105),
        skin=skin,
        shirt=shirt,
        trousers=trousers,
        outline=(15, 15, 15) if brightness < 0.6 else (235, 235, 235),
    )
    angle, bend = _IDLE_ARMS[rng.integers(len(_IDLE_ARMS))]
    manner = Manner(
        arm=(angle + rng.normal(0.0, 0.1), bend + rng.normal(0.0, 0.15)),
        stance=rng.uniform(0.05, 0.3),
        vigour=rng.uniform(0.85, 1.1),
    )
    return _Actor(
        body=body,
        manner=manner,
        x=rng.uniform(-0.14, 0.14),
        ground=rng.uniform(0.91, 0.99),
        height=rng.uniform(0.72, 0.84),
    )


def _direct(rng: np.random.Generator) -> _Take:
    return _Take(
        drift=rng.uniform(0.0, 0.015, 2),
        period=rng.uniform(9.0, 16.0),
        phase=rng.uniform(0.0, 2 * math.pi),
        mirrored=bool(rng.random() < 0.5),
        near=int(rng.integers(2)),
        gain=rng.uniform(0.92, 1.08),
        drift_period=rng.uniform(50.0, 150.0, 2),
        drift_phase=rng.uniform(0.0, 2 * math.pi, 2),
    )


def _draw_frame(
    action: str, backdrop: np.ndarray, actor: _Actor, take: _Take, t: int, size: tuple[int, int]
) -> np.ndarray:
    """Draw frame `t` without noise, `(H, W, 3)` uint8."""
    width, height = size
    pad = math.ceil(_MARGIN * height)
    dx, dy = height * take.drift * np.sin(take.drift_phase + 2 * math.pi * t / take.drift_period)
    move = np.array([[1.0, 0.0, dx - pad], [0.0, 1.0, dy - pad]])
    picture = cv2.warpAffine(backdrop, move, size, flags=cv2.INTER_LINEAR)
    pose = CYCLES[action](take.phase + 2 * math.pi * t / take.period, actor.manner)
    pose = pose.mirrored() if take.mirrored else pose
    foot = 0.5 * width + actor.x * height + dx, actor.ground * height + dy
    tall = actor.height * height
    skeleton = skeleton_of(pose, actor.body, foot=foot, height=tall)
    draw_figure(picture, skeleton, body=actor.body, height=tall, near=take.near)
    return picture
