"""How a classifier is trained on a run's encoder and tested (paper, section 4.3)."""

import math
from dataclasses import dataclass
from typing import Literal

from slic.config import LARGEST_WHOLE
from slic.errors import InputError

Mode = Literal["linear", "linear-augmented", "finetune"]
Crops = Literal[1, 10]

# The paper trains for 150 epochs, and divides the rate by 10 after 60 and after 100 of them.
RATE_DROPS = (60 / 150, 100 / 150)
RATE_FACTOR = 0.1
BACKBONE_SHARE = 0.1  # the backbone's learning rate, relative to the linear layer's
WEIGHT_DECAY = 1e-3
_AT_LEAST = {"epochs": 1, "batch_size": 1, "seed": 0, "clips": 1}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a classifier's training and test; the defaults are the paper's.

    Attributes:
        epochs: Passes over the training videos.
        batch_size: Clips per step.
        lr: Learning rate of the linear layer; a finetuned backbone has a tenth of it.
        dropout: Probability that a feature is dropped before the linear layer.
        seed: Seed for all random choices.
        clips: Evenly spaced clips of each test video.
        crops: Crops of each test clip: 1 (centre), or 10 (the corners and the centre, 7/8 of the
            short side, and their mirror images).

    Raises:
        InputError: A value is out of range; the message names the command's option.
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
            allowed = least <= getattr(self, name) <= LARGEST_WHOLE
            self._require(name, allowed, f"must be at least {least}, and below 2^63")
        self._require("lr", math.isfinite(self.lr) and self.lr > 0, "must be a number above 0")
        self._require("dropout", 0 <= self.dropout < 1, "must be at least 0, and below 1")
        self._require("crops", self.crops in (1, 10), "choose 1 or 10")

    def _require(self, name: str, allowed: bool, rule: str) -> None:
        if not allowed:
            raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: {rule}")

    def rate(self, epoch: int) -> float:
        """Return the linear layer's learning rate in an epoch, counted from 0."""
        drops = sum(epoch >= share * self.epochs for share in RATE_DROPS)
        return self.lr * RATE_FACTOR**drops
