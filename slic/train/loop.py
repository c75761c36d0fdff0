"""`slic train`: the loop of clustering, sampling and steps (paper, section 3)."""

import contextlib
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from slic.cache import ClipStore, Entry
from slic.config import Settings
from slic.devices import tune
from slic.draws import seeded
from slic.encoders import Encoder, new_encoder
from slic.errors import CheckpointError, StoreError, WorkError
from slic.progress import progress as show_progress
from slic.reading import ReaderPool
from slic.runs import Run, lock_run
from slic.saving import CHECKPOINT_EVERY_S
from slic.stopping import stops_held
from slic.train.checkpoint import Progress, restore, save_checkpoint
from slic.train.compute import Means, make_forward
from slic.train.epoch import Epoch
from slic.train.optimise import learning_rate, make_optimiser
from slic.train.profile import CLUSTERING, Profile
from slic.train.recluster import cluster_videos, clustering_line, is_due
from slic.train.record import Recorder
from slic.train.safety import FAILED_STEP, finite_weights, not_finite
from slic.train.samples import SampleLoader
from slic.train.sampling import Sample, plan_epoch
from slic.train.step import batch_labels, forward_loss
from slic.weights import Weights, load_weights

LEAST_VIDEOS = 2


def training_entries(store: ClipStore, settings: Settings) -> list[Entry]:
    """The videos to train on: those that the split's list calls `train`.

    Raises:
        StoreError: no such split, too few videos, frames of different parameters, or flow is
            asked for and missing.
    """
    stored = store.entries()
    entries = [entry for entry in stored if entry.split(settings.split) == "train"]
    if not any(entry.split(settings.split) for entry in stored):
        raise StoreError(f"{store.path}: has no split {settings.split}")
    if len(entries) < LEAST_VIDEOS:
        raise StoreError(
            f"{store.path}: {len(entries)} training video(s) in split {settings.split};"
            f" a triplet needs at least {LEAST_VIDEOS}"
        )
    outdated = store.outdated(entries)
    if outdated:
        raise StoreError(
            f"{store.path}: {len(outdated)} of {len(entries)} training videos have frames of other"
            " parameters than the others, since `slic prep frames --overwrite` was stopped: run"
            " `slic prep frames` on the data set again"
        )
    if settings.cluster == "kmeans" and settings.kmeans_clusters > len(entries):
        raise StoreError(
            f"{store.path}: {len(entries)} training videos cannot make"
            f" {settings.kmeans_clusters} clusters; give --cluster kmeans:N with fewer"
        )
    without = sum(entry.flow is None for entry in entries)
    if settings.flow_probability > 0 and without:
        raise StoreError(
            f"{store.path}: {without} of {len(entries)} training videos have no flow; run"
            f" `slic prep flow {store.path}`, or train with --no-flow"
        )
    return entries


def tested_entries(store: ClipStore, settings: Settings) -> list[Entry]:
    """The labelled test videos of the split, whose recall is recorded and never looked at."""
    tested = (e for e in store.entries() if e.split(settings.split) == "test")
    return [entry for entry in tested if entry.label is not None]


@dataclass
class State:
    """Everything that changes while a run trains."""

    encoder: Encoder
    optimiser: torch.optim.Optimizer
    progress: Progress
    saved_at: float


class Training:
    """One run's training, from where its checkpoint stands to the end.

    It holds the run's lock until the training ends or fails.

    Args:
        run: its folder and settings.
        means: with what to compute.
        keep: also keep the checkpoint of each clustering.
        weights: to start from, rather than random ones.
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
        say: Callable[[str], None] = print,
    ) -> None:
        self.run, self.settings, self.means, self.keep = run, run.settings, means, keep
        self.say = say
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
        self._unlock = weakref.finalize(self, lock_run(run.path))
        try:
            remove_leftovers(run)
            self.state = self._restored(weights)
        except BaseException:
            self._unlock()
            raise
        self.readers = ReaderPool(
            self.store, workers=means.workers, pin=means.device.type == "cuda"
        )
        self.forward = make_forward(self.state.encoder, means, self.settings.precision)

    def _restored(self, weights: Weights | None) -> State:
        encoder = new_encoder(self.settings.encoder, seed=self.settings.seed)
        if weights is not None:
            load_weights(encoder, weights, where=self.settings.init)
        # Channels last is the faster layout on CPUs too.
        encoder = encoder.to(self.means.device).to(memory_format=torch.channels_last_3d)
        optimiser = make_optimiser(encoder, self.settings)
        progress = Progress()
        if self.run.checkpoint.exists():
            settings = self.settings.as_dict()
            progress = restore(
                self.run.checkpoint, encoder, optimiser, settings=settings, videos=self.lengths
            )
        return State(encoder, optimiser, progress, time.monotonic())

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
        recorder = Recorder(self.run, lines=progress.lines)
        loader = SampleLoader(
            self.readers, settings, augment_on_device=self.means.augment_on_device
        )
        try:
            with show_progress(self.steps_left, "train", unit="clips") as advance:
                while progress.epoch < settings.epochs:
                    self._cluster_if_due(recorder)
                    self._epoch(loader, recorder, advance)
            if progress.clustered_at != progress.epoch:
                self._cluster(recorder)
            if not is_done(self.run):
                recorder.write("done", progress.total_steps, {"epoch": progress.epoch})
                self._save(recorder)
        finally:
            recorder.close()

    def _cluster_if_due(self, recorder: Recorder) -> None:
        progress = self.state.progress
        due = is_due(self.settings, progress.epoch) or not progress.clusters
        if due and progress.clustered_at != progress.epoch:
            self._cluster(recorder)

    def _cluster(self, recorder: Recorder) -> None:
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
            recorder.write("clustering", progress.total_steps, found.record)
            self._save(recorder)
        if self.keep:
            self._save(recorder, name=f"epoch{progress.epoch:05d}")

    def _epoch(
        self, loader: SampleLoader, recorder: Recorder, advance: Callable[[int, float], None]
    ) -> None:
        progress, begin = self.state.progress, time.monotonic()
        assert progress.clusters is not None
        plan = plan_epoch(
            self.lengths, progress.clusters, settings=self.settings, epoch=progress.epoch
        )
        epoch = Epoch(plan, progress.sums, self.means.device)
        self.state.encoder.train()
        try:
            self._steps(epoch, loader, recorder, advance)
        except KeyboardInterrupt:
            if self._whole:
                with stops_held():
                    self._save_within(epoch, recorder)
            raise
        self._check(epoch)
        record = epoch.record(self.truth)
        # The optimiser's own is not that of the last step where a run goes on after it.
        steps = self.settings.epochs * self.epoch_steps
        lr = learning_rate(progress.total_steps - 1, steps, settings=self.settings)
        took = {"lr": lr, "seconds": round(time.monotonic() - begin, 3)}
        with stops_held():
            line = {"epoch": progress.epoch, **record, **took}
            recorder.write("epoch", progress.total_steps, line)
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            self._save(recorder)
        (self.run.path / FAILED_STEP).unlink(missing_ok=True)  # of an attempt before

    def _steps(
        self,
        epoch: Epoch,
        loader: SampleLoader,
        recorder: Recorder,
        advance: Callable[[int, float], None],
    ) -> None:
        progress = self.state.progress
        left = epoch.plan[progress.step :]
        read = self.profile.waiting(loader.batches(left))
        for batch, parts in zip(left, read, strict=True):
            with stops_held():
                self._whole = False
                with self.profile.phase("to the device"):
                    clips = loader.on_device(parts, self.means.device)
                bad = epoch.add(progress.step, self._step(batch, clips))
                progress.step += 1
                progress.total_steps += 1
                self._whole = True
            if bad is not None:
                raise self._not_finite(epoch, "loss", bad)
            advance(1, 3 * len(batch))
            if time.monotonic() - self.state.saved_at > CHECKPOINT_EVERY_S:
                self._save_within(epoch, recorder)

    def _save_within(self, epoch: Epoch, recorder: Recorder) -> None:
        self._check(epoch)
        self.state.progress.sums = epoch.sums
        self._save(recorder)

    def _check(self, epoch: Epoch) -> None:
        """Raise WorkError rather than save what is not finite."""
        bad = epoch.watch.first()
        if bad is not None:
            raise self._not_finite(epoch, "loss", bad)
        if not finite_weights(self.state.encoder):
            raise self._not_finite(epoch, "weights", self.state.progress.step - 1)

    def _not_finite(self, epoch: Epoch, what: str, step: int) -> WorkError:
        progress = self.state.progress
        return not_finite(
            self.run,
            what,
            epoch=progress.epoch,
            step=progress.total_steps - progress.step + step + 1,
            batch=epoch.plan[step],
            rate=self.state.optimiser.param_groups[0]["lr"],
        )

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

    def _save(self, recorder: Recorder, *, name: str = "latest") -> None:
        progress = self.state.progress
        progress.lines = recorder.lines
        save_checkpoint(
            self.run.checkpoint.with_name(name),
            self.state.encoder,
            self.state.optimiser,
            progress=progress,
            settings=self.settings.as_dict(),
        )
        self.state.saved_at = time.monotonic()


def remove_leftovers(run: Run) -> None:
    """Remove what a killed process has left half-written; only for the holder of the lock."""
    patterns = (
        ".metrics.jsonl.*",
        ".clusters.h5.*",
        f".{FAILED_STEP}.*",
        "checkpoints/.latest.*",
        "checkpoints/.epoch*.*",
        "embeddings/.*-train.h5.*",
    )
    for path in (path for pattern in patterns for path in run.path.glob(pattern)):
        path.unlink(missing_ok=True)


def is_done(run: Run) -> bool:
    """Whether a run has trained to its end."""
    return bool(run.records("done"))


def result(run: Run) -> dict[str, Any]:
    """What `slic train --json` prints of a finished run.

    Raises:
        CheckpointError: lines of its metrics.jsonl are lost.
    """
    epochs, clusterings = run.records("epoch"), run.records("clustering")
    if not epochs or not clusterings or not _is_whole(epochs[-1], clusterings):
        raise CheckpointError(f"{run.metrics}: its lines are lost; the checkpoint is whole")
    last = clusterings[-1]
    return {
        "run": str(run.path),
        "epochs": len(epochs),
        "steps": epochs[-1]["step"],
        "checkpoint": str(run.checkpoint),
        "loss": epochs[-1]["loss"],
        "clusters": last["clusters"],
        "clusters_used": any(line["in_use"] for line in clusterings[:-1]),
        "nmi": last["nmi"],
        "ami": last["ami"],
        "recall": last["recall"],
    }


def _is_whole(epoch: Mapping[str, Any], clusterings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether lines of metrics.jsonl hold what is printed of them."""
    last = clusterings[-1]
    recall = {} if last.get("recall", "") is None else last.get("recall")
    if not isinstance(recall, dict) or not {"nmi", "ami"} <= last.keys():
        return False
    numbers = [epoch.get("loss"), *recall.values()]
    numbers += [last[name] for name in ("nmi", "ami") if last[name] is not None]
    counts = [epoch.get("step"), last.get("clusters")]
    return (
        all(isinstance(number, float) for number in numbers)
        and all(isinstance(count, int) for count in counts)
        and all(isinstance(line.get("in_use"), bool) for line in clusterings)
    )
