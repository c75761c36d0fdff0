from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from slic.clips.augmentation import Augmentation, augment_flow, augment_frames, draw_augmentation
from slic.clips.device_augment import CutClips, augment_cut, cut
from slic.clips.device_resample import filter_weights
from slic.config import make_settings

CPU = torch.device("cpu")
SETTINGS = replace(
    make_settings("ucf101-16f"),
    jitter_probability=0.8,
    grayscale_probability=0.3,
    blur_probability=0.5,
)
SIZES = (8, 9, 16, 33, 64, 112, 130)
KINDS = ("scene", "noise")


def content(kind: str, count: int, height: int, width: int, *, seed: int) -> np.ndarray:
    """Noise, or drifting soft colours with hard-edged boxes on them: `(count, H, W, 3)` uint8."""
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    ground = rng.standard_normal((height + count, width + count, 3)).astype(np.float32)
    ground = cv2.GaussianBlur(ground, (0, 0), max(1, min(height, width) / 20))
    ground = cv2.normalize(ground, None, 0, 255, cv2.NORM_MINMAX)
    clip = np.stack([ground[t : t + height, t : t + width] for t in range(count)])
    for _ in range(4):
        y, x, h, w = rng.integers((0, 0, 1, 1), (height, width, height, width))
        clip[:, y : y + h // 2 + 1, x : x + w // 2 + 1] = rng.integers(0, 256, 3)
    return np.rint(clip).astype(np.uint8)


def flow_like(count: int, height: int, width: int, *, seed: int) -> np.ndarray:
    """Quantised flow of all levels, the unused 0 among them."""
    clip = content(KINDS[seed % 2], count, height, width, seed=seed)
    return np.ascontiguousarray(clip[..., :2])


def on_device(clips: list, draws: list[Augmentation], size: int, *, components="u") -> np.ndarray:
    out = augment_cut(cut(clips, draws), size=size, components=components, device=CPU)
    assert out.dtype == torch.uint8
    assert out.is_contiguous()
    return out.numpy()


def plain(height: int, width: int, **changed) -> Augmentation:
    """A draw that does nothing but what is asked for."""
    params = Augmentation(0, 0, height, width, flip=False, jitter=(), gray=False, sigma=0.0)
    return replace(params, **changed)


def apart(mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    assert mine.shape == theirs.shape
    return np.abs(mine.astype(int) - theirs.astype(int))


def colours_alone(clip: np.ndarray, **changed) -> np.ndarray:
    """Square frames, neither cut nor resized, after some operations."""
    side = clip.shape[1]
    return on_device([clip], [plain(side, side, **changed)], side)[0]


def channels_first(clip: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(clip).permute(0, 3, 1, 2)


def channels_last(clip: torch.Tensor) -> np.ndarray:
    return clip.permute(0, 2, 3, 1).numpy()


def some_batch(seed: int, count: int = 7) -> tuple[list[np.ndarray], list[Augmentation], int]:
    """Clips of several sizes, frames and flow in any order, their draws, and a size to reach."""
    rng = np.random.default_rng(seed)
    clips, draws = [], []
    for i in range(count):
        height, width = (int(side) for side in rng.integers(8, 180, 2))
        make = flow_like(3, height, width, seed=100 * seed + i)
        frames = content(KINDS[i % 2], 3, height, width, seed=100 * seed + i)
        clips.append(make if rng.random() < 0.4 else frames)
        draws.append(draw_augmentation(height, width, rng, settings=SETTINGS))
    return clips, draws, int(rng.choice(SIZES))


# Against the path by OpenCV.

# Smaller both ways (shared out), larger both ways, larger one way, odd, tiny, tall, as it is.
CROPS = [(40, 50), (16, 20), (9, 30), (24, 24), (1, 1), (77, 13)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("height", "width"), CROPS)
def test_crops_are_resized_and_mirrored_as_on_the_cpu(height, width, flip, kind):
    size = 24
    clip = content(kind, 3, 100, 80, seed=height)
    params = plain(height, width, top=3, left=11, flip=flip)
    off = apart(on_device([clip], [params], size)[0], augment_frames(clip, params, size))
    # OpenCV's fixed point rounds down where it interpolates: by an eighth of a level on average.
    assert off.max() <= 1
    assert off.mean() <= (0.01 if min(height, width) > size else 0.15)


# Largest and mean difference in levels. OpenCV turns hue by a byte, twice rounded, in steps of 6.
AGAINST_OPENCV = {
    "brightness": (1, 0.001),
    "contrast": (1, 0.001),
    "saturation": (1, 0.15),
    "hue": (7, 0.5),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [8, 13, 64])
@pytest.mark.parametrize("name", AGAINST_OPENCV)
def test_each_jitter_is_the_cpus(name, side, kind):
    most, mean = AGAINST_OPENCV[name]
    for seed in range(4):
        clip = content(kind, 2, side, side, seed=seed)
        low, high = (-0.5, 0.5) if name == "hue" else (0.0, 2.0)
        jitter = ((name, float(np.random.default_rng(seed).uniform(low, high))),)
        theirs = augment_frames(clip, plain(side, side, jitter=jitter), side)
        off = apart(colours_alone(clip, jitter=jitter), theirs)
        assert off.max() <= most
        assert off.mean() <= mean


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [8, 9, 29, 30, 112])
@pytest.mark.parametrize(
    "changed", [{"gray": True}, {"sigma": 0.1}, {"sigma": 0.6}, {"sigma": 2.0}], ids=str
)
def test_gray_and_blur_are_the_cpus(changed, side, kind):
    clip = content(kind, 2, side, side, seed=side)
    off = apart(
        colours_alone(clip, **changed), augment_frames(clip, plain(side, side, **changed), side)
    )
    assert off.max() <= 1
    assert off.mean() <= 0.01


@pytest.mark.parametrize("hue", [True, False])
def test_drawn_augmentations_are_the_cpus(hue):
    """All operations together: what differs by a level is stretched by those that follow."""
    offs = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size, height, width = int(rng.choice(SIZES)), *(int(s) for s in rng.integers(8, 180, 2))
        params = draw_augmentation(height, width, rng, settings=SETTINGS)
        if not hue:
            params = replace(
                params, jitter=tuple(step for step in params.jitter if step[0] != "hue")
            )
        clip = content(KINDS[seed % 2], 2, height, width, seed=seed)
        offs.append(apart(on_device([clip], [params], size)[0], augment_frames(clip, params, size)))
    most, worst, mean = (16, 1.0, 0.35) if hue else (8, 0.6, 0.2)
    assert max(off.max() for off in offs) <= most
    assert max(off.mean() for off in offs) <= worst
    assert np.mean([off.mean() for off in offs]) <= mean


@pytest.mark.parametrize("components", ["u", "v", "uv"])
def test_drawn_flow_is_the_cpus(components):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size, height, width = int(rng.choice(SIZES)), *(int(s) for s in rng.integers(8, 180, 2))
        params = draw_augmentation(height, width, rng, settings=SETTINGS)
        flow = flow_like(3, height, width, seed=seed)
        theirs = augment_flow(flow, params, size, components=components)
        off = apart(on_device([flow], [params], size, components=components)[0], theirs)
        assert off.max() <= 1
        assert off.mean() <= 0.2


# Against libraries of their own.


@pytest.mark.parametrize("turns", [-0.5, -0.2, -0.01, 0.0, 0.1, 0.123, 0.33, 0.5])
def test_hue_is_torchvisions(turns):
    levels = np.linspace(0, 255, 16).astype(np.uint8)
    clip = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, 64, 64, 3)
    theirs = channels_last(tv.adjust_hue(channels_first(clip), turns))
    assert apart(colours_alone(clip, jitter=(("hue", turns),)), theirs).max() <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 8, 15])
@pytest.mark.parametrize("length", [1, 3, 13, 41])
def test_a_filter_is_opencvs_even_where_it_is_longer_than_the_line(size, length):
    rng = np.random.default_rng(size)
    kernels, lines = rng.random((4, length)), rng.random((4, size))
    weights = filter_weights(list(kernels), size, CPU).numpy()
    for kernel, line, weight in zip(kernels, lines, weights, strict=True):
        theirs = cv2.sepFilter2D(line[None], -1, kernel, np.ones(1))[0]
        assert weight @ line == pytest.approx(theirs, rel=1e-5)


# Batches.


@pytest.mark.parametrize("seed", range(4))
def test_a_clip_does_not_depend_on_its_companions(seed):
    clips, draws, size = some_batch(seed)
    batch = on_device(clips, draws, size, components="uv")
    assert batch.shape == (7, 3, size, size, 3)
    for clip, params, got in zip(clips, draws, batch, strict=True):
        assert np.array_equal(got, on_device([clip], [params], size, components="uv")[0])


# Flow.


@pytest.mark.parametrize("level", [0, 1, 2, 127, 128, 129, 254, 255])
@pytest.mark.parametrize("size", [8, 33, 64])
def test_a_flip_gives_256_less_the_level(level, size):
    still = np.full((2, 50, 41, 2), level, np.uint8)
    for height, width in ((50, 41), (13, 29), (34, 35)):
        params = plain(height, width, flip=True)
        u, v, third = on_device([still], [params], size, components="uv").reshape(-1, 3).T
        # Level 0 is unused, and counts as 1.
        assert (u == 256 - max(level, 1)).all()
        assert (v == level).all()
        assert (third == 128).all()


# The device.


@pytest.mark.parametrize("seed", range(2))
def test_the_device_is_never_waited_for(seed):
    """On the meta device there are no values: whatever needs one fails."""
    clips, draws, size = some_batch(seed)
    out = augment_cut(cut(clips, draws), size=size, components="uv", device=torch.device("meta"))
    assert (out.shape, out.dtype) == ((7, 3, size, size, 3), torch.uint8)


def test_autocast_does_not_reach_the_products():
    clips, draws, size = some_batch(1)
    expected = on_device(clips, draws, size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(on_device(clips, draws, size), expected)


# The way from the readers.


def same(mine: CutClips, theirs: CutClips) -> bool:
    tensors = torch.equal(mine.frames, theirs.frames) and torch.equal(mine.flow, theirs.flow)
    return tensors and (mine.params, mine.places) == (theirs.params, theirs.places)


def test_cut_clips_are_pinned(monkeypatch):
    """As torch's DataLoader does it: by the batch's own method, where it has one."""
    clips, draws, _ = some_batch(2)
    made = cut(clips, draws)
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda t: pinned.append(t.shape) or t.clone())
    after = torch.utils.data._utils.pin_memory.pin_memory(made)
    assert pinned == [made.frames.shape, made.flow.shape]
    assert same(after, made)
