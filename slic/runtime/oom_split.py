"""A network without gradients, in as large parts as the device's memory holds."""

from collections.abc import Callable

import torch
from torch import Tensor

from slic.errors import WorkError


class OOMSplitter:
    """Computes a batch at once, or in halves and quarters where memory does not suffice.

    It remembers what fitted, so that only the first batches are tried in vain. Only for what
    computes each item of a batch by itself, such as a network in eval mode.

    Args:
        forward: batch `(N, ...)` to outputs, each of N rows.
    """

    def __init__(self, forward: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
        self._forward = forward
        self._most: int | None = None

    def __call__(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Outputs of a batch.

        Raises:
            WorkError: memory does not suffice for one item alone.
        """
        while (found := self._tried(batch)) is None:
            size = min(self._most or len(batch), len(batch))
            if size == 1:
                raise WorkError(
                    f"{batch.device}: out of memory for a single clip of"
                    f" {' x '.join(map(str, batch.shape[1:4]))}: free what else uses it, or give"
                    " --device cpu"
                )
            self._most = size // 2
        return found

    def _tried(self, batch: Tensor) -> tuple[Tensor, ...] | None:
        # Only outside of the `except` are the tensors of the attempt given back.
        try:
            parts = [self._forward(part) for part in batch.split(self._most or len(batch))]
        except torch.OutOfMemoryError:
            return None
        return tuple(torch.cat(outputs) for outputs in zip(*parts, strict=True))
