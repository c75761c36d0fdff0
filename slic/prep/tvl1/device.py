"""TV-L1 on a PyTorch device: the choice of device, and batches of pairs that fit its memory."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from slic.cache.flow_levels import ZERO_LEVEL
from slic.errors import InputError, WorkError
from slic.prep.tvl1.parameters import Tvl1Parameters
from slic.runtime.console import say
from slic.runtime.text import first_line


def check_device(engine: str, device: str | None) -> str:
    """Return the device for engine "cuda" or "torch"; the engine's best one if None.

    Raises:
        InputError: the device, or what the engine needs, does not exist here.
        WorkError: the device exists, but its memory is full, or it fails.
    """
    if engine == "cuda":
        return _check_cuda(device)
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except torch.OutOfMemoryError:
        raise WorkError(
            f"device {device!r}: its memory is full: free some (`nvidia-smi` shows whose it is),"
            " or use 'cpu'"
        ) from None
    except (RuntimeError, AssertionError) as error:  # the latter from a PyTorch without CUDA
        if _is_there(device):
            raise WorkError(
                f"device {device!r} exists, but fails: {first_line(error)}; use 'cpu'"
            ) from None
        raise InputError(f"device {device!r} does not exist here; use 'cpu'") from None
    return device


def _is_there(device: str) -> bool:
    """Return whether the driver lists a device, even if nothing runs on it."""
    try:
        found = torch.device(device)
    except RuntimeError:
        return False
    if found.type == "cuda":
        return (found.index or 0) < torch.cuda.device_count()
    module = getattr(torch, found.type, None)
    return module is not None and hasattr(module, "is_available") and bool(module.is_available())


def _check_cuda(device: str | None) -> str:
    if find_spec("triton") is None:
        raise InputError("TV-L1 engine 'cuda' needs Triton, which is missing: use engine 'torch'")
    from slic.prep.tvl1.cuda_engine import interpreted

    if interpreted() and device in (None, "cpu"):
        return "cpu"
    if not torch.cuda.is_available():
        raise InputError("TV-L1 engine 'cuda': there is no CUDA device here; use engine 'cpu'")
    device = device or "cuda"
    try:
        found = torch.device(device)
    except RuntimeError:
        found = torch.device("cpu")
    if found.type != "cuda" or (found.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"TV-L1 engine 'cuda': device {device!r} does not exist here; use 'cuda:0'"
        )
    return device


class DeviceSolver:
    """Compute the flow of many pairs of frames on a device, as many at once as its memory allows.

    Args:
        engine: "cuda" or "torch".
        device: PyTorch's name of it.
        parameters: of TV-L1.
    """

    def __init__(self, engine: str, device: str, parameters: Tvl1Parameters) -> None:
        self.device = torch.device(device)
        self._engine = _module(engine)
        self._parameters = parameters
        self._most_pixels: int | None = None  # of a batch, once memory was short
        self._halving = threading.Lock()

    def flow(self, frames: np.ndarray) -> np.ndarray:
        """Compute the flow from each frame to the next.

        Args:
            frames: uint8 `(T, H, W)`, T >= 2.

        Returns:
            float32 `(T-1, H, W, 2)`.

        Raises:
            WorkError: too little memory for one pair.
        """
        return torch.cat(list(self._parts([frames], lambda flow: flow))).numpy()

    def levels(self, blocks: Sequence[np.ndarray], bound: float) -> list[np.ndarray]:
        """Compute the quantised flow within each block of frames, all of one size.

        Args:
            blocks: uint8 `(T, H, W)` each, T >= 2.
            bound: as for `slic.cache.quantise`.

        Returns:
            Levels, uint8 `(T-1, H, W, 2)`, of each block.

        Raises:
            WorkError: too little memory for one pair, or flow that is not finite.
        """
        parts = torch.cat(list(self._parts(blocks, lambda flow: _quantised(flow, bound))))
        # Copies, so that a block that waits to be written does not keep all others in memory.
        return [part.numpy().copy() for part in parts.split([len(b) - 1 for b in blocks])]

    def pairs_at_once(self, height: int, width: int) -> int:
        """Return the number of pairs per batch: the engine's, or fewer once memory was short."""
        most: int = self._engine.pairs_at_once(self.device, height, width)
        short = self._most_pixels
        return most if short is None else max(1, min(most, short // (height * width)))

    def _parts(
        self, blocks: Sequence[np.ndarray], finish: Callable[[Tensor], Tensor]
    ) -> Iterator[Tensor]:
        """Yield the flow `(B, H, W, 2)` of the blocks' pairs in order, by batches, on the CPU."""
        frames = torch.from_numpy(np.concatenate(blocks))
        starts = np.cumsum([0, *(len(block) for block in blocks)])
        # The last frame of a block is not paired with the first of the next.
        firsts = np.setdiff1d(np.arange(len(frames)), starts[1:] - 1)
        done, (height, width) = 0, frames.shape[1:]
        while done < len(firsts):
            batch = firsts[done : done + self.pairs_at_once(height, width)]
            try:
                part = finish(self._solve(frames[batch[0] : batch[-1] + 2], batch - batch[0])).cpu()
            except torch.OutOfMemoryError:
                self._halve(len(batch), height, width)
                continue
            yield part
            done += len(batch)

    def _solve(self, frames: Tensor, firsts: np.ndarray) -> Tensor:
        # Triton launches on the current device, not on that of its arguments.
        on_gpu = self.device.type == "cuda"
        with torch.cuda.device(self.device) if on_gpu else contextlib.nullcontext():
            on_device = frames.to(self.device)
            pairs = torch.from_numpy(firsts.astype(np.int32)).to(self.device)
            flow: Tensor = self._engine.solve(on_device, pairs, self._parameters).flow
            return flow

    def _halve(self, pairs: int, height: int, width: int) -> None:
        what = f"{self.device}: too little memory for the flow of"
        if pairs == 1:
            raise WorkError(f"{what} one pair of {width}x{height}; use --engine cpu")
        with self._halving:
            half = pairs // 2 * height * width
            if self._most_pixels is not None and self._most_pixels <= half:
                return  # another thread has already halved it
            self._most_pixels = half
        torch.cuda.empty_cache()
        say(f"{what} {pairs} pairs of {width}x{height} at once; using half as many from now on")


def _module(engine: str) -> ModuleType:
    if engine == "cuda":
        from slic.prep.tvl1 import cuda_engine

        return cuda_engine
    from slic.prep.tvl1 import torch_engine

    return torch_engine


def _quantised(flow: Tensor, bound: float) -> Tensor:
    """Quantise flow as `slic.cache.quantise` does, on the device."""
    if not flow.isfinite().all():
        raise WorkError("TV-L1 gave flow that is not finite")
    scaled = (flow / float(np.float32(bound))).clamp(-1, 1)
    return (ZERO_LEVEL + (127 * scaled).round()).to(torch.uint8)
