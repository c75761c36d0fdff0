"""Inference in parts small enough for the device's memory."""

from collections.abc import Callable

import torch
from torch import Tensor

from slic.errors import WorkError


class OOMSplitter:
    """Apply a network to batches, halving them until they fit into the device's memory.

    The size that fitted is used for all later batches. Only for networks that process each item of
    a batch independently, such as those in eval mode, and without gradients.

    Args:
        forward: maps a batch `(N, ...)` to a tuple of outputs `(N, ...)`.
    """

    def __init__(self, forward: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self._forward = forward
        self._limit: int | None = None

    def __call__(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of a batch.

        Raises:
            WorkError: the memory is too small for a single item.
        """
        while (outputs := self._try(batch)) is None:
            size = min(self._limit or len(batch), len(batch))
            if size == 1:
                raise WorkError(
                    f"{batch.device}: out of memory for a single clip of"
                    f" {' x '.join(map(str, batch.shape[1:4]))}: stop other programs on it, or"
                    " pass --device cpu"
                )
            self._limit = size // 2
        return outputs

    def _try(self, batch: Tensor) -> tuple[Tensor, ...] | None:
        # The caller tries again: a failed attempt's tensors are freed only when `except` is left.
        try:
            parts = [self._forward(part) for part in batch.split(self._limit or len(batch))]
        except torch.OutOfMemoryError:
            return None
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))
