"""Choice of the device, and of the number of processes that read clips for it."""

import torch

from slic.errors import InputError
from slic.runtime.processes import available_cores

MOST_READERS = 16  # a cap for machines with very many cores


def pick_device(name: str) -> torch.device:
    """Return the device of a name: `auto` (a GPU if there is one), `cpu`, `cuda` or `cuda:<index>`.

    Raises:
        InputError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in {"cpu", "cuda"}:
        raise InputError(f"--device {name}: choose auto, cpu, cuda or cuda:0")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: there is no such GPU here; use --device cpu")
    return device


def default_readers(device: torch.device, *, processes: int = 1) -> int:
    """Return the default number of reader processes: one on a CPU, where computing needs the cores.

    Args:
        device: the device that the clips are read for.
        processes: number of training processes that share the cores of this machine.
    """
    if device.type != "cuda":
        return 1
    return max(1, min(MOST_READERS, available_cores() // processes))
