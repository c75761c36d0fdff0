import numpy as np
import pytest
import torch

from slic.config import make_settings
from slic.eval.augmented import RandomClip, dropout_mask, plan_clips
from slic.eval.recipe import Recipe

SETTINGS = make_settings("cpu-small", options={"frames": 4, "stride": 2, "size": 16})


def lengths_of(seed: int, videos: int) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    return {f"v{i}": int(rng.integers(1, 60)) for i in range(videos)}


@pytest.mark.parametrize(("videos", "batch_size"), [(1, 4), (33, 32), (50, 7), (64, 32)])
def test_an_epoch_takes_every_video_once(videos: int, batch_size: int) -> None:
    lengths = lengths_of(videos, videos)
    plan = plan_clips(lengths, SETTINGS, Recipe(batch_size=batch_size, seed=0), 3)
    clips = [clip for batch in plan for clip in batch]
    assert sorted(clip.video for clip in clips) == sorted(lengths)
    sizes = {len(batch) for batch in plan}
    assert (max(sizes) <= batch_size, max(sizes) - min(sizes) <= 1) == (True, True)
    for clip in clips:
        # 4 frames at stride 2 span 7; where they do not fit, they wrap.
        room = lengths[clip.video] - 7
        assert 0 <= clip.start < (room + 1 if room >= 0 else lengths[clip.video])


def test_draws_depend_on_seed_epoch_and_video_alone() -> None:
    lengths = lengths_of(0, 40)

    def draws(ids: list[str], batch_size: int, seed: int, epoch: int) -> dict[str, RandomClip]:
        chosen = {video: lengths[video] for video in ids}
        plan = plan_clips(chosen, SETTINGS, Recipe(batch_size=batch_size, seed=seed), epoch)
        return {clip.video: clip for batch in plan for clip in batch}

    first = draws(list(lengths), 8, 0, 0)
    few = draws(list(lengths)[::-3], 3, 0, 0)
    assert few == {video: first[video] for video in few}
    for other in (draws(list(lengths), 8, 1, 0), draws(list(lengths), 8, 0, 1)):
        assert {c.seed for c in other.values()}.isdisjoint(c.seed for c in first.values())
        assert list(other) != list(first)


@pytest.mark.parametrize("dropout", [0.0, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(dropout: float) -> None:
    batch = [RandomClip(f"v{i}", 0, i) for i in range(50)]
    mask = dropout_mask(batch, 400, dropout)
    assert (mask.shape, mask.dtype) == ((50, 400), torch.float32)
    levels = mask.unique().tolist()
    assert levels == pytest.approx([1.0] if dropout == 0 else [0.0, 1 / (1 - dropout)])
    # 20,000 tosses: at 0.9 the mean's deviation is 0.02.
    assert mask.mean().item() == pytest.approx(1, abs=0.1)
    assert torch.equal(mask[7:9], dropout_mask(batch[7:9], 400, dropout))
    assert dropout == 0 or not torch.equal(mask[0], mask[1])
