"""Exact nearest neighbours on a GPU: products of blocks, by PyTorch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

WORTH_A_GPU = 1e11  # multiplications: a second of a core
QUERIES, OTHERS = 8192, 16384  # rows of a block: their product takes 512 MiB


def device_for(multiplications: float) -> torch.device | None:
    """The GPU that this process computes on; None if it uses none, or for so little work.

    One that it does not use is left alone: `--device cpu` may have been given for a reason.
    """
    torch = sys.modules.get("torch")
    if multiplications < WORTH_A_GPU or torch is None or not torch.cuda.is_initialized():
        return None
    return torch.device(
        "cuda", max(range(torch.cuda.device_count()), key=torch.cuda.memory_allocated)
    )


def search_blocks(
    rows: npt.NDArray[np.float32],
    gallery: npt.NDArray[np.float32],
    *,
    k: int,
    device: torch.device,
    queries: int = QUERIES,
    others: int = OTHERS,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The `k` largest inner products of each row, in float32; nothing large stays on the device.

    Args:
        rows: (Q, D).
        gallery: (N, D) with N of `k` or more.
        k: how many.
        device: where to multiply; any that PyTorch has.
        queries, others: rows and gallery rows at a time, which bound the memory, not the result.

    Returns:
        Product (Q, k), falling along a row, and gallery index (Q, k).
    """
    import torch

    product = np.empty((len(rows), k), dtype=np.float32)
    index = np.empty((len(rows), k), dtype=np.int64)
    with torch.inference_mode(), torch.autocast(device.type, enabled=False):
        for start in range(0, len(rows), queries):
            asked = torch.tensor(rows[start : start + queries], device=device)
            best = torch.empty((len(asked), 0), device=device)
            where = torch.empty((len(asked), 0), device=device, dtype=torch.int64)
            for first in range(0, len(gallery), others):
                block = torch.tensor(gallery[first : first + others], device=device)
                found, at = (asked @ block.T).topk(min(k, len(block)), dim=1)
                best, where = torch.cat((best, found), dim=1), torch.cat((where, at + first), dim=1)
                best, kept = best.topk(min(k, best.shape[1]), dim=1)
                where = where.gather(1, kept)
            product[start : start + queries] = best.cpu().numpy()
            index[start : start + queries] = where.cpu().numpy()
    return product, index
