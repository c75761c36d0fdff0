import cv2
import numpy as np
import pytest
import torch

from slic.clips.pixels import centre_view
from slic.clips.positions import clip_span, even_starts, section_starts
from slic.encoders.encoder import MEAN, STD, normalise

CPU = torch.device("cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_one_clip_is_the_centre_one():
    # 100 frames, 16 in the clip: 84 are left over, 42 before it.
    assert even_starts(100, 1, frames=16) == [42]
    assert even_starts(100, 1, frames=8, stride=2) == [42]
    assert even_starts(101, 1, frames=16) == [42]


@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 40, 1776])
@pytest.mark.parametrize("clips", [1, 2, 3, 10])
def test_even_clips_lie_within_the_video_in_order(length, clips):
    starts = even_starts(length, clips, frames=8, stride=2)
    assert len(starts) == clips
    assert starts == sorted(starts)
    assert 0 <= starts[0] <= starts[-1] <= max(0, length - 15)
    if clips > 1:
        assert (starts[0], starts[-1]) == (0, max(0, length - 15))
        steps = np.diff(starts)
        # Rounding moves each start by half a frame at most.
        assert steps.max() - steps.min() <= 1


@pytest.mark.parametrize("shape", [(2, 48, 64, 3), (2, 64, 48, 3), (1, 49, 64, 2)])
def test_the_test_view_is_the_centre_square_resized(shape):
    clip = noise(*shape)
    side = min(shape[1:3])
    top, left = (shape[1] - side) // 2, (shape[2] - side) // 2
    square = clip[:, top : top + side, left : left + side]
    assert np.array_equal(centre_view(clip, side), square)
    smaller = [cv2.resize(f, (32, 32), interpolation=cv2.INTER_AREA) for f in square.copy()]
    assert np.array_equal(centre_view(clip, 32), smaller)
    larger = [cv2.resize(f, (96, 96), interpolation=cv2.INTER_LINEAR) for f in square.copy()]
    assert np.array_equal(centre_view(clip, 96), larger)


def test_pixels_are_scaled_less_the_mean_over_the_deviation():
    clips = torch.from_numpy(noise(2, 3, 4, 5, 3))
    got = normalise(clips, device=CPU)
    assert (got.shape, got.dtype) == ((2, 3, 3, 4, 5), torch.float32)
    expected = (clips.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    # Values reach 2.6 in size: float32 rounds them by 3e-7.
    torch.testing.assert_close(
        got.double(), expected.permute(0, 4, 1, 2, 3), rtol=0, atol=2e-6, check_stride=False
    )
    assert got.is_contiguous(memory_format=torch.channels_last_3d)
    assert normalise(clips, device=CPU, dtype=torch.float64).dtype == torch.float64
    other = normalise(clips, device=CPU, statistics=((0.5, 0.0, 0.25), (0.5, 1.0, 0.25)))
    pixels = clips.permute(0, 4, 1, 2, 3) / 255
    for channel, (mean, deviation) in enumerate(((0.5, 0.5), (0.0, 1.0), (0.25, 0.25))):
        expected = (pixels[:, channel] - mean) / deviation
        torch.testing.assert_close(other[:, channel], expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("clips", "frames", "stride"), [(1, 4, 1), (3, 4, 2), (10, 16, 1)])
def test_clips_of_a_section_lie_in_it_or_go_on_behind_it(clips, frames, stride):
    span = clip_span(frames, stride)
    shape = {"clips": clips, "frames": frames, "stride": stride}
    for length in (1, 5, 17, 40):
        for first in range(length):
            for count in range(1, length - first + 1):
                starts = section_starts(first, count, length=length, **shape)
                if count >= span:
                    inner = even_starts(count, clips, frames=frames, stride=stride)
                    assert starts == [first + start for start in inner]
                elif length >= span:
                    assert set(starts) == {min(first, length - span)}
                else:
                    assert set(starts) == {0}
