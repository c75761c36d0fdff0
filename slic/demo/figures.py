"""Articulated figures and ten actions: joint angles over a cycle, and how they are drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, get_args

import cv2
import numpy as np

Action = Literal[
    "ArmCircles",
    "Bowing",
    "Boxing",
    "Clapping",
    "JumpingJacks",
    "Kicking",
    "Running",
    "Squatting",
    "Walking",
    "Waving",
]
ACTIONS: tuple[str, ...] = get_args(Action)

# (angle of the upper part, bend of the lower part against it), in radians; 0 hangs down and
# positive turns towards the right of the picture, so pi points up.
Limb: TypeAlias = tuple[float, float]
Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, int, int]

_SUBPIXEL_BITS = 4  # cv2 takes coordinates in sixteenths of a pixel


@dataclass(frozen=True)
class Pose:
    """One moment of a body: limbs as (left, right) of the picture, angles in radians.

    Attributes:
        arms: Upper arm and elbow of both arms.
        legs: Thigh and knee of both legs.
        lean: Angle of the torso from upright, positive to the right.
        lift: Height of the lower foot above the ground, as a fraction of the body's height.
    """

    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    lean: float = 0.0
    lift: float = 0.0

    def mirrored(self) -> "Pose":
        """The same pose seen in a mirror."""
        return Pose(
            arms=_swapped(self.arms), legs=_swapped(self.legs), lean=-self.lean, lift=self.lift
        )


@dataclass(frozen=True)
class Manner:
    """How a person does things: what idle limbs do, and how far moving limbs go.

    Attributes:
        arm: Idle arm, outward angle and bend in radians.
        stance: Outward angle of standing legs, in radians.
        vigour: Factor on the range of a motion, about 1.
    """

    arm: Limb = (0.2, 0.0)
    stance: float = 0.12
    vigour: float = 1.0


@dataclass(frozen=True)
class Body:
    """Lengths as fractions of the body's height, and RGB colours."""

    thigh: float = 0.24
    shin: float = 0.23
    torso: float = 0.30
    upper_arm: float = 0.19
    forearm: float = 0.19
    head: float = 0.08
    breadth: float = 0.10
    limb_radius: float = 0.045
    torso_radius: float = 0.085
    skin: Colour = (225, 180, 150)
    shirt: Colour = (200, 60, 50)
    trousers: Colour = (40, 50, 90)
    outline: Colour = (20, 20, 20)


def pose_of(action: str, phase: float, *, manner: Manner | None = None) -> Pose:
    """Pose of an action at a phase of its cycle.

    Args:
        action: One of `ACTIONS`.
        phase: Radians; a cycle is 2 pi.
        manner: The person's way; a plain one by default.

    Raises:
        KeyError: The action is none of `ACTIONS`.
    """
    return _CYCLES[action](phase, manner or Manner())


def _swapped(limbs: tuple[Limb, Limb]) -> tuple[Limb, Limb]:
    (left, left_bend), (right, right_bend) = limbs
    return (-right, -right_bend), (-left, -left_bend)


def _both(angle: float, bend: float = 0.0) -> tuple[Limb, Limb]:
    """Both limbs alike, angles counted outward from the body."""
    return (-angle, -bend), (angle, bend)


def _idle_arms(manner: Manner) -> tuple[Limb, Limb]:
    return _both(*manner.arm)


def _standing(manner: Manner) -> tuple[Limb, Limb]:
    return _both(manner.stance)


def _rise(phase: float) -> float:
    """From 0 to 1 and back in a cycle."""
    return 0.5 - 0.5 * math.cos(phase)


def _arm_circles(phase: float, manner: Manner) -> Pose:
    return Pose(arms=_both(phase), legs=_standing(manner))


def _bowing(phase: float, manner: Manner) -> Pose:
    lean = 1.35 * manner.vigour * _rise(phase)
    (left, left_bend), (right, right_bend) = _idle_arms(manner)
    arms = (left - 0.5 * lean, left_bend), (right - 0.5 * lean, right_bend)
    return Pose(arms=arms, legs=_standing(manner), lean=lean)


def _boxing(phase: float, manner: Manner) -> Pose:
    def punch(when: float) -> Limb:
        out = min(1.0, manner.vigour * _rise(when))
        return 0.3 + 1.2 * out, 2.0 * (1.0 - out)

    return Pose(arms=(punch(phase), punch(phase + math.pi)), legs=_standing(manner))


def _clapping(phase: float, manner: Manner) -> Pose:
    apart = _rise(phase) * manner.vigour
    return Pose(arms=_both(0.7 + 0.9 * apart, -2.0 + 2.0 * apart), legs=_standing(manner))


def _jumping_jacks(phase: float, manner: Manner) -> Pose:
    spread = _rise(phase)
    legs = _both(manner.stance + 0.6 * manner.vigour * spread)
    lift = 0.07 * math.sin(phase) ** 2
    return Pose(arms=_both(0.25 + 2.6 * spread), legs=legs, lift=lift)


def _kicking(phase: float, manner: Manner) -> Pose:
    high = _rise(phase)
    kick = -0.6 + 2.4 * manner.vigour * high, -0.7 * (1.0 - high)
    legs = (-manner.stance, 0.0), kick
    return Pose(arms=_idle_arms(manner), legs=legs, lean=-0.35 * high)


def _running(phase: float, manner: Manner) -> Pose:
    def leg(when: float) -> Limb:
        bend = -0.3 - 1.4 * max(0.0, math.cos(when))
        return 0.2 + 0.8 * manner.vigour * math.sin(when), bend

    swing = 0.9 * manner.vigour * math.sin(phase)
    return Pose(
        arms=((-swing, 1.5), (swing, 1.5)),
        legs=(leg(phase), leg(phase + math.pi)),
        lean=0.2,
        lift=0.05 * math.cos(phase) ** 2,
    )


def _squatting(phase: float, manner: Manner) -> Pose:
    low = _rise(phase)
    legs = _both(manner.stance + 1.25 * manner.vigour * low, -2.1 * low)
    angle, bend = manner.arm
    return Pose(arms=_both(angle + (1.6 - angle) * low, bend * (1.0 - low)), legs=legs)


def _walking(phase: float, manner: Manner) -> Pose:
    def leg(when: float) -> Limb:
        return 0.55 * manner.vigour * math.sin(when), -0.7 * max(0.0, math.cos(when))

    swing = 0.55 * manner.vigour * math.sin(phase)
    return Pose(arms=((-swing, 0.2), (swing, 0.2)), legs=(leg(phase), leg(phase + math.pi)))


def _waving(phase: float, manner: Manner) -> Pose:
    sway = manner.vigour * math.sin(phase)
    arms = _idle_arms(manner)[0], (2.4 + 0.35 * sway, 0.3 + 0.9 * sway)
    return Pose(arms=arms, legs=_standing(manner))


_CYCLES: dict[str, Callable[[float, Manner], Pose]] = {
    "ArmCircles": _arm_circles,
    "Bowing": _bowing,
    "Boxing": _boxing,
    "Clapping": _clapping,
    "JumpingJacks": _jumping_jacks,
    "Kicking": _kicking,
    "Running": _running,
    "Squatting": _squatting,
    "Walking": _walking,
    "Waving": _waving,
}


@dataclass(frozen=True)
class Skeleton:
    """Joints in pixels (x to the right, y down): a limb is its root, its middle and its end."""

    neck: Point
    hip: Point
    head: Point
    arms: tuple[tuple[Point, Point, Point], ...]
    legs: tuple[tuple[Point, Point, Point], ...]


def skeleton_of(pose: Pose, body: Body, *, foot: Point, height: float) -> Skeleton:
    """Joints of a posed body.

    Args:
        pose: Angles of the joints.
        body: Proportions.
        foot: Where on the ground the body stands, (x, y) in pixels; the lower foot touches
            this y, or hangs `pose.lift` above it.
        height: Height of the upright body, in pixels.
    """
    x, ground = foot
    legs = [_limb((0.0, 0.0), limb, body.thigh, body.shin) for limb in pose.legs]
    lowest = max(leg[2][1] for leg in legs)
    up = -math.sin(pose.lean), math.cos(pose.lean)
    neck = -up[0] * body.torso, -up[1] * body.torso
    reach = body.torso + body.head + 0.02
    head = -up[0] * reach, -up[1] * reach
    half = 0.5 * body.breadth
    arms = [
        _limb(
            (neck[0] + side * half * up[1], neck[1] - side * half * up[0]),
            limb,
            body.upper_arm,
            body.forearm,
        )
        for side, limb in zip((-1.0, 1.0), pose.arms, strict=True)
    ]

    def place(point: Point) -> Point:
        return x + height * point[0], ground + height * (point[1] - lowest - pose.lift)

    return Skeleton(
        neck=place(neck),
        hip=place((0.0, 0.0)),
        head=place(head),
        arms=tuple((place(a), place(b), place(c)) for a, b, c in arms),
        legs=tuple((place(a), place(b), place(c)) for a, b, c in legs),
    )


def draw_figure(
    picture: np.ndarray, skeleton: Skeleton, *, body: Body, height: float, near: int = 1
) -> None:
    """Draw a body over a picture, in place.

    Args:
        picture: (H, W, 3) uint8 RGB.
        skeleton: Joints in pixels.
        body: Thickness and colours.
        height: Height of the upright body, in pixels.
        near: Which arm and leg, 0 or 1, pass before the body; the others pass behind it.
    """
    limb, trunk = body.limb_radius * height, body.torso_radius * height
    rim = 0.012 * height
    far = 1 - near
    parts: list[tuple[tuple[Point, ...], float, Colour]] = [
        (skeleton.arms[far], limb, _shaded(body.skin)),
        (skeleton.legs[far], limb * 1.15, _shaded(body.trousers)),
        (skeleton.legs[near], limb * 1.15, body.trousers),
        ((skeleton.hip, skeleton.neck), trunk, body.shirt),
        ((skeleton.head, skeleton.head), body.head * height, body.skin),
        (skeleton.arms[near], limb, body.skin),
    ]
    for joints, radius, colour in parts:
        _draw_chain(picture, joints, radius=radius + rim, colour=body.outline)
        _draw_chain(picture, joints, radius=radius, colour=colour)


def _limb(root: Point, limb: Limb, upper: float, lower: float) -> tuple[Point, Point, Point]:
    angle, bend = limb
    middle = root[0] + upper * math.sin(angle), root[1] + upper * math.cos(angle)
    end = (
        middle[0] + lower * math.sin(angle + bend),
        middle[1] + lower * math.cos(angle + bend),
    )
    return root, middle, end


def _shaded(colour: Colour) -> Colour:
    """A colour as it looks on the far side of a body."""
    red, green, blue = (int(0.75 * channel) for channel in colour)
    return red, green, blue


def _draw_chain(
    picture: np.ndarray, joints: tuple[Point, ...], *, radius: float, colour: Colour
) -> None:
    """Thick anti-aliased strokes with round ends, to a sixteenth of a pixel."""
    scale = 1 << _SUBPIXEL_BITS
    for x, y in joints:
        centre = round(x * scale), round(y * scale)
        cv2.circle(picture, centre, round(radius * scale), colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for (ax, ay), (bx, by) in pairwise(joints):
        length = math.hypot(bx - ax, by - ay)
        if length < 1e-6:
            continue
        nx, ny = radius * (ay - by) / length, radius * (bx - ax) / length
        corners = [(ax + nx, ay + ny), (bx + nx, by + ny), (bx - nx, by - ny), (ax - nx, ay - ny)]
        cv2.fillConvexPoly(
            picture,
            np.rint(np.array(corners) * scale).astype(np.int32),
            colour,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )
