"""A classifier trained on augmented clips: the linear layer alone, or end to end (section 4.3)."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from slic.cache import Entry
from slic.clips.reading import ReaderPool
from slic.encoders.encoder import Encoder
from slic.encoders.precision import tune
from slic.engine.saving import CHECKPOINT_EVERY_S
from slic.errors import InputError, WorkError
from slic.eval.augmented import RandomClip, dropout_mask, read_batches
from slic.eval.classifier import Classifier, make_optimiser, set_rates
from slic.eval.recipe import Crops
from slic.eval.state import State, restore_state, save_state, weights_of
from slic.eval.task import Task
from slic.eval.views import mean_probabilities
from slic.metrics import topk_accuracy
from slic.runtime.progress import progress
from slic.runtime.signals import stops_held

Advance = Callable[[int, float], None]


class Finetuning:
    """One training and its test, from where its checkpoint stands.

    Attributes:
        network: the classifier, on the device.
        state: how far it is.

    Args:
        encoder: of the run; copied.
        readers: of the store.
        task: what to do.
        device: where to compute.

    Raises:
        InputError: the device cannot compute as asked, or a clip would be alone in its batch.
        CheckpointError: a checkpoint that does not fit.
    """

    def __init__(
        self, encoder: Encoder, readers: ReaderPool, task: Task, *, device: torch.device
    ) -> None:
        self.readers, self.task, self.device = readers, task, device
        self.classes = task.division.classes
        codes = {name: code for code, name in enumerate(self.classes)}
        self.codes = {e.id: codes[e.label or ""] for e in task.division.train}
        tune(device, task.settings.precision)
        network = Classifier(
            encoder,
            len(self.classes),
            frozen=task.mode == "linear-augmented",
            precision=task.settings.precision,
            seed=task.recipe.seed,
        )
        self.network = network.to(device).to(memory_format=torch.channels_last_3d)
        if min(map(len, task.plan(0))) < 2 and not network.frozen:
            raise InputError(
                f"--batch-size {task.recipe.batch_size}: leaves a clip alone in its batch, which"
                " has no statistics then; give 3 or more"
            )
        self.optimiser = make_optimiser(self.network)
        self.state, self._saved_at = State(), time.monotonic()
        self._whole = True  # no step is half done
        if task.checkpoint.exists():
            self.state = restore_state(
                task.checkpoint,
                self.network,
                self.optimiser,
                classes=self.classes,
                epochs=task.recipe.epochs,
            )

    @property
    def epochs_left(self) -> int:
        """Epochs until the end of the training."""
        return self.task.recipe.epochs - self.state.epoch

    def __call__(self) -> NDArray[np.float32]:
        """Train to the end, and then test once.

        Returns:
            `(N, C)` probabilities of the test videos.

        Raises:
            WorkError: training diverged, memory did not suffice, or a video is damaged.
            KeyboardInterrupt: it was told to stop; the checkpoint is of the last step done.
        """
        try:
            if not self.state.finished:
                self._train()
            return self._test()
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"{self.device}: out of memory: run the same command with a smaller --batch-size"
            ) from error

    def _train(self) -> None:
        state, network = self.state, self.network
        steps = self.epochs_left * len(self.task.plan(0)) - state.step
        with progress(steps, self.task.mode, unit="clips") as advance:
            while self.epochs_left:
                self._epoch(advance)
        if state.best is not None:
            network.trained.load_state_dict(state.best)
        state.best, state.finished = None, True
        self._save()

    def _save(self) -> None:
        save_state(
            self.task.checkpoint, self.state, self.network, self.optimiser, classes=self.classes
        )
        self._saved_at = time.monotonic()

    def _epoch(self, advance: Advance) -> None:
        state, rate = self.state, self.task.recipe.rate(self.state.epoch)
        set_rates(self.optimiser, rate)
        self.network.train()
        loss = torch.tensor(state.loss, dtype=torch.float64, device=self.device)
        try:
            self._steps(loss, advance)
            mean = self._finite(loss) / len(self.codes)
            top1 = self._validate()
        except KeyboardInterrupt:
            if self._whole:
                with stops_held():
                    self._save_within(loss)
            raise
        with stops_held():
            state.epoch, state.step, state.loss = state.epoch + 1, 0, 0.0
            line = {"epoch": state.epoch, "lr": rate, "loss": mean, "validation_top1": top1}
            state.history.append(line)
            self._keep_best(top1)
            self._save()

    def _steps(self, loss: Tensor, advance: Advance) -> None:
        """The steps left of an epoch, their losses added in place."""
        left = self.task.plan(self.state.epoch)[self.state.step :]
        read = read_batches(self.readers, left, settings=self.task.settings)
        for batch, parts in zip(left, read, strict=True):
            with stops_held():
                self._whole = False
                clips = torch.cat([part.to(self.device, non_blocking=True) for part in parts])
                loss += self._step(batch, clips) * len(batch)
                self.state.step += 1
                self._whole = True
            advance(1, len(batch))
            if time.monotonic() - self._saved_at > CHECKPOINT_EVERY_S:
                self._save_within(loss)

    def _save_within(self, loss: Tensor) -> None:
        self.state.loss = self._finite(loss)
        self._save()

    def _finite(self, loss: Tensor) -> float:
        total = float(loss)
        if not math.isfinite(total):
            epoch = self.state.epoch + 1
            raise WorkError(f"the loss is {total} in epoch {epoch}: give a smaller --lr")
        return total

    def _step(self, batch: Sequence[RandomClip], clips: Tensor) -> Tensor:
        mask = dropout_mask(batch, self.network.width, self.task.recipe.dropout)
        targets = torch.tensor([self.codes[clip.video] for clip in batch])
        logits = self.network(clips, mask.to(self.device, non_blocking=True))
        loss = cross_entropy(logits, targets.to(self.device, non_blocking=True))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def _validate(self) -> float | None:
        """Top-1 of the held-out training videos' centre clips; None where none is held out."""
        held = self.task.division.validation
        if not held:
            return None
        probabilities = self._probabilities(held, clips=1, crops=1)
        targets = [self.classes.index(entry.label or "") for entry in held]
        return topk_accuracy(probabilities, targets, 1)

    def _keep_best(self, top1: float | None) -> None:
        """Note the weights if none before were better; without validation, the last are tested."""
        state = self.state
        if top1 is None:
            state.best_epoch = state.epoch
            return
        # Of equals the later: it has been trained for longer, at a lower rate.
        if state.best is None or top1 >= state.history[state.best_epoch - 1]["validation_top1"]:
            state.best, state.best_epoch = weights_of(self.network), state.epoch

    def _test(self) -> NDArray[np.float32]:
        recipe, videos = self.task.recipe, self.task.division.test
        with progress(len(videos), "test", unit="views") as advance:
            return self._probabilities(
                videos, clips=recipe.clips, crops=recipe.crops, advance=advance
            )

    def _probabilities(
        self, entries: Sequence[Entry], *, clips: int, crops: Crops, advance: Advance | None = None
    ) -> NDArray[np.float32]:
        return mean_probabilities(
            self.network,
            self.readers,
            entries,
            settings=self.task.settings,
            clips=clips,
            crops=crops,
            device=self.device,
            advance=advance,
        )
