"""A classifier trained on augmented clips: the linear layer alone, or end to end (section 4.3)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from slic.cache import Entry
from slic.clips.reading import ReaderPool
from slic.config import Settings
from slic.encoders.encoder import Encoder
from slic.encoders.precision import tune
from slic.encoders.restoring import unfit_weights
from slic.engine.checkpoint import is_count
from slic.engine.loader import SampleLoader
from slic.engine.synchronised import Advance
from slic.engine.task import Sums, Task
from slic.errors import InputError, WorkError
from slic.eval.augmented import RandomClip, dropout_mask, plan_clips
from slic.eval.classifier import Classifier, make_optimiser
from slic.eval.holdout import Division
from slic.eval.recipe import Crops, Mode, Recipe
from slic.eval.views import mean_probabilities
from slic.metrics import topk_accuracy
from slic.runtime.progress import progress


class Finetuning(Task):
    """The training of a classifier, and its test: a task of the engine's loop.

    Attributes:
        classifier: the network, on the device.
        classes: C, sorted.
        history: of each epoch: epoch (from 1), lr, loss, validation_top1 (None without validation).
        best_epoch: whose weights are best so far, from 1; 0 before the first.
        best: these weights; None where the last are the best.
        finished: training is over, and the network holds the weights to test.

    Args:
        encoder: of the run; copied.
        readers: of the store.
        mode: `linear-augmented` or `finetune`.
        settings: of the run: clips, augmentation, precision.
        recipe: of the classifier.
        division: the videos.
        device: where to compute.

    Raises:
        InputError: the device cannot compute as asked, or a clip would be alone in its batch.
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
        first = self.plan(0)
        self.epoch_steps = len(first)
        if min(map(len, first)) < 2 and not classifier.frozen:
            raise InputError(
                f"--batch-size {recipe.batch_size}: leaves a clip alone in its batch, which"
                " has no statistics then; give 3 or more"
            )
        self.history: list[dict[str, Any]] = []
        self.best_epoch = 0
        self.best: dict[str, Tensor] | None = None
        self.finished = False

    def plan(self, epoch: int) -> list[list[RandomClip]]:  # type: ignore[override]
        """Every training video once."""
        return plan_clips(
            {entry.id: entry.frames or 0 for entry in self.division.train},
            settings=self.settings,
            batch_size=self.recipe.batch_size,
            seed=self.recipe.seed,
            epoch=epoch,
        )

    def learning_rate(self, epoch: int, step: int) -> float:
        """The linear layer's rate; that of a backbone is a share of it."""
        return self.recipe.rate(epoch)

    def loss(
        self, clips: Tensor, batch: Sequence[Any], *, epoch: int, step: int
    ) -> tuple[Tensor, Sums]:
        """Cross entropy behind dropout."""
        mask = dropout_mask(batch, self.classifier.width, self.recipe.dropout)
        targets = torch.tensor([self.codes[clip.video] for clip in batch])
        logits = self.classifier(clips[0], mask.to(self.device, non_blocking=True))
        loss = cross_entropy(logits, targets.to(self.device, non_blocking=True))
        return loss, {"loss": (loss.detach() * len(batch)).double()}

    def validate(self, epoch: int) -> dict[str, Any]:
        """Top-1 of the held-out training videos' centre clips; None where none is held out."""
        held = self.division.validation
        if not held:
            return {"validation_top1": None}
        probabilities = self._probabilities(held, clips=1, crops=1)
        self.classifier.train()
        targets = [self.classes.index(entry.label or "") for entry in held]
        return {"validation_top1": topk_accuracy(probabilities, targets, 1)}

    def end_epoch(
        self,
        plan: Sequence[Sequence[Any]],
        sums: Mapping[str, float],
        measured: Mapping[str, Any],
        *,
        epoch: int,
    ) -> dict[str, Any]:
        """Note the epoch, and its weights if none before were better."""
        figures = {"loss": sums["loss"] / len(self.codes), **measured}
        self.history.append({"epoch": epoch + 1, "lr": self.recipe.rate(epoch), **figures})
        top1 = measured["validation_top1"]
        # Of equals the later: it has been trained for longer, at a lower rate.
        if top1 is None:
            self.best_epoch = epoch + 1
        elif self.best is None or top1 >= self.history[self.best_epoch - 1]["validation_top1"]:
            state = self.network.state_dict()
            self.best = {k: v.detach().cpu().clone() for k, v in state.items()}
            self.best_epoch = epoch + 1
        return figures

    def finish(self, epoch: int) -> None:
        """Take the best weights; what the optimiser keeps is not needed any more."""
        if self.best is not None:
            self.network.load_state_dict(self.best)
        self.best, self.finished = None, True
        self.optimiser.state.clear()

    def test(self) -> NDArray[np.float32]:
        """`(N, C)` probabilities of the test videos."""
        recipe, videos = self.recipe, self.division.test
        with self.memory(), progress(len(videos), "test", unit="views") as advance:
            return self._probabilities(
                videos, clips=recipe.clips, crops=recipe.crops, advance=advance
            )

    def _probabilities(
        self, entries: Sequence[Entry], *, clips: int, crops: Crops, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        return mean_probabilities(
            self.classifier,
            self.readers,
            entries,
            settings=self.settings,
            clips=clips,
            crops=crops,
            device=self.device,
            advance=advance,
        )

    def diverged(
        self, what: str, batch: Sequence[Any], *, epoch: int, step: int, rate: float
    ) -> WorkError:
        """The error of a loss or weights that are not finite."""
        return WorkError(f"the {what} is not finite in epoch {epoch + 1}: give a smaller --lr")

    @property
    def recorded_settings(self) -> dict[str, Any]:
        """What decides the classifier beside the run and its store, which its file's name tells."""
        return {"mode": self.mode, "classes": self.classes, **self.recipe.as_dict()}

    def state(self) -> dict[str, Any]:
        """The history, and the best weights so far."""
        return {
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best": self.best,
            "finished": self.finished,
        }

    def load_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restore the history and the best weights, which must be of as many epochs."""
        if state.keys() != self.state().keys():
            raise ValueError("no record of its progress")
        history, best, best_epoch = state["history"], state["best"], state["best_epoch"]
        if not isinstance(state["finished"], bool) or not is_count(best_epoch):
            raise ValueError("its progress holds impossible values")
        if not isinstance(history, list) or len(history) != epoch or best_epoch > epoch:
            raise ValueError("its history is not of its epochs")
        if len({type(_top1(line)) for line in history}) > 1:
            raise ValueError("its history has only some of its epochs validated")
        if (state["finished"] or best is not None) and best_epoch == 0:
            raise ValueError("its best epoch is none")
        if best is not None and (unfit := unfit_weights(best, self.network.state_dict())):
            raise ValueError(f"its best weights do not fit: {unfit}")
        self.history, self.best_epoch, self.best = history, best_epoch, best
        self.finished = state["finished"]


def _top1(line: Any) -> float | None:
    """Accuracy of one line of a history, if it was measured."""
    names = {"epoch", "lr", "loss", "validation_top1"}
    if not isinstance(line, dict) or line.keys() != names or type(line["epoch"]) is not int:
        raise ValueError("its history holds what is no epoch")
    top1 = line["validation_top1"]
    numbers = [line["lr"], line["loss"], *([] if top1 is None else [top1])]
    if not all(type(number) is float and math.isfinite(number) for number in numbers):
        raise ValueError("its history holds what is no number")
    return top1
