"""A run's training, ready to start: its method, restored from the last checkpoint, in the loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from slic.cache import ClipStore, Entry
from slic.clips.reading import ReaderPool
from slic.config import Settings, load_method
from slic.encoders.encoder import Encoder, new_encoder
from slic.encoders.precision import tune
from slic.encoders.weights import Weights
from slic.engine.checkpoint import resume
from slic.engine.distributed import ALONE, Ranks
from slic.engine.estimate import estimate_seconds
from slic.engine.forward import ComputeOptions
from slic.engine.loop import Loop
from slic.engine.profile import Profile
from slic.engine.saving import Saver
from slic.runs import Run, lock_run
from slic.train.methods.base import Method
from slic.train.outcome import remove_leftovers
from slic.train.training_set import tested_entries, training_entries


@contextmanager
def training(
    run: Run,
    *,
    compute: ComputeOptions,
    keep: bool = False,
    weights: Weights | None = None,
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[Method, Loop]]:
    """Lock a run, and restore its last checkpoint, if there is one; call the loop to train.

    Several processes train together, each on its share of every batch; the first alone touches
    the run's folder.

    Args:
        run: its folder and settings.
        compute: device, and how to compute.
        keep: also keep the checkpoint of each clustering.
        weights: to start from, rather than random ones.
        ranks: the processes that train together.
        say: takes lines meant for the user.

    Raises:
        InputError: the device cannot compute as asked.
        StoreError: the store cannot be trained on.
        CheckpointError: a checkpoint that does not fit, or another process trains this run.
    """
    tune(compute.device, run.settings.precision)
    profile = Profile(compute.device, wanted=compute.profile)
    readers = ReaderPool(ClipStore(run.store), workers=compute.workers, device=compute.device)
    method: Method = load_method(run.settings.method, where=str(run.path))(
        run, readers, compute=compute, profile=profile, weights=weights, ranks=ranks, say=say
    )
    with _locked(run, ranks):
        progress = resume(run.checkpoint, method, ranks=ranks)
        saver = Saver(method, progress, run.checkpoint, ranks=ranks, run=run, keep=keep)
        yield method, Loop(method, saver, device=compute.device, profile=profile)


@contextmanager
def _locked(run: Run, ranks: Ranks) -> Iterator[None]:
    """Hold the run's lock, at the first process."""
    with ExitStack() as held:

        def lock() -> None:
            held.callback(lock_run(run.path))
            remove_leftovers(run)

        ranks.decided(lock)
        yield


def seconds_left(method: Method, loop: Loop) -> float:
    """Time until the end of a training, from a few clips read and steps done."""
    return _seconds(
        method.readers.store,
        method.entries,
        settings=method.settings,
        compute=method.compute,
        encoder=method.encoder,
        epoch=loop.progress.epoch,
        steps=loop.steps_left,
        tested=len(method.tested),
        ranks=method.ranks,
    )


def expected_seconds(store: Path, settings: Settings, compute: ComputeOptions) -> float:
    """Time that a whole run of these settings will take, from a few clips read and steps done.

    Raises:
        StoreError: the store cannot be trained on.
    """
    clips = ClipStore(store)
    entries = training_entries(clips, settings)
    encoder = new_encoder(settings.encoder, seed=0).to(compute.device)
    return _seconds(
        clips,
        entries,
        settings=settings,
        compute=compute,
        encoder=encoder.to(memory_format=torch.channels_last_3d),
        epoch=0,
        steps=settings.epochs * -(-len(entries) // settings.batch_size),
        tested=len(tested_entries(clips, settings)),
    )


def _seconds(
    store: ClipStore,
    entries: Sequence[Entry],
    *,
    settings: Settings,
    compute: ComputeOptions,
    encoder: Encoder,
    epoch: int,
    steps: int,
    tested: int,
    ranks: Ranks = ALONE,
) -> float:
    method: type[Method] = load_method(settings.method, where="settings")
    lengths = {entry.id: entry.frames or 0 for entry in entries}
    plan = method.first_samples(lengths, settings, epoch=epoch)
    videos = len(entries) + tested
    return estimate_seconds(
        encoder,
        store,
        [sample for batch in plan for sample in batch],
        settings=settings,
        compute=compute,
        steps=steps,
        embeddings=method.embedded_clips(settings, epoch=epoch, videos=videos),
        processes=ranks.size,
    )
