"""What a classifier is trained on, and how."""

from dataclasses import dataclass
from pathlib import Path

from slic.config import Settings
from slic.eval.augmented import RandomClip, plan_clips
from slic.eval.holdout import Division
from slic.eval.recipe import Mode, Recipe


@dataclass(frozen=True)
class Task:
    """What is trained on what, and how.

    Attributes:
        mode: `linear-augmented` or `finetune`.
        settings: of the run: clips, augmentation, precision.
        recipe: of the classifier.
        division: the videos.
        checkpoint: where progress is kept.
    """

    mode: Mode
    settings: Settings
    recipe: Recipe
    division: Division
    checkpoint: Path

    def plan(self, epoch: int) -> list[list[RandomClip]]:
        """The batches of an epoch."""
        return plan_clips(
            {entry.id: entry.frames or 0 for entry in self.division.train},
            settings=self.settings,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
        )
