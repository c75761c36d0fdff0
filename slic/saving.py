"""Files of tensors, written whole or not at all."""

import os
import uuid
from pathlib import Path
from typing import Any

import torch

from slic.cache.shards import sync


def save_whole(path: Path, content: dict[str, Any]) -> None:
    """Write aside, sync, and rename into place; of tensors and plain values alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with aside.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)
