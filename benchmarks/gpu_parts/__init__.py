"""The parts of gpu_day.py: a generator each, which yields what it has found so far.

Nothing large is imported here: a part whose packages are missing stops no other.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MINUTES = 8.0  # that the parts' limits are for


class Part(NamedTuple):
    """A part, run in a process of its own.

    Attributes:
        module: of this package, with a function of the part's name.
        limit_s: the longest it may take, of `MINUTES`; none: all that is left.
        not_rehearsed: why it is left out without a GPU; empty: it is not.
    """

    module: str
    limit_s: float | None
    not_rehearsed: str = ""


PARTS = {
    "device": Part("machine", 40),
    "agreement": Part("flow", 90),
    "flow": Part("flow", 75, "the speed of interpreted kernels says nothing"),
    "augmentation": Part("clips", 45),
    "steps": Part("steps", 100),
    "curves": Part("steps", 75),
    "together": Part("clips", 75),
    "ranks": Part("machine", 40),
    "tests": Part("machine", 90),
    "training": Part("training", None),
}


@dataclass(frozen=True)
class Day:
    """Options that every part is given.

    Attributes:
        rehearse: small sizes, on a CPU.
        seconds: until it is ended.
        videos: real ones; else it draws its own.
        kept_flow: OpenCV's flow of some frames, as kept_flow.py writes it.
        folder: empty, for files of its own.
    """

    rehearse: bool
    seconds: float
    videos: tuple[Path, ...]
    kept_flow: Path | None
    folder: Path

    @property
    def device(self) -> str:
        """The device to compute on."""
        return "cpu" if self.rehearse else "cuda:0"

    @property
    def preset(self) -> str:
        """Settings to train with: the paper's, or small ones in a rehearsal."""
        return "cpu-small" if self.rehearse else "ucf101-16f"
