"""Prepare a run's training: its method, restored from the last checkpoint, in the loop."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from slic.cache import ClipStore
from slic.clips.reading import ReaderPool
from slic.config import Settings, load_method
from slic.encoders.precision import tune
from slic.encoders.weights import Weights
from slic.engine.checkpoint import resume
from slic.engine.distributed import SINGLE, Ranks
from slic.engine.estimate import estimate_seconds
from slic.engine.forward import ComputeOptions
from slic.engine.loop import Loop
from slic.engine.profile import Profile
from slic.engine.saving import Saver
from slic.runs import Run, lock_run
from slic.train.methods.base import Method
from slic.train.outcome import remove_leftovers


@contextmanager
def training(
    run: Run,
    *,
    compute: ComputeOptions,
    keep: bool = False,
    weights: Weights | None = None,
    ranks: Ranks = SINGLE,
    say: Callable[[str], None] = print,
) -> Iterator[tuple[Method, Loop]]:
    """Acquire the run's lock and restore its last checkpoint, if any; call the loop to train.

    Args:
        run: run folder and settings; only rank 0 reads and writes the folder.
        compute: device, and how to compute.
        keep: also keep the checkpoint of each clustering.
        weights: weights to start from; by default they are random.
        ranks: processes that train together, each on its share of every batch.
        say: called with each line for the user.

    Raises:
        InputError: the device does not support the settings.
        StoreError: the store cannot be trained on.
        CheckpointError: the checkpoint does not fit, or another process trains this run.
    """
    tune(compute.device, run.settings.precision)
    profile = Profile(compute.device, enabled=compute.profile)
    readers = ReaderPool(ClipStore(run.store), workers=compute.workers, device=compute.device)
    method: Method = load_method(run.settings.method, where=str(run.path))(
        run, readers, compute=compute, profile=profile, weights=weights, ranks=ranks, say=say
    )
    with ExitStack() as stack:

        def lock() -> None:
            stack.callback(lock_run(run.path))
            remove_leftovers(run)

        ranks.on_first(lock)
        progress = resume(run.checkpoint, method, ranks=ranks)
        saver = Saver(method, progress, run.checkpoint, ranks=ranks, run=run, keep=keep)
        yield method, Loop(method, saver, device=compute.device, profile=profile)


def seconds_left(method: Method, *, epoch: int, steps: int) -> float:
    """Estimate the time of the last `steps` steps, from `epoch` on, by doing a few of them."""
    return estimate_seconds(
        method.encoder,
        method.readers.store,
        [sample for batch in method.plan(epoch) for sample in batch],
        settings=method.settings,
        compute=method.compute,
        steps=steps,
        embeddings=method.clips_to_embed(epoch),
        processes=method.ranks.size,
    )


def expected_seconds(store: Path, settings: Settings, compute: ComputeOptions) -> float:
    """Estimate the time of a complete run, by reading a few clips and doing a few steps.

    Raises:
        StoreError: the store cannot be trained on.
    """
    run = Run(Path(), settings, store, store_digest="", preset="")
    readers = ReaderPool(ClipStore(store), workers=0)
    kind = load_method(settings.method, where="settings")
    method: Method = kind(run, readers, compute=compute)
    return seconds_left(method, epoch=0, steps=method.epochs * method.epoch_steps)
