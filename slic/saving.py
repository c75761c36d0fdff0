"""Files of tensors, written whole or not at all."""

from pathlib import Path
from typing import Any

import torch

from slic.disk import whole_file

CHECKPOINT_EVERY_S = 600.0  # within an epoch


def save_whole(path: Path, content: dict[str, Any]) -> None:
    """Write aside, sync, and rename into place; of tensors and plain values alone.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    with whole_file(path) as file:
        torch.save(content, file)
