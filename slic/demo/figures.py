"""Stick figures with joints, their ten actions as cycles of poses, and how they are drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import cv2
import numpy as np

# Angle of the upper part and bend of the lower part against it, in radians. 0 hangs down and a
# positive angle turns towards the right of the picture, so pi points up.
Limb: TypeAlias = tuple[float, float]
Limbs: TypeAlias = tuple[Limb, ...]
Point: TypeAlias = tuple[float, float]
Colour: TypeAlias = tuple[int, ...]
Skeleton: TypeAlias = dict[str, np.ndarray]

_SUBPIXEL_BITS = 4  # OpenCV takes coordinates in sixteenths of a pixel


@dataclass(frozen=True)
class Pose:
    """Joint angles of a body at one moment; limbs are (left, right) as seen in the picture.

    Attributes:
        arms: upper arm and elbow of both arms.
        legs: thigh and knee of both legs.
        lean: angle of the torso from upright in radians, positive to the right.
        lift: height of the lower foot above the ground, as a fraction of the body's height.
    """

    arms: Limbs
    legs: Limbs
    lean: float = 0.0
    lift: float = 0.0

    def mirrored(self) -> "Pose":
        """Return the pose as seen in a mirror."""
        arms, legs = (
            tuple((-angle, -bend) for angle, bend in reversed(limbs))
            for limbs in (self.arms, self.legs)
        )
        return Pose(arms, legs, -self.lean, self.lift)


@dataclass(frozen=True)
class Manner:
    """How a person moves.

    Attributes:
        arm: outward angle and bend of an idle arm, in radians.
        stance: outward angle of standing legs, in radians.
        vigour: factor on the range of every motion, about 1.
    """

    arm: Limb = (0.2, 0.0)
    stance: float = 0.12
    vigour: float = 1.0


@dataclass(frozen=True)
class Body:
    """Proportions as fractions of the body's height, and RGB colours."""

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


def _both(angle: float, bend: float = 0.0) -> Limbs:
    """Return two symmetric limbs; angles are measured outward from the body."""
    return (-angle, -bend), (angle, bend)


def _rise(phase: float) -> float:
    """Go from 0 to 1 and back in one cycle."""
    return 0.5 - 0.5 * math.cos(phase)


def _arm_circles(phase: float, manner: Manner) -> Pose:
    return Pose(arms=_both(phase), legs=_both(manner.stance))


def _bowing(phase: float, manner: Manner) -> Pose:
    lean = 1.35 * manner.vigour * _rise(phase)
    (left, left_bend), (right, right_bend) = _both(*manner.arm)
    arms = (left - 0.5 * lean, left_bend), (right - 0.5 * lean, right_bend)
    return Pose(arms=arms, legs=_both(manner.stance), lean=lean)


def _boxing(phase: float, manner: Manner) -> Pose:
    def punch(when: float) -> Limb:
        out = min(1.0, manner.vigour * _rise(when))
        return 0.3 + 1.2 * out, 2.0 * (1.0 - out)

    return Pose(arms=(punch(phase), punch(phase + math.pi)), legs=_both(manner.stance))


def _clapping(phase: float, manner: Manner) -> Pose:
    open_ = _rise(phase) * manner.vigour
    return Pose(arms=_both(0.7 + 0.9 * open_, -2.0 + 2.0 * open_), legs=_both(manner.stance))


def _jumping_jacks(phase: float, manner: Manner) -> Pose:
    spread = _rise(phase)
    legs = _both(manner.stance + 0.6 * manner.vigour * spread)
    lift = 0.07 * math.sin(phase) ** 2
    return Pose(arms=_both(0.25 + 2.6 * spread), legs=legs, lift=lift)


def _kicking(phase: float, manner: Manner) -> Pose:
    high = _rise(phase)
    kick = -0.6 + 2.4 * manner.vigour * high, -0.7 * (1.0 - high)
    legs = (-manner.stance, 0.0), kick
    return Pose(arms=_both(*manner.arm), legs=legs, lean=-0.35 * high)


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
    arms = _both(*manner.arm)[0], (2.4 + 0.35 * sway, 0.3 + 0.9 * sway)
    return Pose(arms=arms, legs=_both(manner.stance))


# From a phase in radians, 2 pi to a cycle, to the pose of a person.
CYCLES: dict[str, Callable[[float, Manner], Pose]] = {
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
ACTIONS = tuple(CYCLES)


def skeleton_of(pose: Pose, body: Body, *, foot: Point, height: float) -> Skeleton:
    """Compute the joints of a body in a pose.

    Args:
        pose: joint angles.
        body: proportions.
        foot: point of the ground under the body, (x, y) in pixels. The lower foot is
            `pose.lift` above it.
        height: height of the upright body in pixels.

    Returns:
        Arrays of joints `(J, 2)` in pixels, x to the right and y down: `trunk` (hip and neck),
        `head`, and `arm0`, `arm1`, `leg0`, `leg1` (root, middle and end).
    """
    up = np.array([-math.sin(pose.lean), math.cos(pose.lean)])
    neck, head = -up * body.torso, -up * (body.torso + body.head + 0.02)
    across = 0.5 * body.breadth * np.array([up[1], -up[0]])
    joints = {"trunk": np.array([np.zeros(2), neck]), "head": np.array([head, head])}
    for i, side in enumerate((-1.0, 1.0)):
        joints[f"arm{i}"] = _limb(neck + side * across, pose.arms[i], body.upper_arm, body.forearm)
        joints[f"leg{i}"] = _limb(np.zeros(2), pose.legs[i], body.thigh, body.shin)
    lowest = max(joints["leg0"][2, 1], joints["leg1"][2, 1])
    return {
        name: foot + height * (points - (0.0, lowest) - (0.0, pose.lift))
        for name, points in joints.items()
    }


def draw_figure(
    picture: np.ndarray, skeleton: Skeleton, *, body: Body, height: float, near: int = 1
) -> None:
    """Draw a body onto a picture, in place.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        skeleton: joints, from `skeleton_of`.
        body: thickness and colours.
        height: height of the upright body in pixels.
        near: index (0 or 1) of the arm and leg in front of the body; the others are behind it.
    """
    limb, far = body.limb_radius, 1 - near
    parts = (
        (f"arm{far}", limb, _shaded(body.skin)),
        (f"leg{far}", limb * 1.15, _shaded(body.trousers)),
        (f"leg{near}", limb * 1.15, body.trousers),
        ("trunk", body.torso_radius, body.shirt),
        ("head", body.head, body.skin),
        (f"arm{near}", limb, body.skin),
    )
    for name, radius, colour in parts:
        for extra, fill in ((0.012, body.outline), (0.0, colour)):
            _draw_chain(picture, skeleton[name], (radius + extra) * height, fill)


def _limb(root: np.ndarray, limb: Limb, upper: float, lower: float) -> np.ndarray:
    angle, bend = limb
    middle = root + upper * np.array([math.sin(angle), math.cos(angle)])
    end = middle + lower * np.array([math.sin(angle + bend), math.cos(angle + bend)])
    return np.array([root, middle, end])


def _shaded(colour: Colour) -> Colour:
    """Darken a colour, for the far side of a body."""
    return tuple(int(0.75 * channel) for channel in colour)


def _draw_chain(picture: np.ndarray, joints: np.ndarray, radius: float, colour: Colour) -> None:
    """Draw thick anti-aliased strokes with round ends."""
    scale = 1 << _SUBPIXEL_BITS
    style = (colour, -1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for x, y in joints:
        centre = round(x * scale), round(y * scale)
        cv2.circle(picture, centre, round(radius * scale), *style)
    for a, b in pairwise(joints):
        length = math.hypot(*(b - a))
        if length < 1e-6:
            continue
        side = radius * np.array([a[1] - b[1], b[0] - a[0]]) / length
        corners = np.rint(np.array([a + side, b + side, b - side, a - side]) * scale)
        cv2.fillConvexPoly(picture, corners.astype(np.int32), colour, cv2.LINE_AA, _SUBPIXEL_BITS)
