"""Whether what a checkpoint holds fits a network and its optimiser: asked before either changes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from slic.encoders.tensor_files import is_weight, some

# What an optimiser keeps for a weight; SGD keeps nothing before its first step.
_KEPT: dict[type[torch.optim.Optimizer], tuple[set[str], ...]] = {
    torch.optim.SGD: ({"momentum_buffer"}, set()),
    torch.optim.Adam: ({"step", "exp_avg", "exp_avg_sq"},),
    torch.optim.AdamW: ({"step", "exp_avg", "exp_avg_sq"},),
}
_NEVER_NEGATIVE = {"step", "exp_avg_sq"}


def unfit_weights(state: Any, own: Mapping[str, Tensor]) -> str | None:
    """Why a state dict from a file cannot replace `own`; None where it can.

    It must have the same names and shapes, and be of finite dense tensors, floating where `own`
    is.
    """
    if not isinstance(state, dict) or not all(is_weight(*item) for item in state.items()):
        return "they are no state dict of dense tensors"
    if state.keys() != own.keys():
        return f"names that only one of them has: {some(sorted(state.keys() ^ own.keys()))}"
    for key, value in state.items():
        if value.shape != own[key].shape or not _same_kind(value, own[key]):
            return f"{key} is {_kind(value)}, not {_kind(own[key])}"
    broken = [key for key, value in state.items() if not bool(torch.isfinite(value).all())]
    return f"not finite: {some(broken)}" if broken else None


def fitting_state(state: Any, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """What `optimiser.load_state_dict` shall be given for a state from a file.

    Rates, decays and the like are the optimiser's own: settings say them, no file.

    Raises:
        ValueError: the state does not fit; the message says why.
    """
    groups = optimiser.state_dict()["param_groups"]
    if not isinstance(state, dict) or not isinstance(state.get("state"), dict):
        raise ValueError("no state of an optimiser")
    theirs = state.get("param_groups")
    if not isinstance(theirs, list) or not all(isinstance(group, dict) for group in theirs):
        raise ValueError("no groups of an optimiser")
    if [group.get("params") for group in theirs] != [group["params"] for group in groups]:
        raise ValueError("an optimiser of other weights")
    kinds = _KEPT.get(type(optimiser))
    if kinds is None:
        raise ValueError(f"what {type(optimiser).__name__} keeps cannot be checked")
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    for number, kept in state["state"].items():
        if type(number) is not int or not 0 <= number < len(weights):
            raise ValueError("an optimiser of other weights")
        _check_kept(kept, weights[number], kinds)
    return {"state": state["state"], "param_groups": groups}


def _check_kept(kept: Any, weight: Tensor, expected: tuple[set[str], ...]) -> None:
    if not isinstance(kept, dict) or set(kept) not in expected:
        raise ValueError("an optimiser of another kind")
    for name, value in kept.items():
        shape = torch.Size() if name == "step" else weight.shape
        if value is None and name == "momentum_buffer":
            continue
        if not is_weight(name, value) or not value.is_floating_point() or value.shape != shape:
            raise ValueError(f"{name} of the optimiser does not fit its weight")
        low = bool((value < 0).any()) if name in _NEVER_NEGATIVE else False
        if low or not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name} of the optimiser holds impossible values")


def _same_kind(value: Tensor, own: Tensor) -> bool:
    return value.is_floating_point() == own.is_floating_point() and not value.is_complex()


def _kind(value: Tensor) -> str:
    size = "x".join(map(str, value.shape)) or "a number"
    return f"{size} of {str(value.dtype).removeprefix('torch.')}"
