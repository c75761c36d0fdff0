"""The precision of an encoder's arithmetic: bf16, TF32 or float32."""

from typing import Literal

import torch

from slic.config import Precision
from slic.errors import InputError

FIRST_WITH_BF16 = (8, 0)  # compute capability: Ampere


def resolve_precision(
    precision: Precision, device: torch.device
) -> Literal["bf16", "tf32", "fp32"]:
    """Resolve `auto`: bf16 on a GPU that supports it, else fp32.

    CPUs are excluded: with PyTorch 2.15 and its oneDNN, bf16 gradients of 3-D convolutions with
    16 and 32 channels differed from call to call, and some were infinite.

    Raises:
        InputError: the device does not support the precision.
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
    """Return the context manager in which an encoder computes.

    Raises:
        InputError: the device does not support the precision.
    """
    half = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=half)


def tune(device: torch.device, precision: Precision) -> None:
    """Let cuDNN benchmark a GPU's convolutions, and use TF32 in them unless `precision` is fp32.

    Matrix products outside of bf16 are few (losses, augmentation) and stay in float32.

    Raises:
        InputError: the device does not support the precision.
    """
    arithmetic = resolve_precision(precision, device)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = arithmetic != "fp32"
