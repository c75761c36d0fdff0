"""Which device computes, in which arithmetic, and how many processes read for it."""

import torch

from slic.errors import InputError
from slic.runtime.processes import available_cores

MOST_READERS = 16


def pick_device(name: str) -> torch.device:
    """`auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:<number>`.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: choose auto, cpu, cuda or cuda:0") from None
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"--device {name}: choose auto, cpu, cuda or cuda:0")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: there is no such GPU here; use --device cpu")
    return device


def default_readers(device: torch.device, *, beside: int = 1) -> int:
    """Reading processes that a device needs: on a CPU one, as the cores are for computing.

    `beside` processes share the machine's cores.
    """
    if device.type != "cuda":
        return 1
    return max(1, min(MOST_READERS, available_cores() // beside))
