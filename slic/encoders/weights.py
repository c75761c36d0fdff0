"""Weights of other projects, read strictly: every name and shape must fit."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from slic.config import EncoderName
from slic.encoders.checkpoints import check_format, encoder_of, is_checkpoint
from slic.encoders.encoder import MEAN, STD, Encoder, Triple
from slic.encoders.tensor_files import (
    State,
    describe,
    find_state_dict,
    first_few,
    read_pickled,
    read_safetensors,
)
from slic.encoders.weight_formats import EPSILON, FORMATS, Format
from slic.errors import CheckpointError

_COUNTER = "num_batches_tracked"  # absent in files of PyTorch before 0.4.1


@dataclass(frozen=True)
class Weights:
    """Weights of an encoder, by slic's names.

    Attributes:
        encoder: the encoder they fit.
        kind: whose weights they are, for messages.
        state: float32 tensors on the CPU: the whole backbone, and the head if `has_head`.
        has_head: whether they include the projection head.
        left_over: unused names, in the order of the file.
        mean, std: normalisation of RGB in 0..1 in their training. Files don't record it; it is
            taken from their authors' code (docs/weights.md). torchvision's equals slic's.
        settings: settings of the run, if the file is a checkpoint of slic.
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
    """Read weights from a file; the names in it decide the format and the encoder.

    Supported are checkpoints of slic, the SLIC reference (R3D-18 and S3D) and CoCLR (S3D), and
    state dicts of torchvision's r3d_18 and s3d; written by `torch.save` or safetensors. Names may
    begin with `module.`. No code from the file runs.

    If their batch normalisation has another epsilon than ours (torchvision's s3d), the
    running variance takes up the difference: in eval mode the outputs are the same.

    Raises:
        CheckpointError: the file is missing, damaged, or of an unknown network; or a weight is
            missing, unknown, of another shape, or not finite.
    """
    where = str(path)
    plain = Path(path).suffix == ".safetensors"
    content = read_safetensors(path) if plain else read_pickled(path)
    if not is_checkpoint(content):
        return _translate(find_state_dict(content, where=where), where)
    check_format(content, where=where)
    encoder = encoder_of(content, where=where)
    head = content.get("head", True) is not False
    state = {k: v for k, v in encoder.state_dict().items() if head or not k.startswith("head.")}
    settings = content.get("settings")
    settings = settings if isinstance(settings, dict) else None
    return Weights(encoder.name, "slic", state, head, (), *encoder.statistics, settings)


def describe_weights(weights: Weights) -> str:
    """Describe a file of weights in one line for users."""
    head = "with" if weights.has_head else "without"
    left = f"; not used: {first_few(list(weights.left_over))}" if weights.left_over else ""
    return f"weights of {weights.kind} ({weights.encoder}), {head} a projection head{left}"


def load_weights(encoder: Encoder, weights: Weights, *, where: str) -> None:
    """Copy weights into an encoder; without a head among them, its own head stays as it is.

    Args:
        encoder: the encoder to change; unchanged if an error is raised.
        weights: what `read_weights` returned.
        where: their file, for messages.

    Raises:
        CheckpointError: they belong to another encoder.
    """
    if weights.encoder != encoder.name:
        raise CheckpointError(
            f"{where}: weights of {weights.encoder}, but the encoder is {encoder.name}:"
            f" choose --encoder {weights.encoder}"
        )
    own = encoder.state_dict()
    head = {} if weights.has_head else {k: v for k, v in own.items() if k.startswith("head.")}
    encoder.load_state_dict({**head, **weights.state})
    encoder.statistics = (weights.mean, weights.std)


def _translate(state: State, where: str) -> Weights:
    form, names = _recognise(state, where)
    theirs = _names(form.modules, form.encoder)
    has_head = any(name in names for ours, name in theirs.items() if ours.startswith("head."))
    if not has_head:
        theirs = {ours: name for ours, name in theirs.items() if not ours.startswith("head.")}
    found = {name: state[in_file] for name, in_file in names.items()}
    used = {*theirs.values(), *_names(form.twins, form.encoder).values()}
    unused = {name: in_file for name, in_file in names.items() if name not in used}
    unknown = [unused[name] for name in unused if not name.startswith(form.left_over)]
    missing = [
        name for name in theirs.values() if name not in found and not name.endswith(_COUNTER)
    ]
    _refuse_if(missing, where, form, "it lacks")
    _refuse_if(unknown, where, form, f"{form.encoder} has no place for")
    translated = _with_epsilon(_convert(form, theirs, found, where), form)
    left_over = tuple(unused.values())
    return Weights(form.encoder, form.kind, translated, has_head, left_over, form.mean, form.std)


def _recognise(state: State, where: str) -> tuple[Format, dict[str, str]]:
    """Find the format that shares most names with a state dict.

    Returns:
        The format, and `{name in the format: name in the state dict}`.
    """
    best: tuple[int, Format, dict[str, str]] | None = None
    for form in FORMATS:
        theirs = set(_names(form.modules, form.encoder).values())
        for prefix in form.prefixes:
            names = {n.removeprefix("module.").removeprefix(prefix): n for n in state}
            common = len(theirs & names.keys())
            if 2 * common > len(theirs) and (best is None or common > best[0]):
                best = common, form, names
    if best is None:
        kinds = ", ".join(form.kind for form in FORMATS)
        raise CheckpointError(
            f"{where}: the weights match none of the networks that slic knows ({kinds}); it holds"
            f" {first_few(list(state))}"
        )
    return best[1], best[2]


def _names(modules: dict[str, str], encoder: EncoderName) -> dict[str, str]:
    """Return `{our name: theirs}` of each weight of some modules, `{our module: theirs}`."""
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


def _convert(form: Format, names: dict[str, str], found: State, where: str) -> State:
    """Return the weights by our names, as float32, after checking shapes and values."""
    shapes = _shapes(form.encoder)
    state: State = {}
    unfit, broken = [], []
    for ours, theirs in names.items():
        value, is_counter = found.get(theirs, torch.tensor(0)), ours.endswith(_COUNTER)
        if value.shape != shapes[ours] or not (is_counter or value.is_floating_point()):
            size = "x".join(map(str, shapes[ours])) or "a number"
            unfit.append(f"{theirs} is {describe(value)}, not {size}")
            continue
        state[ours] = value.detach().to(torch.int64 if is_counter else torch.float32)
        if not bool(torch.isfinite(state[ours]).all()):
            broken.append(theirs)
    _refuse_if(unfit, where, form, "weights do not fit")
    _refuse_if(broken, where, form, "weights are not finite")
    return state


def _with_epsilon(state: State, form: Format) -> State:
    more = form.epsilon - EPSILON
    return {
        key: value + more if key.endswith("running_var") else value for key, value in state.items()
    }


def _refuse_if(names: list[str], where: str, form: Format, what: str) -> None:
    if names:
        raise CheckpointError(f"{where}: recognised as {form.kind}, but {what}: {first_few(names)}")
