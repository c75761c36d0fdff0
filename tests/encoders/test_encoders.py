from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from slic.config import EncoderName
from slic.encoders.checkpoints import CHECKPOINT_FORMAT, load_encoder
from slic.encoders.encoder import MEAN, STD, Encoder, least_input, new_encoder, weights_digest
from slic.errors import CheckpointError, InputError

NAMES = get_args(EncoderName)


@pytest.fixture(scope="module")
def r3d18() -> Encoder:
    return new_encoder("r3d18", seed=0)


@pytest.fixture(scope="module")
def small() -> Encoder:
    return new_encoder("small", seed=0).eval()


def content(encoder: Encoder, /, **changed: Any) -> dict[str, Any]:
    values = {
        "format": CHECKPOINT_FORMAT,
        "encoder": encoder.name,
        "model": encoder.state_dict(),
        "mean": list(MEAN),
        "std": list(STD),
    }
    return {**values, **changed}


def saved(path: Path, values: Any) -> Path:
    torch.save(values, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_encoder(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_convolutions_are_kaiming_fan_out(r3d18):
    conv = r3d18.stages[3][1].conv2[0]
    expected = (2 / (512 * 27)) ** 0.5
    # 7 million normal draws: their deviation has a standard error of 0.03 %.
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.002)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("frames", [16, 32])
@pytest.mark.parametrize("size", [112, 128, 171, 224])
def test_clips_of_the_usual_sizes_are_embedded(name, frames, size):
    # On the meta device shapes are computed, and nothing else.
    with torch.device("meta"):
        backbone, projection = Encoder(name)(torch.zeros(2, 3, frames, size, size))
    features = {"r3d18": 512, "r3d18-tv": 512, "s3d": 1024, "small": 128}[name]
    assert (tuple(backbone.shape), tuple(projection.shape)) == ((2, features), (2, 128))


@pytest.mark.parametrize("name", NAMES)
def test_the_least_clip_is_embedded_and_no_smaller_one(name):
    encoder = new_encoder(name, seed=0).eval()
    frames, size = least_input(name)
    with torch.no_grad():
        clips = torch.randn(1, 3, frames, size, size)
        assert all(torch.isfinite(rows).all() for rows in encoder(clips))
        for small in (clips[:, :, 1:], clips[..., 1:, :], clips[..., 1:]):
            # The limit is where the layers' own begins: without the check, they fail.
            with pytest.raises(RuntimeError):
                encoder.embed(nn.Sequential(*encoder.blocks())(small))
            with pytest.raises(
                InputError, match=f"{name} needs clips of {frames} frames of {size}x"
            ):
                encoder(small)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_applied_in_turn_and_recomputed_are_the_forward(name):
    encoder = new_encoder(name, seed=0).train()
    clips = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = torch.autograd.grad(encoder(clips)[1].square().sum(), encoder.stem.parameters())
    maps = clips
    for block in encoder.blocks():
        maps = checkpoint(block, maps, use_reentrant=False)
    found = torch.autograd.grad(encoder.embed(maps)[1].square().sum(), encoder.stem.parameters())
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.abs().max() > 0
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_no_encoder_drops_out_or_starts_by_mapping_all_clips_to_one_point(name):
    encoder = new_encoder(name, seed=0).eval()
    assert not any("Dropout" in type(module).__name__ for module in encoder.modules())
    draw = torch.Generator().manual_seed(0)
    clips = torch.randn(3, 3, 8, 32, 32, generator=draw) + torch.randn(
        3, 3, 1, 1, 1, generator=draw
    )
    with torch.no_grad():
        for rows in encoder(clips):
            unit = nn.functional.normalize(rows)
            cosines = (unit @ unit.T)[np.triu_indices(3, 1)]
            # The first clusters are of such embeddings: rounding must not make them.
            assert (1 - cosines).min() > 1e-4


def test_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(1)
    first = new_encoder("small", seed=5).state_dict()
    after = torch.rand(4)
    torch.manual_seed(2)
    second = new_encoder("small", seed=5).state_dict()
    other = new_encoder("small", seed=6).state_dict()
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(4))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert weights_digest(first) == weights_digest(second) != weights_digest(other)


def test_the_digest_depends_on_every_tensor_but_not_on_memory_layout(small):
    state = small.state_dict()
    digest = weights_digest(state)
    shuffled = dict(reversed(list(state.items())))
    assert weights_digest(shuffled) == digest
    last = new_encoder("small", seed=0).to(memory_format=torch.channels_last_3d)
    assert weights_digest(last.state_dict()) == digest
    for key in ("head.3.bias", "stem.1.running_mean"):
        assert weights_digest({**state, key: state[key] + 1e-6}) != digest


def test_a_checkpoint_gives_the_same_encoder_in_eval_mode(small, tmp_path):
    path = saved(tmp_path / "latest", content(small))
    torch.manual_seed(1)
    loaded = load_encoder(path)
    after = torch.rand(2)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(2))
    assert not loaded.training
    clips = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for mine, theirs in zip(loaded(clips), small(clips), strict=True):
            assert torch.equal(mine, theirs)


def without(key: str) -> Any:
    return lambda encoder: {k: v for k, v in content(encoder).items() if k != key}


REFUSED = {
    "a list": (lambda _: [1, 2], "not a slic checkpoint"),
    "foreign": (lambda _: {"state_dict": {}}, "not a slic checkpoint"),
    "newer": (lambda e: content(e, format=2), "format 2"),
    "another encoder's": (lambda e: content(e, encoder="r3d18"), "weights do not fit r3d18"),
    "of no encoder": (lambda e: content(e, encoder="r3d50"), "unknown encoder"),
    "of no name": (lambda e: content(e, encoder=["small"]), "unknown encoder"),
    "no state": (lambda e: content(e, model=None), "not a state dict"),
    "no tensors": (lambda e: content(e, model={"head.3.bias": 1}), "not a state dict"),
    "incomplete": (
        lambda e: content(e, model={"head.3.bias": e.head[3].bias.data}),
        "do not fit small",
    ),
    "no mean": (lambda e: content(e, mean=None), "normalisation"),
    "a deviation of 0": (lambda e: content(e, std=[0.2, 0.0, 0.2]), "normalisation"),
    "two means": (lambda e: content(e, mean=[0.5] * 2), "normalisation"),
    "letters": (lambda e: content(e, std=["a"] * 3), "normalisation"),
    "no deviation": (without("std"), "normalisation"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_checkpoint_of_the_encoder_is_refused(small, tmp_path, case):
    make, said = REFUSED[case]
    assert said in refusal(saved(tmp_path / "latest", make(small)))


def test_an_encoder_has_the_statistics_of_its_checkpoint(small, tmp_path):
    assert small.statistics == (MEAN, STD)
    path = saved(tmp_path / "latest", content(small, mean=[0.5, 0.4, 0.3], std=[0.2, 0.1, 0.3]))
    assert load_encoder(path).statistics == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
