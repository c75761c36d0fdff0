"""Drawn clips: a person doing an action before a scene, every detail drawn at random."""

import colorsys
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from slic.demo.figures import ACTIONS, Body, Colour, Limb, Manner, draw_figure, pose_of, skeleton_of
from slic.errors import SettingsError

_MARGIN = 0.06  # of the height: scenery beyond the frame, for the camera to drift over
_GOLDEN = (math.sqrt(5) - 1) / 2
_IDLE_ARMS: tuple[Limb, ...] = ((0.15, 0.0), (0.4, 0.1), (0.75, -1.5))


@dataclass(frozen=True)
class _Actor:
    """A person and where they stand, lengths as fractions of the frame's height."""

    body: Body
    manner: Manner
    x: float  # from the middle of the frame
    ground: float
    height: float


@dataclass(frozen=True)
class _Take:
    """What differs between the clips of one group; angles in radians, times in frames."""

    period: float
    phase: float
    mirrored: bool
    near: int
    gain: float
    drift: np.ndarray  # (2, 3): for x and y the amplitude (of the height), period, phase


def draw_clip(
    action: str,
    *,
    group: int,
    clip: int,
    frames: int = 40,
    size: tuple[int, int] = (128, 96),
    scene_bias: float = 0.4,
    seed: int = 0,
) -> np.ndarray:
    """One clip of an action, the same for the same arguments.

    Args:
        action: One of `ACTIONS`.
        group: Clips of a group share scene and person, as UCF101's do.
        clip: Tempo, phase, camera drift and mirroring are this clip's own.
        frames: Length T, from 1; a longer clip begins with the shorter one.
        size: Width and height in pixels, from 16.
        scene_bias: Fraction of an action's groups whose background has the action's colour.
        seed: Another seed, another data set.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        SettingsError: An argument is out of range.
    """
    pictures = iterate_clip(
        action,
        group=group,
        clip=clip,
        frames=frames,
        size=size,
        scene_bias=scene_bias,
        seed=seed,
    )
    return np.stack(list(pictures))


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
    """The frames of `draw_clip` one by one, each (H, W, 3) uint8 RGB, in flat memory."""
    _check(action, frames=frames, size=size, scene_bias=scene_bias)
    rng = _generator(seed, action, group)
    hue = _background_hue(rng, action, group=group, scene_bias=scene_bias, seed=seed)
    scene, brightness = _draw_scene(rng, hue, size=size)
    actor = _cast(rng, brightness)
    own = _generator(seed, action, group, clip)
    take = _direct(own)
    return _film(action, scene, actor=actor, take=take, rng=own, frames=frames, size=size)


def _check(action: str, *, frames: int, size: tuple[int, int], scene_bias: float) -> None:
    if action not in ACTIONS:
        raise SettingsError(f"no action {action!r}: choose one of {', '.join(ACTIONS)}")
    if frames < 1:
        raise SettingsError(f"a drawn clip of {frames} frames: ask for 1 or more")
    if min(size) < 16:
        raise SettingsError(f"drawn clips of {size[0]}x{size[1]} pixels: ask for 16x16 or more")
    if not 0.0 <= scene_bias <= 1.0:
        raise SettingsError(f"scene_bias {scene_bias}: give a fraction from 0 to 1")


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.blake2b(repr(key).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _background_hue(
    rng: np.random.Generator, action: str, *, group: int, scene_bias: float, seed: int
) -> float:
    """The action's own hue for its share of the groups, else any hue; in [0, 1)."""
    any_hue, shift = rng.uniform(0.0, 1.0), rng.normal(0.0, 0.03)
    # Steps of the golden ratio spread the biased groups evenly over training and test groups.
    turn = (_generator(seed, action).uniform() + group * _GOLDEN) % 1.0
    own = ACTIONS.index(action) / len(ACTIONS) + shift
    return (own if turn < scene_bias else any_hue) % 1.0


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def _draw_scene(
    rng: np.random.Generator, hue: float, *, size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """A textured wall with shapes, lit from one side; float32 RGB with margins, and its value."""
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
    scene *= _lighting(rng, shape)
    return np.clip(scene, 0.0, 255.0), value


def _draw_distractor(
    rng: np.random.Generator, scene: np.ndarray, *, unit: int, value: float
) -> None:
    """A rectangle, a disc or a pole of any colour, in place."""
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


def _lighting(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """A plane of factors about 1, (H, W, 1) float32."""
    angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.35)
    y, x = np.mgrid[-1.0 : 1.0 : shape[0] * 1j, -1.0 : 1.0 : shape[1] * 1j]
    plane = 1.0 + strength * (math.cos(angle) * x + math.sin(angle) * y)
    return plane.astype(np.float32)[..., None]


def _cast(rng: np.random.Generator, brightness: float) -> _Actor:
    """A person, in colours that stand out against a background of that HSV value."""
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
    amplitude = rng.uniform(0.0, 0.015, 2)
    return _Take(
        period=rng.uniform(9.0, 16.0),
        phase=rng.uniform(0.0, 2 * math.pi),
        mirrored=bool(rng.random() < 0.5),
        near=int(rng.integers(2)),
        gain=rng.uniform(0.92, 1.08),
        drift=np.stack(
            [amplitude, rng.uniform(50.0, 150.0, 2), rng.uniform(0.0, 2 * math.pi, 2)], axis=1
        ),
    )


def _film(
    action: str,
    scene: np.ndarray,
    *,
    actor: _Actor,
    take: _Take,
    rng: np.random.Generator,
    frames: int,
    size: tuple[int, int],
) -> Iterator[np.ndarray]:
    width, height = size
    pad = math.ceil(_MARGIN * height)
    backdrop = np.clip(scene * take.gain, 0, 255).astype(np.uint8)
    # One field of sensor noise, seen through a window that jumps: as good, and fast.
    noise = np.rint(rng.normal(0.0, 3.0, (2 * height, 2 * width, 3))).astype(np.int16)
    figure_height = actor.height * height
    for t in range(frames):
        amplitude, period, start = take.drift.T
        dx, dy = height * amplitude * np.sin(start + 2 * math.pi * t / period)
        move = np.array([[1.0, 0.0, dx - pad], [0.0, 1.0, dy - pad]])
        picture = cv2.warpAffine(backdrop, move, size, flags=cv2.INTER_LINEAR)
        phase = take.phase + 2 * math.pi * t / take.period
        pose = pose_of(action, phase, manner=actor.manner)
        pose = pose.mirrored() if take.mirrored else pose
        foot = 0.5 * width + actor.x * height + dx, actor.ground * height + dy
        skeleton = skeleton_of(pose, actor.body, foot=foot, height=figure_height)
        draw_figure(picture, skeleton, body=actor.body, height=figure_height, near=take.near)
        top, left = rng.integers(height + 1), rng.integers(width + 1)
        grain = noise[top : top + height, left : left + width]
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)
