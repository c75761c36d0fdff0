import random
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18
from torchvision.models.video import r2plus1d_18, r3d_18, s3d

from slic.encoders.checkpoints import CHECKPOINT_FORMAT
from slic.encoders.encoder import MEAN, STD, Encoder, new_encoder
from slic.encoders.weights import Weights, load_weights, read_weights
from slic.errors import CheckpointError

HEAD = ("fc1.", "bn_proj.", "fc2.")


class ReferenceBlock(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(after)
        self.conv2 = nn.Conv3d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(after)
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride, bias=False), nn.BatchNorm3d(after)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class ReferenceR3D18(nn.Module):
    """R3D-18 as the authors' code has it: 3D-ResNets-PyTorch without pooling, shortcut B."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, (1, 2, 2), 3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        for number, (before, after, stride) in enumerate(
            ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2)), start=1
        ):
            pair = ReferenceBlock(before, after, stride), ReferenceBlock(after, after, 1)
            self.add_module(f"layer{number}", nn.Sequential(*pair))
        self.fc1 = nn.Linear(512, 2048)
        self.bn_proj = nn.BatchNorm1d(2048)
        self.fc2 = nn.Linear(2048, 128)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        x = F.adaptive_avg_pool3d(x, 1).flatten(1)
        return x, self.fc2(F.relu(self.bn_proj(self.fc1(x))))


class CoclrConv(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, 1, bias=False)
        self.bn = nn.BatchNorm3d(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class CoclrSeparable(nn.Module):
    """Convolution in space, then in time, each normalised and rectified."""

    def __init__(self, before: int, after: int, k: int, stride: int) -> None:
        super().__init__()
        space, pad = (1, k, k), (0, k // 2, k // 2)
        self.conv1 = nn.Conv3d(before, after, space, (1, stride, stride), pad, bias=False)
        self.conv2 = nn.Conv3d(after, after, (k, 1, 1), (stride, 1, 1), (k // 2, 0, 0), bias=False)
        self.bn1, self.bn2 = nn.BatchNorm3d(after), nn.BatchNorm3d(after)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class CoclrMixed(nn.Module):
    def __init__(self, before: int, a: int, b1: int, b: int, c1: int, c: int, d: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(CoclrConv(before, a))
        self.branch1 = nn.Sequential(CoclrConv(before, b1), CoclrSeparable(b1, b, 3, 1))
        self.branch2 = nn.Sequential(CoclrConv(before, c1), CoclrSeparable(c1, c, 3, 1))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), CoclrConv(before, d))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)


class CoclrS3D(nn.Module):
    """S3D as in CoCLR's code, where each layer is registered twice."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool3d
        self.Conv_1a = CoclrSeparable(3, 64, 7, 2)
        self.block1 = nn.Sequential(self.Conv_1a)
        self.MaxPool_2a = pool((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.Conv_2b, self.Conv_2c = CoclrConv(64, 64), CoclrSeparable(64, 192, 3, 1)
        self.block2 = nn.Sequential(self.MaxPool_2a, self.Conv_2b, self.Conv_2c)
        self.MaxPool_3a = pool((1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.Mixed_3b = CoclrMixed(192, 64, 96, 128, 16, 32, 32)
        self.Mixed_3c = CoclrMixed(256, 128, 128, 192, 32, 96, 64)
        self.block3 = nn.Sequential(self.MaxPool_3a, self.Mixed_3b, self.Mixed_3c)
        self.MaxPool_4a = pool(3, 2, 1)
        self.Mixed_4b = CoclrMixed(480, 192, 96, 208, 16, 48, 64)
        self.Mixed_4c = CoclrMixed(512, 160, 112, 224, 24, 64, 64)
        self.Mixed_4d = CoclrMixed(512, 128, 128, 256, 24, 64, 64)
        self.Mixed_4e = CoclrMixed(512, 112, 144, 288, 32, 64, 64)
        self.Mixed_4f = CoclrMixed(528, 256, 160, 320, 32, 128, 128)
        fours = (self.Mixed_4b, self.Mixed_4c, self.Mixed_4d, self.Mixed_4e, self.Mixed_4f)
        self.block4 = nn.Sequential(self.MaxPool_4a, *fours)
        self.MaxPool_5a = pool(2, 2, 0)
        self.Mixed_5b = CoclrMixed(832, 256, 160, 320, 32, 128, 128)
        self.Mixed_5c = CoclrMixed(832, 384, 192, 384, 48, 128, 128)
        self.block5 = nn.Sequential(self.MaxPool_5a, self.Mixed_5b, self.Mixed_5c)

    def forward(self, x: Tensor) -> Tensor:
        for block in (self.block1, self.block2, self.block3, self.block4, self.block5):
            x = block(x)
        return F.adaptive_avg_pool3d(x, 1).flatten(1)


def coclr_head() -> list[nn.Module]:
    return [
        nn.AdaptiveAvgPool3d(1),
        nn.Conv3d(1024, 1024, 1),
        nn.ReLU(),
        nn.Conv3d(1024, 128, 1),
    ]


class CoclrPretraining(nn.Module):
    def __init__(self, network: CoclrS3D) -> None:
        super().__init__()
        self.encoder_q = nn.Sequential(network, *coclr_head())
        self.encoder_k = nn.Sequential(CoclrS3D(), *coclr_head())
        self.register_buffer("queue", torch.randn(128, 16))
        self.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))


def trained(network: nn.Module, *, seed: int) -> nn.Module:
    """With weights that keep the scale of activations, and statistics unlike fresh ones."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan) ** 0.5, generator=random)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d):
            # Small enough here and there for an epsilon of 1e-3 to show; the scale makes up for it.
            deviation = module.running_var.uniform_(0.002, 1.5, generator=random).sqrt()
            module.weight.data.uniform_(0.5, 1.2, generator=random).mul_(deviation)
            module.bias.data.normal_(0, 0.2, generator=random)
            module.running_mean.normal_(0, 0.2, generator=random)
            module.num_batches_tracked.fill_(seed)
    return network.eval()


def light(network: nn.Module) -> dict[str, Tensor]:
    """A state dict of the right shapes, of which each tensor is stored as one number."""
    return {
        k: torch.ones((), dtype=v.dtype).expand(v.shape) for k, v in network.state_dict().items()
    }


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 450
    return message


def loaded(path: Path) -> tuple[Encoder, Weights]:
    weights = read_weights(path)
    encoder = new_encoder(weights.encoder, seed=9)
    load_weights(encoder, weights, where=str(path))
    return encoder.eval(), weights


def clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(seed))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    # Else the clips would look alike to the network, and the comparison be of little worth.
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2
    scale = max(1.0, theirs.abs().max().item())
    assert (ours - theirs).abs().max().item() <= 1e-5 * scale


@pytest.fixture(scope="module")
def reference() -> ReferenceR3D18:
    network = trained(ReferenceR3D18(), seed=1)
    assert isinstance(network, ReferenceR3D18)
    return network


@pytest.fixture(scope="module")
def coclr() -> CoclrS3D:
    network = trained(CoclrS3D(), seed=2)
    assert isinstance(network, CoclrS3D)
    return network


@pytest.fixture
def names() -> dict[str, Tensor]:
    return light(ReferenceR3D18())


def test_the_references_r3d18_gives_the_same_embeddings(reference, tmp_path):
    optimiser = torch.optim.SGD(reference.fc2.parameters(), lr=0.1, momentum=0.5)
    content = {
        "epoch": 600,
        "arch": "3dresnet",
        "best_prec1": np.float64(0.71),
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in reference.state_dict().items()),
        "optimizer": optimiser.state_dict(),
    }
    encoder, weights = loaded(saved(tmp_path / "checkpoint.pth.tar", content))
    assert (weights.encoder, weights.has_head, weights.left_over) == ("r3d18", True, ())
    for shape in ((8, 32, 32), (5, 39, 50)):
        with torch.no_grad():
            ours, theirs = encoder(clips(*shape)), reference(clips(*shape))
        assert [tuple(o.shape) for o in ours] == [(2, 512), (2, 128)]
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    assert encoder.stem[1].num_batches_tracked == 1


@pytest.mark.parametrize(
    ("build", "name", "shape", "head"),
    [(r3d_18, "r3d18-tv", (8, 40, 33), "fc"), (s3d, "s3d", (14, 64, 70), "classifier.1")],
)
def test_torchvisions_networks_give_the_same_features(build, name, shape, head, tmp_path):
    network = trained(build(), seed=3)
    with torch.no_grad():
        if name == "s3d":
            theirs = network.features(clips(*shape)).mean(dim=(2, 3, 4))
        else:
            kept: list[Tensor] = []
            network.avgpool.register_forward_hook(lambda *args: kept.append(args[2].flatten(1)))
            network(clips(*shape))
            theirs = kept[0]
        encoder, weights = loaded(saved(tmp_path / "weights.pth", network.state_dict()))
        assert_same(encoder(clips(*shape))[0], theirs)
    assert weights.encoder == name
    assert not weights.has_head
    assert weights.left_over == (f"{head}.weight", f"{head}.bias")
    assert (weights.mean, weights.std) == (MEAN, STD)


def test_coclrs_s3d_gives_the_same_features(coclr, tmp_path):
    pretraining = CoclrPretraining(coclr)
    content = {
        "epoch": 300,
        "iteration": 9,
        "best_acc": torch.tensor(0.5),
        "state_dict": pretraining.state_dict(),
    }
    encoder, weights = loaded(saved(tmp_path / "epoch300.pth.tar", content))
    for shape in ((16, 64, 64), (7, 50, 81)):
        with torch.no_grad():
            assert_same(encoder(clips(*shape))[0], coclr(clips(*shape)))
    assert (weights.encoder, weights.has_head) == ("s3d", False)
    prefixes = ("encoder_q.2.", "encoder_q.4.", "encoder_k.", "queue")
    expected = [key for key in pretraining.state_dict() if key.startswith(prefixes)]
    assert list(weights.left_over) == expected


@pytest.mark.parametrize("prefix", ["encoder_q.0.", "module.encoder_q.0.", "backbone.", "0.", ""])
def test_coclrs_names_are_known_with_each_prefix(prefix, tmp_path):
    state = {f"{prefix}{key}": value for key, value in light(CoclrS3D()).items()}
    weights = read_weights(saved(tmp_path / "x", {"state_dict": state}))
    assert (weights.encoder, weights.left_over) == ("s3d", ())


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "module.encoder."])
@pytest.mark.parametrize("head", [True, False])
def test_the_references_names_are_known_with_each_prefix(names, prefix, head, tmp_path):
    kept = {key: value for key, value in names.items() if head or not key.startswith(HEAD)}
    state = {f"{prefix}{key}": value for key, value in kept.items()}
    weights = read_weights(saved(tmp_path / "x", {"state_dict": state, "epoch": 3}))
    assert (weights.encoder, weights.has_head, weights.left_over) == ("r3d18", head, ())
    assert any(key.startswith("head.") for key in weights.state) == head


def test_without_a_head_the_encoders_own_stays(names, tmp_path):
    bare = {key: value for key, value in names.items() if not key.startswith(HEAD)}
    weights = read_weights(saved(tmp_path / "x", bare))
    encoder = new_encoder("r3d18", seed=4)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    load_weights(encoder, weights, where="x")
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("head.") else weights.state[key])


def test_a_checkpoint_of_slic_gives_all_its_weights(tmp_path):
    encoder = new_encoder("small", seed=3)
    content = {
        "format": CHECKPOINT_FORMAT,
        "encoder": "small",
        "model": encoder.state_dict(),
        "mean": list(MEAN),
        "std": list(STD),
    }
    path = saved(tmp_path / "latest", content)
    copy, weights = loaded(path)
    assert (weights.encoder, weights.has_head, weights.left_over) == ("small", True, ())
    for key, value in encoder.state_dict().items():
        assert torch.equal(copy.state_dict()[key], value)
    assert "format 2" in refusal(saved(path, {**content, "format": 2}))
    assert "do not fit r3d18" in refusal(saved(path, {**content, "encoder": "r3d18"}))


def test_half_precision_and_the_format_of_old_pytorch_are_read(tmp_path):
    network = trained(s3d(), seed=5).half()
    path = tmp_path / "x.pth"
    torch.save(network.state_dict(), path, _use_new_zipfile_serialization=False)
    encoder, weights = loaded(path)
    values = [v for k, v in weights.state.items() if not k.endswith("num_batches_tracked")]
    assert all(value.dtype == torch.float32 for value in values)
    theirs = network.features[0][0][0].weight
    assert torch.equal(encoder.stem[0][0].weight, theirs.float())


@pytest.mark.parametrize("seed", range(4))
def test_any_weight_that_is_missing_or_misshapen_is_named(seed, tmp_path):
    draw = random.Random(seed)
    networks = [ReferenceR3D18, CoclrS3D, r3d_18, s3d]
    state = light(networks[seed]())
    spare = ("fc.", "classifier.", "block")
    keys = [k for k in state if not k.startswith(spare) and not k.endswith("batches_tracked")]
    for key in draw.sample(keys, 3):
        without = {k: v for k, v in state.items() if k != key}
        assert f"it lacks: {key}" in refusal(saved(tmp_path / "x", without))
        longer = torch.ones(1).expand(state[key].shape[0] + 1, *state[key].shape[1:])
        message = refusal(saved(tmp_path / "x", {**state, key: longer}))
        size = "x".join(map(str, longer.shape))
        right = "x".join(map(str, state[key].shape))
        assert f"do not fit: {key} is {size} of float32, not {right}" in message
        whole = state[key].to(torch.int64)
        assert "int64" in refusal(saved(tmp_path / "x", {**state, key: whole}))
        broken = torch.full((1,), float("nan")).expand(state[key].shape)
        assert f"not finite: {key}" in refusal(saved(tmp_path / "x", {**state, key: broken}))


@pytest.mark.parametrize(
    ("network", "extra"),
    [
        (ReferenceR3D18, "fc.weight"),  # 3D-ResNets-PyTorch's own networks pool after the stem
        (ReferenceR3D18, "channel_temporal_attention1.fc1.weight"),
        (ReferenceR3D18, "layer1.2.conv1.weight"),
        (CoclrS3D, "Mixed_3b.gating_b0.fc.weight"),  # S3D-G
        (r3d_18, "layer1.2.conv1.0.weight"),
        (s3d, "features.16.weight"),
    ],
)
def test_what_the_encoder_has_no_place_for_is_refused(network, extra, tmp_path):
    state = {**light(network()), extra: torch.ones(3)}
    message = refusal(saved(tmp_path / "x", state))
    assert "no place for" in message
    assert message.endswith(f": {extra}")


def test_other_networks_are_refused(tmp_path):
    path = tmp_path / "x"
    # The names of an image network are the reference's, but its convolutions are flat.
    state = {k: v for k, v in light(resnet18()).items() if not k.startswith("fc.")}
    assert "conv1.weight is 64x3x7x7 of float32, not 64x3x7x7x7" in refusal(saved(path, state))
    assert "it lacks: layer1.0.conv1.0.weight" in refusal(saved(path, light(r2plus1d_18())))
    # Shortcut type A has no weights.
    flat = {k: v for k, v in light(ReferenceR3D18()).items() if "downsample" not in k}
    assert "it lacks: layer2.0.downsample.0.weight" in refusal(saved(path, flat))
    linear = nn.Linear(2, 3).state_dict()
    assert "none of the networks" in refusal(saved(path, linear))


def test_what_is_no_state_dict_is_refused(names, tmp_path):
    path = tmp_path / "x"
    assert "save the network's state_dict() alone" in refusal(saved(path, {"model": names}))
    assert "no state dict" in refusal(saved(path, {"state_dict": {}}))
    assert "no state dict" in refusal(saved(path, [torch.zeros(3)]))
    for foreign in (np.zeros(3), None, 1.0, torch.ones(3, device="meta")):
        message = refusal(saved(path, {**names, "conv1.weight": foreign}))
        assert "not all in it are tensors (conv1.weight)" in message
    assert "not all in it are tensors" in refusal(saved(path, {**names, 3: torch.zeros(3)}))
    saved(path, {**names, "conv1.weight": torch.ones(3).to_sparse()})
    assert "not all in it are tensors" in refusal(path)
    assert "no such checkpoint" in refusal(tmp_path / "missing")
    assert "not a checkpoint" in refusal(tmp_path)
    path.write_bytes(b"garbage")
    assert "not a checkpoint" in refusal(path)


def test_numpy_values_beside_the_weights_are_no_hindrance(names, tmp_path):
    content = {
        "state_dict": names,
        "best_acc": np.float64(0.5),
        "epoch": np.int64(3),
        "seen": np.bool_(True),
        "confusion": np.arange(6.0).reshape(2, 3),
        "classes": np.array(["a", "bc"]),
        "anything": np.array([None, "x", 1.5], dtype=object),
    }
    assert read_weights(saved(tmp_path / "x.pth.tar", content)).encoder == "r3d18"


def test_numpy_values_are_known_by_the_names_of_numpy_1(names, tmp_path):
    content = {"state_dict": names, "best_prec1": np.float64(0.5), "table": np.zeros(3)}
    path = tmp_path / "x.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    now = path.read_bytes()
    old = now.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert len(old) < len(now)
    path.write_bytes(old)
    assert read_weights(path).encoder == "r3d18"


def test_weights_of_another_encoder_do_not_load(names, tmp_path):
    weights = read_weights(saved(tmp_path / "x", names))
    encoder = new_encoder("r3d18-tv", seed=0)
    with pytest.raises(CheckpointError, match=r"file: weights of r3d18, .* choose --encoder r3d18"):
        load_weights(encoder, weights, where="file")


def test_safetensors_are_read_where_the_package_is_installed(names, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert "needs the package safetensors" in refusal(path)

    def load_file(file: Path) -> dict[str, Tensor]:
        if file.read_bytes() != b"tensors":
            raise RuntimeError("HeaderTooSmall\nand more")
        return names

    package, module = ModuleType("safetensors"), ModuleType("safetensors.torch")
    monkeypatch.setattr(module, "load_file", load_file, raising=False)
    monkeypatch.setitem(sys.modules, "safetensors", package)
    monkeypatch.setitem(sys.modules, "safetensors.torch", module)
    assert "HeaderTooSmall" in refusal(path)
    assert "no such checkpoint" in refusal(tmp_path / "missing.safetensors")
    path.write_bytes(b"tensors")
    assert read_weights(path).encoder == "r3d18"


def test_the_examples_of_the_documentation_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    use, convert = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    torch.save({"model": light(s3d()), "args": Path("x")}, "checkpoint.pth")
    assert "pathlib" in refusal(Path("checkpoint.pth"))
    exec(convert, {})
    exec(use, {})
    said = capsys.readouterr().out
    assert "torchvision's s3d for s3d with head: False" in said
    assert "not used: classifier.1.weight classifier.1.bias" in said
