"""Weights from elsewhere, which load strictly or not at all."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slic.config import EncoderName
from slic.encoders.checkpoints import encoder_of, is_checkpoint, of_this_format
from slic.encoders.encoder import MEAN, STD, Encoder, Triple
from slic.encoders.tensor_files import State, read_pickled, read_safetensors, some, state_dict_in
from slic.encoders.weight_formats import EPSILON, FORMATS, Format
from slic.errors import CheckpointError

_COUNTER = "num_batches_tracked"  # absent in files of PyTorch before 0.4.1


@dataclass(frozen=True)
class Weights:
    """Weights of one encoder, by our names.

    Attributes:
        encoder: which encoder they are of.
        kind: whose they are, for a user to read.
        state: float32 tensors on the CPU: the whole backbone, and the head if `has_head`.
        has_head: whether the projection head is among them.
        left_over: names in the file that were not used, in its order.
        mean, std: by which RGB in 0..1 was normalised in their training, as far as is known: no
            file says, their authors' code does (docs/weights.md). torchvision's equal ours.
        settings: of the run whose checkpoint it is, if slic's.
    """

    encoder: EncoderName
    kind: str
    state: State
    has_head: bool
    left_over: tuple[str, ...]
    mean: Triple = MEAN
    std: Triple = STD
    settings: dict[str, Any] | None = None


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Weights from a file, whose format and encoder its names tell.

    Read are checkpoints of slic, the SLIC reference (R3D-18 and S3D) and CoCLR (S3D), and state
    dicts of torchvision's r3d_18 and s3d; written by `torch.save` or safetensors. Names may
    begin with `module.`. No code from the file runs.

    Where their batch normalisation has another epsilon than ours (torchvision's s3d), the
    running variance takes up the difference: in eval mode the outputs are the same.

    Raises:
        CheckpointError: missing, damaged, of another network, or not exactly its weights: one
            is missing, of another shape, not finite, or more are there than are known to have
            no part in the outputs.
    """
    where = str(path)
    plain = Path(path).suffix == ".safetensors"
    content = read_safetensors(path) if plain else read_pickled(path)
    if is_checkpoint(content):
        encoder = encoder_of(of_this_format(content, where=where), where=where)
        head = content.get("head", True) is not False
        state = {k: v for k, v in encoder.state_dict().items() if head or not k.startswith("head.")}
        settings = content.get("settings")
        settings = settings if isinstance(settings, dict) else None
        return Weights(encoder.name, "slic", state, head, (), *encoder.statistics, settings)
    return _translated(state_dict_in(content, where=where), where)


def described(weights: Weights) -> str:
    """What a file of weights is, in one line for a user."""
    head = "with" if weights.has_head else "without"
    left = f"; left over: {some(list(weights.left_over))}" if weights.left_over else ""
    return f"weights of {weights.kind} ({weights.encoder}), {head} a projection head{left}"


def load_weights(encoder: Encoder, weights: Weights, *, where: str) -> None:
    """Copy weights into an encoder; without a head among them, its own stays as it is.

    Args:
        encoder: changed, or not touched at all if an error is raised.
        weights: what `read_weights` gave.
        where: their file, for the message.

    Raises:
        CheckpointError: they are of another encoder, or not exactly its weights.
    """
    if weights.encoder != encoder.name:
        raise CheckpointError(
            f"{where}: weights of {weights.encoder}, but the encoder is {encoder.name}:"
            f" choose --encoder {weights.encoder}"
        )
    own = {
        key: value.shape
        for key, value in encoder.state_dict().items()
        if weights.has_head or not key.startswith("head.")
    }
    given = {key: value.shape for key, value in weights.state.items()}
    if own != given:
        unfit = [key for key in own | given if own.get(key) != given.get(key)]
        raise CheckpointError(f"{where}: not the weights of {encoder.name}: {some(unfit)}")
    encoder.load_state_dict(weights.state, strict=False)
    encoder.statistics = (weights.mean, weights.std)


def _translated(state: State, where: str) -> Weights:
    form, names = _recognised(state, where)
    wanted = _keys(form.modules, form.encoder)
    has_head = any(theirs in names for ours, theirs in wanted.items() if ours.startswith("head."))
    if not has_head:
        wanted = {o: t for o, t in wanted.items() if not o.startswith("head.")}
    found = {theirs: state[name] for theirs, name in names.items()}
    taken = _taken(form, wanted, found, where)
    twins = _keys(form.twins, form.encoder)
    differing = [
        twin
        for ours, twin in twins.items()
        if twin in found and not _equal(found[twin], taken[ours])
    ]
    _refuse_if(differing, where, form, "weights held twice differ")
    used = {*wanted.values(), *twins.values()}
    unused = [(theirs, name) for theirs, name in names.items() if theirs not in used]
    unknown = [name for theirs, name in unused if not theirs.startswith(form.left_over)]
    _refuse_if(unknown, where, form, f"it holds what {form.encoder} has no place for")
    left_over = tuple(name for _, name in unused)
    state = _with_epsilon(taken, form)
    return Weights(form.encoder, form.kind, state, has_head, left_over, form.mean, form.std)


def _recognised(state: State, where: str) -> tuple[Format, dict[str, str]]:
    """The format most of whose names a state dict has, and `{name in the format: in the file}`."""
    best: tuple[int, Format, dict[str, str]] | None = None
    for form in FORMATS:
        theirs = set(_keys(form.modules, form.encoder).values())
        for prefix in form.prefixes:
            names = _bare_names(state, prefix)
            common = len(theirs & names.keys())
            if 2 * common > len(theirs) and (best is None or common > best[0]):
                best = common, form, names
    if best is None:
        kinds = ", ".join(form.kind for form in FORMATS)
        raise CheckpointError(
            f"{where}: weights of none of the networks that slic knows ({kinds}); it holds"
            f" {some(list(state))}"
        )
    _, form, names = best
    hidden = sorted(state.keys() - names.values())
    _refuse_if(hidden, where, form, "names differ by a prefix alone")
    return form, names


def _bare_names(state: State, prefix: str) -> dict[str, str]:
    return {name.removeprefix("module.").removeprefix(prefix): name for name in state}


def _keys(modules: dict[str, str], encoder: EncoderName) -> dict[str, str]:
    """`{our key: theirs}` for each weight of the modules."""
    split = [key.rpartition(".") for key in _shapes(encoder)]
    return {
        f"{module}.{leaf}": f"{modules[module]}.{leaf}"
        for module, _, leaf in split
        if module in modules
    }


@cache
def _shapes(encoder: EncoderName) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {key: value.shape for key, value in Encoder(encoder).state_dict().items()}


def _taken(form: Format, wanted: dict[str, str], found: State, where: str) -> State:
    """The wanted weights by our names, each of our shape and finite."""
    missing = [t for t in wanted.values() if t not in found and not t.endswith(_COUNTER)]
    _refuse_if(missing, where, form, "it lacks")
    shapes = _shapes(form.encoder)
    state: State = {}
    unfit, broken = [], []
    for ours, theirs in wanted.items():
        value, counts = found.get(theirs, torch.tensor(0)), ours.endswith(_COUNTER)
        right = value.is_floating_point() or (counts and not value.is_complex())
        if value.shape != shapes[ours] or not right:
            unfit.append(f"{theirs} is {_kind(value)}, not {_size(shapes[ours])}")
            continue
        state[ours] = value.detach().to(torch.int64 if counts else torch.float32)
        if not bool(torch.isfinite(state[ours]).all()):
            broken.append(theirs)
    _refuse_if(unfit, where, form, "weights do not fit")
    _refuse_if(broken, where, form, "weights are not finite")
    return state


def _equal(twin: Tensor, value: Tensor) -> bool:
    return twin.shape == value.shape and torch.equal(twin.to(value.dtype), value)


def _with_epsilon(state: State, form: Format) -> State:
    more = form.epsilon - EPSILON
    return {
        key: value + more if key.endswith("running_var") else value for key, value in state.items()
    }


def _refuse_if(names: list[str], where: str, form: Format, what: str) -> None:
    if names:
        raise CheckpointError(f"{where}: taken for {form.kind}, but {what}: {some(names)}")


def _kind(value: Tensor) -> str:
    words = str(value.dtype).removeprefix("torch.")
    return _size(value.shape) if value.is_floating_point() else f"{_size(value.shape)} {words}"


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "a number"
