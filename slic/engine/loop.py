"""`slic train`: the loop of clustering, sampling and steps (paper, section 3)."""

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.clips.seeding import seeded
from slic.encoders.encoder import Encoder, new_encoder
from slic.encoders.precision import tune
from slic.encoders.weights import Weights, load_weights
from slic.engine.checkpoint import Progress, packed, restore, save_checkpoint, unpack
from slic.engine.distributed import ALONE, Ranks
from slic.engine.divergence import FAILED_STEP, finite_weights, not_finite
from slic.engine.epoch import Epoch
from slic.engine.forward import Forward, Means, make_forward
from slic.engine.loader import SampleLoader
from slic.engine.log import Recorder
from slic.engine.optimise import learning_rate, make_optimiser
from slic.engine.profile import CLUSTERING, Profile
from slic.engine.saving import CHECKPOINT_EVERY_S
from slic.engine.synchronised import can_save, in_step, share_of_normalisation, shown
from slic.errors import WorkError
from slic.runs import Run, lock_run
from slic.runtime.signals import stops_held
from slic.train.outcome import is_done, remove_leftovers
from slic.train.recluster import cluster_videos, clustering_line, is_due
from slic.train.sampling import Sample, plan_epoch
from slic.train.step import batch_labels, forward_loss
from slic.train.training_set import tested_entries, training_entries


@dataclass
class State:
    """Everything that changes while a run trains."""

    encoder: Encoder
    optimiser: torch.optim.Optimizer
    progress: Progress
    saved_at: float


class Training:
    """One run's training, from where its checkpoint stands to the end.

    It holds the run's lock until the training ends or fails. Several processes train together,
    each on its share of every batch; the first alone touches the run's folder.

    Args:
        run: its folder and settings.
        means: with what to compute.
        keep: also keep the checkpoint of each clustering.
        weights: to start from, rather than random ones.
        ranks: the processes that train together.
        say: takes lines meant for the user.

    Raises:
        InputError: the device cannot compute as asked.
        StoreError: the store cannot be trained on.
        CheckpointError: a checkpoint that does not fit, or another process trains this run.
    """

    def __init__(
        self,
        run: Run,
        *,
        means: Means,
        keep: bool = False,
        weights: Weights | None = None,
        ranks: Ranks = ALONE,
        say: Callable[[str], None] = print,
    ) -> None:
        self.run, self.settings, self.means, self.keep = run, run.settings, means, keep
        self.ranks, self.say = ranks, say
        self._whole = True  # no step is half done
        tune(means.device, self.settings.precision)
        self.profile = Profile(means.device, wanted=means.profile)
        self.store = ClipStore(run.store)
        self.entries = training_entries(self.store, self.settings)
        self.test = tested_entries(self.store, self.settings)
        self.lengths = {entry.id: entry.frames or 0 for entry in self.entries}
        names = sorted({entry.label for entry in self.entries if entry.label is not None})
        codes = {name: code for code, name in enumerate(names)}
        self.truth = {e.id: codes[e.label] for e in self.entries if e.label is not None}
        self.epoch_steps = -(-len(self.entries) // self.settings.batch_size)
        self._unlock: Callable[[], Any] = lambda: None
        self._recorder: Recorder | None = None
        self.state = self._begun(weights)
        self.readers = ReaderPool(
            self.store, workers=means.workers, pin=means.device.type == "cuda"
        )

    def _begun(self, weights: Weights | None) -> State:
        """The state from which all processes go on: what the first finds in the run's folder."""
        encoder = new_encoder(self.settings.encoder, seed=self.settings.seed)
        if weights is not None:
            load_weights(encoder, weights, where=self.settings.init)
        # Channels last is the faster layout on CPUs too.
        encoder = encoder.to(self.means.device).to(memory_format=torch.channels_last_3d)
        optimiser = make_optimiser(encoder, self.settings)
        state = State(encoder, optimiser, Progress(), time.monotonic())
        told = self.ranks.decided(partial(self._restored, state))
        if not self.ranks.first:
            state.progress = unpack(told, encoder, optimiser)
        return state

    def _restored(self, state: State) -> bytes:
        """Lock the run, and change the state to its checkpoint's; the same for the others."""
        self._unlock = weakref.finalize(self, lock_run(self.run.path))
        encoder, optimiser, settings = state.encoder, state.optimiser, self.settings.as_dict()
        try:
            remove_leftovers(self.run)
            if self.run.checkpoint.exists():
                state.progress = restore(
                    self.run.checkpoint, encoder, optimiser, settings=settings, videos=self.lengths
                )
        except BaseException:
            self._unlock()
            raise
        if self.ranks.alone:
            return b""
        return packed(encoder, optimiser, progress=state.progress, settings=settings)

    @cached_property
    def forward(self) -> Forward:
        """The encoder's forward, made when needed: in several processes it waits for all."""
        return make_forward(
            self.state.encoder, self.means, self.settings.precision, ranks=self.ranks
        )

    @property
    def steps_left(self) -> int:
        """Steps until the end of the run."""
        return self.settings.epochs * self.epoch_steps - self.state.progress.total_steps

    def __call__(self) -> None:
        """Train to the end; a run interrupted anywhere goes on exactly where it was.

        Raises:
            WorkError: the GPU's memory does not suffice, a worker died, or a value is not finite.
            KeyboardInterrupt: it was told to stop; the checkpoint is of the last step done.
        """
        try:
            with self.memory():
                self._train()
        finally:
            self._unlock()

    @contextlib.contextmanager
    def memory(self) -> Iterator[None]:
        """Within, a GPU without memory left is one line that names what to lower.

        Raises:
            WorkError: it is.
        """
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise WorkError(self._short_of_memory()) from error

    def _train(self) -> None:
        settings, progress = self.settings, self.state.progress
        loader = SampleLoader(
            self.readers, settings, augment_on_device=self.means.augment_on_device
        )
        if note := share_of_normalisation(self.ranks, self.means.device):
            self.say(note)
        self.ranks.decided(self._open_recorder)
        try:
            with shown(self.ranks, self.steps_left, "train") as advance:
                while progress.epoch < settings.epochs:
                    self._cluster_if_due()
                    self._epoch(loader, advance)
            if progress.clustered_at != progress.epoch:
                self._cluster()
            if not self.ranks.decided(partial(is_done, self.run)):
                self._save(("done", {"epoch": progress.epoch}))
        finally:
            if self._recorder is not None:
                self._recorder.close()

    def _open_recorder(self) -> None:
        self._recorder = Recorder(self.run, lines=self.state.progress.lines)

    def _cluster_if_due(self) -> None:
        progress = self.state.progress
        due = is_due(self.settings, progress.epoch) or not progress.clusters
        if due and progress.clustered_at != progress.epoch:
            self._cluster()

    def _cluster(self) -> None:
        progress = self.state.progress
        with self.profile.phase(CLUSTERING):
            found = cluster_videos(
                self.state.encoder,
                self.readers,
                self.entries,
                run=self.run,
                epoch=progress.epoch,
                device=self.means.device,
                test=self.test,
                ranks=self.ranks,
            )
        self.say(clustering_line(found.record))
        if found.collapsed:
            self.say(
                f"{self.run.path}: the embedding has collapsed: at epoch {progress.epoch} the mean"
                f" cosine distance of the training videos is {found.record['distance']:.1e}; a"
                " smaller --lr, or another --objective, may help"
            )
        progress.clusters, progress.clustered_at = found.pseudo_labels, progress.epoch
        with stops_held():
            self._save(("clustering", found.record))
        if self.keep:
            self._save(name=f"epoch{progress.epoch:05d}")

    def _epoch(self, loader: SampleLoader, advance: Callable[[int, float], None]) -> None:
        progress, begin = self.state.progress, time.monotonic()
        assert progress.clusters is not None
        plan = plan_epoch(
            self.lengths, progress.clusters, settings=self.settings, epoch=progress.epoch
        )
        epoch = Epoch(plan, progress.sums, self.means.device)
        self.state.encoder.train()
        try:
            self._steps(epoch, loader, advance)
        except KeyboardInterrupt as stop:
            if self._whole and can_save(stop, self.ranks):
                with stops_held():
                    self._save_within(epoch)
            raise
        # The optimiser's own is not that of the last step where a run goes on after it.
        steps = self.settings.epochs * self.epoch_steps
        lr = learning_rate(progress.total_steps - 1, steps, settings=self.settings)
        with stops_held():
            self._check(epoch)
            took = {"lr": lr, "seconds": round(time.monotonic() - begin, 3)}
            line = {"epoch": progress.epoch, **epoch.record(self.truth), **took}
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            self._save(("epoch", line))
        if self.ranks.first:  # of an attempt before
            (self.run.path / FAILED_STEP).unlink(missing_ok=True)

    def _steps(
        self, epoch: Epoch, loader: SampleLoader, advance: Callable[[int, float], None]
    ) -> None:
        progress = self.state.progress
        left = epoch.plan[progress.step :]
        mine = [self.ranks.share(batch) for batch in left]
        with in_step(loader.batches(mine), self.ranks) as read:
            for batch, parts in zip(left, self.profile.waiting(read), strict=True):
                with stops_held():
                    self._whole = False
                    with self.profile.phase("to the device"):
                        clips = loader.on_device(parts, self.means.device)
                    bad = epoch.add(progress.step, self._step(batch, clips))
                    progress.step += 1
                    progress.total_steps += 1
                    self._whole = True
                if bad is not None:
                    self._fail(epoch, "loss", bad)
                advance(1, 3 * len(batch))
                (due,) = self.ranks.any(time.monotonic() - self.state.saved_at > CHECKPOINT_EVERY_S)
                if due:
                    self._save_within(epoch)

    def _save_within(self, epoch: Epoch) -> None:
        self._check(epoch)
        self.state.progress.sums = epoch.sums
        self._save()

    def _check(self, epoch: Epoch) -> None:
        """Make what is to be saved that of all processes; fail rather than if it is not finite."""
        statistics = [b for b in self.state.encoder.buffers() if b.is_floating_point()]
        self.ranks.average(statistics)
        bad = epoch.watch.first()
        if bad is not None:
            self._fail(epoch, "loss", bad)
        if not finite_weights(self.state.encoder):
            self._fail(epoch, "weights", self.state.progress.step - 1)

    def _fail(self, epoch: Epoch, what: str, step: int) -> None:
        """End the training of all processes, with WorkError in the first."""

        def fail() -> None:
            progress = self.state.progress
            raise not_finite(
                self.run,
                what,
                epoch=progress.epoch,
                step=progress.total_steps - progress.step + step + 1,
                batch=epoch.plan[step],
                rate=self.state.optimiser.param_groups[0]["lr"],
            )

        self.ranks.decided(fail)

    def _step(self, batch: list[Sample], clips: torch.Tensor) -> dict[str, torch.Tensor]:
        s, state, progress = self.settings, self.state, self.state.progress
        assert progress.clusters is not None
        rate = learning_rate(progress.total_steps, s.epochs * self.epoch_steps, settings=s)
        for group in state.optimiser.param_groups:
            group["lr"] = rate
        draws = seeded(s.seed, progress.epoch, "negatives", progress.step).integers(2**62)
        loss, sums = forward_loss(
            self.forward,
            clips,
            batch_labels(batch, progress.clusters, self.truth),
            settings=s,
            generator=torch.Generator().manual_seed(int(draws)),
            profile=self.profile,
            ranks=self.ranks,
        )
        state.optimiser.zero_grad(set_to_none=True)
        with self.profile.phase("backward"):
            loss.backward()
        with self.profile.phase("optimiser"):
            state.optimiser.step()
        return sums

    def _short_of_memory(self) -> str:
        recompute = "" if self.means.recompute else "run the same command with --recompute, or "
        return (
            f"{self.means.device}: out of memory at batch size {self.settings.batch_size}:"
            f" {recompute}start a run with a smaller --batch-size"
        )

    def _save(
        self, line: tuple[str, Mapping[str, Any]] | None = None, *, name: str = "latest"
    ) -> None:
        """Save a checkpoint, and before it a line of metrics.jsonl, given as kind and values."""
        self.ranks.decided(partial(self._write, line, name))
        self.state.saved_at = time.monotonic()

    def _write(self, line: tuple[str, Mapping[str, Any]] | None, name: str) -> None:
        progress, recorder = self.state.progress, self._recorder
        assert recorder is not None
        if line is not None:
            kind, values = line
            recorder.write(kind, progress.total_steps, values)
        progress.lines = recorder.lines
        save_checkpoint(
            self.run.checkpoint.with_name(name),
            self.state.encoder,
            self.state.optimiser,
            progress=progress,
            settings=self.settings.as_dict(),
        )
