"""Files of tensors: written atomically, read without running code from them."""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from slic.errors import CheckpointError
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import brief, check_regular
from slic.runtime.text import escape

State = dict[str, Tensor]

_ZIP = b"PK\x03\x04"


class _Ignored:
    """Takes the place of NumPy objects in a file, such as a recorded accuracy."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


_NUMPY: list[Any] = [(_Ignored, "numpy.dtype"), (_Ignored, "numpy.ndarray")]
# The module's names in NumPy 1 and 2.
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _NUMPY += [(_Ignored, f"{_module}.scalar"), (_Ignored, f"{_module}._reconstruct")]


def read_pickled(path: str | os.PathLike[str]) -> Any:
    """Read what `torch.save` wrote: tensors, numbers and strings, in dicts, lists and tuples.

    NumPy numbers and arrays are accepted, and ignored.

    Raises:
        CheckpointError: the file is missing or damaged, or it holds other objects, none of which
            is created.
    """
    try:
        check_regular(path)
        _verify_checksums(path)
        with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about types of tensors that are refused later
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    # torch raises errors of many types for damaged files, pickle's and zip's included.
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint ({_reason(error)})") from None


def _verify_checksums(path: str | os.PathLike[str]) -> None:
    """Compare the checksums of an archive, which torch does not do.

    Files of PyTorch before 1.6 are no archives, and have no checksums.
    """
    with open(path, "rb") as file:
        if file.read(4) == _ZIP and zipfile.ZipFile(file).testzip() is not None:
            raise zipfile.BadZipFile


def _reason(error: Exception) -> str:
    message = str(error)
    if found := re.search(r"GLOBAL (\S+)", message):
        return (
            f"it contains {escape(found[1][:80])}, but slic reads only tensors, numbers and text:"
            " save only its state dict"
        )
    if isinstance(error, zipfile.BadZipFile):
        return "damaged: its checksums fail"
    if isinstance(error, pickle.UnpicklingError | EOFError | LookupError | ValueError):
        return "not written by torch.save, or damaged"
    return escape(message.splitlines()[0][:120]) if message else type(error).__name__


def read_safetensors(path: str | os.PathLike[str]) -> State:
    """Read a `.safetensors` file: `{name: tensor}`.

    Raises:
        CheckpointError: the file is missing or damaged, or safetensors is not installed.
    """
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(
            f"{path}: reading it needs the package safetensors, which is not installed"
        ) from None
    try:
        check_regular(path)
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except Exception as error:  # safetensors' own error derives from Exception directly
        raise CheckpointError(f"{path}: not a checkpoint ({_reason(error)})") from None


def save_tensors(path: Path, content: dict[str, Any]) -> None:
    """Write a file atomically with `torch.save`.

    Raises:
        DiskError: the file system refuses; the previous file stays as it is.
    """
    with atomic_write(path) as file:
        torch.save(content, file)


def find_state_dict(content: Any, *, where: str) -> State:
    """Return the state dict that a file's content is, or holds as `state_dict`.

    Raises:
        CheckpointError: there is none, or it holds something else than tensors.
    """
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{where}: contains no state dict")
    if foreign := [brief(k).strip("'") for k, v in content.items() if not _is_weight(k, v)]:
        raise CheckpointError(
            f"{where}: not a state dict, as not all in it are tensors ({first_few(foreign)}):"
            " save the network's state_dict() alone"
        )
    return content


def is_state_dict(content: Any) -> bool:
    """Return whether a value is a dict of names and dense tensors."""
    return isinstance(content, dict) and all(_is_weight(*item) for item in content.items())


def _is_weight(key: Any, value: Any) -> bool:
    dense = isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta
    return isinstance(key, str) and dense


def state_mismatch(state: Any, own: Mapping[str, Tensor]) -> str | None:
    """Say why a state dict from a file cannot be loaded in place of `own`; None if it can.

    Unlike `load_state_dict`, this changes nothing, and finds values that are not finite.
    """
    if not is_state_dict(state):
        return "not a state dict"
    if state.keys() != own.keys():
        return f"names in only one of the two: {first_few(sorted(state.keys() ^ own.keys()))}"
    if wrong := [key for key in own if _kind(state[key]) != _kind(own[key])]:
        key = wrong[0]
        return f"{key} is {describe(state[key])}, not {describe(own[key])}"
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    return f"not finite: {first_few(broken)}" if broken else None


def optimiser_state(state: Any, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what to load into an optimiser, given its state in a file.

    Learning rates, decays and the like stay the optimiser's own: they come from the settings.

    Raises:
        ValueError: the state is not of an optimiser of the same weights.
    """
    groups = optimiser.state_dict()["param_groups"]
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    try:
        theirs = [group["params"] for group in state["param_groups"]]
        buffers = dict(state["state"].items())
        sound = theirs == [group["params"] for group in groups] and all(
            _are_buffers(buffers[number], weights[number]) for number in buffers
        )
    except (TypeError, LookupError, AttributeError):
        sound = False
    if not sound:
        raise ValueError("not the state of an optimiser of these weights")
    return {"state": buffers, "param_groups": groups}


def _are_buffers(buffers: dict[str, Any], weight: Tensor) -> bool:
    """Return whether all are finite, and counters or tensors of the weight's shape."""
    tensors = {name: value for name, value in buffers.items() if value is not None}
    return is_state_dict(tensors) and all(
        value.shape in (torch.Size(), weight.shape) and bool(torch.isfinite(value).all())
        for value in tensors.values()
    )


def _kind(value: Tensor) -> tuple[torch.Size, bool, bool]:
    return value.shape, value.is_floating_point(), value.is_complex()


def describe(value: Tensor) -> str:
    """Name a tensor's shape and dtype, such as `64x3x7x7x7 of float32`."""
    size = "x".join(map(str, value.shape)) or "a number"
    return f"{size} of {str(value.dtype).removeprefix('torch.')}"


def first_few(names: list[str]) -> str:
    """Join the first three names, and say how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
