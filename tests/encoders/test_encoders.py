from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models.video import r3d_18, s3d

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


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_r3d18_stem_is_7x7x7_of_stride_1_2_2_without_pooling(r3d18):
    conv = r3d18.stem[0]
    assert (conv.kernel_size, conv.stride, conv.padding) == ((7, 7, 7), (1, 2, 2), (3, 3, 3))
    assert (conv.in_channels, conv.out_channels, conv.bias) == (3, 64, None)
    assert not any("Pool" in type(module).__name__ for module in r3d18.modules())
    shapes = []
    hooks = [
        part.register_forward_hook(lambda *args: shapes.append(tuple(args[2].shape)))
        for part in (r3d18.stem, *(stage[-1] for stage in r3d18.stages))
    ]
    with torch.no_grad():
        backbone, projection = r3d18.eval()(torch.zeros(1, 3, 8, 32, 32))
    for hook in hooks:
        hook.remove()
    # Stages 2 to 4 halve time, height and width.
    assert shapes == [
        (1, 64, 8, 16, 16),
        (1, 64, 8, 16, 16),
        (1, 128, 4, 8, 8),
        (1, 256, 2, 4, 4),
        (1, 512, 1, 2, 2),
    ]
    assert (tuple(backbone.shape), tuple(projection.shape)) == ((1, 512), (1, 128))


def test_r3d18_stages_compute_what_torchvisions_do(r3d18):
    theirs = r3d_18().eval()
    layers = (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4)
    for stage, layer in zip(r3d18.stages, layers, strict=True):
        layer.load_state_dict(stage.state_dict())
    maps = torch.randn(1, 64, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = maps
    with torch.no_grad():
        for layer in layers:
            expected = layer(expected)
        assert torch.equal(r3d18.eval().stages(maps), expected)


def test_convolutions_are_kaiming_fan_out(r3d18):
    conv = r3d18.stages[3][1].conv2[0]
    expected = (2 / (512 * 27)) ** 0.5
    # 7 million normal draws: their deviation has a standard error of 0.03 %.
    assert conv.weight.std().item() == pytest.approx(expected, rel=0.002)


def test_the_projection_is_linear_bn_relu_linear_and_not_normalised(r3d18, small):
    kinds = [type(layer) for layer in r3d18.head]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    clips = torch.randn(3, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        backbone, projection = small(clips)
        assert torch.equal(projection, small.head(backbone))
    lengths = projection.norm(dim=1)
    assert not torch.allclose(lengths, torch.ones(3), atol=0.05)


def test_the_backbone_is_the_mean_over_time_and_space(small):
    clips = torch.randn(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps = small.stages(small.stem(clips)).numpy()
        backbone = small(clips)[0].numpy()
    naive = maps.reshape(*maps.shape[:2], -1).mean(axis=2)
    np.testing.assert_allclose(backbone, naive, rtol=1e-5, atol=1e-6)


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


def test_r3d18_tv_differs_in_its_stem_alone(r3d18):
    encoder = new_encoder("r3d18-tv", seed=0)
    theirs = r3d_18()
    conv, other = encoder.stem[0], theirs.stem[0]
    for attribute in ("kernel_size", "stride", "padding", "in_channels", "out_channels", "bias"):
        assert getattr(conv, attribute) == getattr(other, attribute)
    assert count(encoder) - count(encoder.head) == count(theirs) - count(theirs.fc)
    for part in ("stages", "head"):
        shapes = [
            {key: value.shape for key, value in getattr(e, part).state_dict().items()}
            for e in (encoder, r3d18)
        ]
        assert shapes[0] == shapes[1]


def test_s3d_is_torchvisions_but_for_the_constants_of_its_normalisation():
    encoder = new_encoder("s3d", seed=0)
    theirs = s3d().features
    assert count(encoder) - count(encoder.head) == count(theirs)
    norms = [m for m in encoder.modules() if isinstance(m, nn.BatchNorm3d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    # 5 convolutions before the nine mixed layers, and 8 in each; a normalisation after each.
    assert len(norms) == 5 + 9 * 8
    stride = [m.stride for m in encoder.modules() if isinstance(m, nn.Conv3d)]
    assert stride[:2] == [(1, 2, 2), (2, 1, 1)]


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


def test_a_truncated_checkpoint_is_refused(small, tmp_path):
    path = saved(tmp_path / "latest", content(small))
    data = path.read_bytes()
    for length in (10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        assert "not a checkpoint" in refusal(path)


def test_another_encoders_weights_are_refused(small, tmp_path):
    path = saved(tmp_path / "latest", content(small, encoder="r3d18"))
    assert "weights do not fit r3d18" in refusal(path)
    for name in ("r3d50", ["small"], None):
        path = saved(tmp_path / "latest", content(small, encoder=name))
        assert "unknown encoder" in refusal(path)


def test_incomplete_or_wrong_weights_are_refused(small, tmp_path):
    state = dict(small.state_dict())
    del state["head.3.bias"]
    for model in ([], None, {"head.3.bias": 1}):
        assert "no state dict" in refusal(saved(tmp_path / "x", content(small, model=model)))
    for model in (state,):
        assert "do not fit small" in refusal(saved(tmp_path / "x", content(small, model=model)))


def test_foreign_newer_and_unnormalised_checkpoints_are_refused(small, tmp_path):
    path = tmp_path / "latest"
    for foreign in ([1, 2], {"state_dict": {}}, torch.zeros(3)):
        assert "not a checkpoint of slic" in refusal(saved(path, foreign))
    assert "format 2" in refusal(saved(path, content(small, format=2)))
    broken = ({"mean": None}, {"std": [0.2, 0.0, 0.2]}, {"mean": [0.5] * 2}, {"std": ["a"] * 3})
    for change in broken:
        assert "normalisation" in refusal(saved(path, content(small, **change)))
    without = content(small)
    del without["std"]
    assert "normalisation" in refusal(saved(path, without))


def test_an_encoder_has_the_statistics_of_its_checkpoint(small, tmp_path):
    assert small.statistics == (MEAN, STD)
    path = saved(tmp_path / "latest", content(small, mean=[0.5, 0.4, 0.3], std=[0.2, 0.1, 0.3]))
    assert load_encoder(path).statistics == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
