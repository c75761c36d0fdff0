"""How a classifier is trained on a run's encoder, and tested (paper, section 4.3)."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from slic.config import LARGEST_WHOLE
from slic.errors import InputError

Mode = Literal["linear", "linear-augmented", "finetune"]
Crops = Literal[1, 10]

WEIGHT_DECAY = 1e-3
BACKBONE_SHARE = 0.1  # of the linear layer's rate
DROPS = (60 / 150, 100 / 150)  # shares of the epochs after which the rate is a tenth
DROP = 0.1
_AT_LEAST = {"epochs": 1, "batch_size": 1, "seed": 0, "clips": 1}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What decides a classifier beside the run and the data; defaults are the paper's.

    Attributes:
        epochs: passes over the training videos.
        batch_size: clips a step.
        lr: of the linear layer; a backbone that is trained has a tenth.
        dropout: probability that a feature is dropped before the linear layer.
        seed: of every random draw.
        clips: evenly spaced clips of a test video.
        crops: 1, the centre; or 10: corners and centre of 7/8 of the short side, and mirrored.

    Raises:
        InputError: a value that is impossible, as the command's option.
    """

    epochs: int = 150
    batch_size: int = 32
    lr: float = 1e-3
    dropout: float = 0.9
    seed: int = 0
    clips: int = 10
    crops: Crops = 10

    def __post_init__(self) -> None:
        for name, least in _AT_LEAST.items():
            value = getattr(self, name)
            if not least <= value <= LARGEST_WHOLE:
                raise _wrong(name, value, f"must be at least {least}, and below 2^63")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise _wrong("lr", self.lr, "must be a number above 0")
        if not 0 <= self.dropout < 1:
            raise _wrong("dropout", self.dropout, "must be at least 0, and below 1")
        if self.crops not in (1, 10):
            raise _wrong("crops", self.crops, "choose 1 or 10")

    def as_dict(self) -> dict[str, Any]:
        """All values by name."""
        return asdict(self)

    def rate(self, epoch: int) -> float:
        """The linear layer's learning rate in an epoch, counted from 0."""
        drops = sum(epoch >= share * self.epochs for share in DROPS)
        return self.lr * DROP**drops


def _wrong(name: str, value: float, why: str) -> InputError:
    return InputError(f"--{name.replace('_', '-')} {value}: {why}")
