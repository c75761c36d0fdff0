"""The arithmetic that an encoder computes in: bf16, TF32 or full float32."""

from typing import Literal

import torch

from slic.config import Precision
from slic.errors import InputError

FIRST_WITH_BF16 = (8, 0)  # compute capability: Ampere


def resolve_precision(
    precision: Precision, device: torch.device
) -> Literal["bf16", "tf32", "fp32"]:
    """The arithmetic meant: `auto` is bf16 on a GPU that computes in it, else fp32.

    Not on a CPU: with PyTorch 2.15 and its oneDNN, bf16 gradients of 3-D convolutions of 16 and
    32 channels differed from call to call there, and some were infinite.

    Raises:
        InputError: the device does not have what is asked for.
    """
    if device.type != "cuda":
        if precision not in ("auto", "fp32"):
            raise InputError(f"precision {precision} is for GPUs: choose fp32 on {device}")
        return "fp32"
    # TF32 and bfloat16 came with the same GPUs.
    able = torch.cuda.get_device_capability(device) >= FIRST_WITH_BF16
    if precision in ("bf16", "tf32") and not able:
        raise InputError(f"precision {precision}: {device} has none; choose fp32")
    if precision == "auto":
        return "bf16" if able else "fp32"
    return precision


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Context of the encoder's arithmetic.

    Raises:
        InputError: the device does not have what is asked for.
    """
    half = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def tune(device: torch.device, precision: Precision) -> None:
    """Let a GPU try its convolutions and keep the fastest, and use TF32 in them or not.

    Matrix products outside of bf16 are few (losses, augmentation) and stay in full float32.

    Raises:
        InputError: the device does not have what is asked for.
    """
    arithmetic = resolve_precision(precision, device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = arithmetic != "fp32"
