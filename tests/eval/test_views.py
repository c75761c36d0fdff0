from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from slic.cache import ClipStore
from slic.clips.positions import even_starts
from slic.clips.reading import ReaderPool
from slic.config import Settings, make_settings
from slic.eval.views import ClipViews, mean_probabilities, ten_crops

CPU = torch.device("cpu")
SETTINGS = make_settings("cpu-small", options={"frames": 3, "stride": 2, "size": 12})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_ten_crops_worked_out_by_hand() -> None:
    frame = np.zeros((8, 10, 3), dtype=np.uint8)
    frame[..., 0] = np.arange(8)[:, None] * 10 + np.arange(10)  # row and column as digits
    crops = ten_crops(frame, 7)[..., 0]  # 7/8 of 8: nothing is resized
    assert crops[:5, 0, 0].tolist() == [0, 3, 10, 13, 1]
    assert crops[:5, -1, -1].tolist() == [66, 69, 76, 79, 67]
    assert crops[5:, 0, 0].tolist() == [6, 9, 16, 19, 7]
    assert crops[5:, 0, -1].tolist() == [0, 3, 10, 13, 1]


@pytest.mark.parametrize(("height", "width", "size"), [(40, 24, 9), (11, 30, 32), (2, 1, 5)])
def test_crops_are_resized(height: int, width: int, size: int) -> None:
    frame = noise(height, width)
    side = max(1, round(min(height, width) * 7 / 8))
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    crops = ten_crops(frame, size)
    assert (crops.shape, crops.dtype) == ((10, size, size, 3), np.uint8)
    corner = cv2.resize(frame[height - side :, width - side :], (size, size), interpolation=how)
    assert np.array_equal(crops[3], corner)
    assert np.array_equal(crops[8], corner[:, ::-1])


@pytest.mark.parametrize("start", [0, 7, 18])
def test_views_are_of_the_clip_and_wrap_as_clips_do(store: ClipStore, start: int) -> None:
    entry = store.entries()[5]
    assert entry.frames == 20
    clip = store.read(entry.id, start, 3, stride=2)
    views = ClipViews(entry.id, 20, start, 10, SETTINGS)(store).numpy()
    assert views.shape == (10, 3, 12, 12, 3)
    assert np.array_equal(views, np.stack([ten_crops(frame, 12) for frame in clip], axis=1))
    (centre,) = ClipViews(entry.id, 20, start, 1, SETTINGS)(store).numpy()
    square = [
        cv2.resize(frame[:, 8:56], (12, 12), interpolation=cv2.INTER_AREA) for frame in clip
    ]  # of 64x48
    assert np.array_equal(centre, np.stack(square))


class Pixels(nn.Module):
    """Logits that depend on every part of a clip, and on no other clip."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(settings.frames * settings.size**2 * 3, 4)

    def forward(self, clips: Tensor) -> Tensor:
        return self.linear(clips.flatten(1).float() / 25)


def naive(network: nn.Module, store: ClipStore, entries: Sequence, clips: int) -> np.ndarray:
    rows = []
    for entry in entries:
        total, views = torch.zeros(4, dtype=torch.float64), 0
        for start in even_starts(entry.frames, clips, frames=3, stride=2):
            clip = store.read(entry.id, start, 3, stride=2)
            for view in np.stack([ten_crops(frame, 12) for frame in clip], axis=1):
                with torch.no_grad():
                    total += network(torch.from_numpy(view)[None])[0].double().softmax(0)
                views += 1
        rows.append((total / views).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("clips", "videos"), [(1, 1), (2, 5), (5, 4), (7, 3)])
def test_probabilities_are_averaged_over_all_views(
    store: ClipStore, clips: int, videos: int
) -> None:
    network, entries = Pixels(SETTINGS), store.entries()[:videos]
    done: list[tuple[int, float]] = []
    got = mean_probabilities(
        network,
        ReaderPool(store, workers=0),
        entries,
        settings=SETTINGS,
        clips=clips,
        crops=10,
        device=CPU,
        advance=lambda videos, views: done.append((videos, views)),
    )
    np.testing.assert_allclose(got, naive(network, store, entries, clips), atol=1e-6)
    assert np.ptp(got) > 0.05
    assert np.array(done).sum(axis=0).tolist() == [videos, videos * clips * 10]
