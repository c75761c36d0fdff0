"""Training of a classifier on augmented clips, as a task of the engine's loop (section 4.3)."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from slic.clips.reading import ReaderPool
from slic.config import Settings
from slic.encoders.encoder import Encoder
from slic.encoders.precision import tune
from slic.encoders.tensor_files import state_mismatch
from slic.engine.loader import SampleLoader
from slic.engine.task import Sums, Task
from slic.errors import InputError, WorkError
from slic.eval.augmented import RandomClip, dropout_mask, plan_clips
from slic.eval.classifier import Classifier, make_optimiser
from slic.eval.holdout import Division
from slic.eval.recipe import Mode, Recipe
from slic.eval.views import mean_probabilities
from slic.metrics import topk_accuracy
from slic.runtime.progress import progress


class Finetuning(Task):
    """Train a classifier, the linear layer alone or end to end, and test it.

    Attributes:
        classifier: The network, on the device.
        classes: The C class names, sorted.
        history: For each epoch: epoch (from 1), lr, loss, validation_top1 (None without
            validation videos).
        best_epoch: The best epoch so far, from 1; 0 before the first.
        best: Its weights; None if the latest weights are the best.
        finished: Training is over, and the network has the weights to test.

    Args:
        encoder: The run's encoder; copied.
        readers: Reader processes of the videos' store.
        mode: `linear-augmented` or `finetune`.
        settings: Settings of the run, for clips, augmentation and precision.
        recipe: Settings of the classifier.
        division: The videos.
        device: The device to train on.

    Raises:
        InputError: The device cannot compute in this precision, or a batch would have one clip.
    """

    lower_memory = "run the same command with a smaller --batch-size"

    def __init__(
        self,
        encoder: Encoder,
        readers: ReaderPool,
        *,
        mode: Mode,
        settings: Settings,
        recipe: Recipe,
        division: Division,
        device: torch.device,
    ) -> None:
        self.mode, self.settings, self.recipe, self.division = mode, settings, recipe, division
        self.readers, self.device, self.classes = readers, device, division.classes
        self.name, self.epochs = mode, recipe.epochs
        codes = {name: code for code, name in enumerate(self.classes)}
        self.codes = {e.id: codes[e.label or ""] for e in division.train}
        tune(device, settings.precision)
        classifier = Classifier(
            encoder,
            len(self.classes),
            frozen=mode == "linear-augmented",
            precision=settings.precision,
            seed=recipe.seed,
        )
        self.classifier = classifier.to(device).to(memory_format=torch.channels_last_3d).train()
        self.encoder, self.network = classifier.backbone, classifier.trained
        self.optimiser = make_optimiser(self.classifier)
        self.loader = SampleLoader(readers, settings, clips=1)
        self._probabilities = partial(
            mean_probabilities, self.classifier, readers, settings=settings, device=device
        )
        first = self.plan(0)
        self.epoch_steps = len(first)
        if min(map(len, first)) < 2 and not classifier.frozen:
            raise InputError(
                f"--batch-size {recipe.batch_size}: leaves a batch of one clip, which batch"
                " normalisation cannot use; give 3 or more"
            )
        self.history: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] | None = None
        self.finished = False

    def plan(self, epoch: int) -> list[list[RandomClip]]:  # type: ignore[override]
        """Plan one clip of every training video."""
        lengths = {entry.id: entry.frames or 0 for entry in self.division.train}
        return plan_clips(lengths, self.settings, self.recipe, epoch)

    def learning_rate(self, epoch: int, step: int) -> float:
        """Return the linear layer's rate; the backbone's is a share of it."""
        return self.recipe.rate(epoch)

    def loss(
        self, clips: Tensor, batch: Sequence[Any], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """Compute the cross entropy, with dropout before the linear layer."""
        mask = dropout_mask(batch, self.classifier.width, self.recipe.dropout)
        targets = torch.tensor([self.codes[clip.video] for clip in batch])
        logits = self.classifier(clips[0], mask.to(self.device, non_blocking=True))
        loss = cross_entropy(logits, targets.to(self.device, non_blocking=True))
        return loss, {"loss": (loss.detach() * len(batch)).double()}

    def validate(self, epoch: int) -> dict[str, Any]:
        """Measure top-1 on the centre clips of the validation videos, if there are any."""
        videos = self.division.validation
        if not videos:
            return {"validation_top1": None}
        probabilities = self._probabilities(videos, clips=1, crops=1)
        self.classifier.train()
        targets = [self.classes.index(entry.label or "") for entry in videos]
        return {"validation_top1": topk_accuracy(probabilities, targets, 1)}

    def end_epoch(
        self,
        plan: Sequence[Sequence[Any]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """Add the epoch to the history, and keep its weights if they are the best so far."""
        figures = {"loss": sums["loss"] / len(self.codes), **measured}
        self.history.append({"epoch": epoch + 1, "lr": self.recipe.rate(epoch), **figures})
        top1 = measured["validation_top1"]
        if top1 is None:
            self.best_epoch = epoch + 1
        # The later of equals has been trained for longer, at a lower rate.
        elif self.best is None or top1 >= self.history[self.best_epoch - 1]["validation_top1"]:
            state = self.network.state_dict()
            self.best = {k: v.detach().cpu().clone() for k, v in state.items()}
            self.best_epoch = epoch + 1
        return figures

    def finish(self, epoch: int) -> None:
        """Load the best weights, and drop the optimiser's state, which is no longer needed."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.best, self.finished = None, True
        self.optimiser.state.clear()

    def test(self) -> NDArray[np.float32]:
        """Compute `(N, C)` class probabilities of the N test videos."""
        recipe, videos = self.recipe, self.division.test
        with self.memory(), progress(len(videos), "test", unit="views") as advance:
            return self._probabilities(
                videos, clips=recipe.clips, crops=recipe.crops, advance=advance
            )

    def diverged(
        self, what: str, batch: Sequence[Any], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """Make the error for a loss or weights that are not finite."""
        verb = "are" if what == "weights" else "is"
        return WorkError(f"the {what} {verb} not finite in epoch {epoch + 1}: give a smaller --lr")

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """Mode, classes and recipe; the run and the store are in the name of the file."""
        return {"mode": self.mode, "classes": self.classes, **asdict(self.recipe)}

    def state(self) -> dict[str, Any]:
        """Return the history and the best weights so far."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best": self.best,
            "finished": self.finished,
        }

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore the history of `epoch` epochs and the best weights."""
        if state.keys() != self.state().keys():
            raise ValueError("it is not the state of a classifier's training")
        history, best, best_epoch = state["history"], state["best"], state["best_epoch"]
        if not isinstance(history, list) or len(history) != epoch:
            raise ValueError("its history does not match its epoch")
        if best is not None and (reason := state_mismatch(best, self.network.state_dict())):
            raise ValueError(f"its best weights do not fit: {reason}")
        self.history, self.best_epoch, self.best = history, best_epoch, best
        self.finished = state["finished"]
