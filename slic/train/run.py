"""What `slic train` does around the loop: choose the run, say what will happen, train, report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from slic.cache import ClipStore, Entry
from slic.config import Settings
from slic.encoders.encoder import Encoder, new_encoder
from slic.encoders.precision import resolve_precision
from slic.engine.distributed import ALONE, Ranks, joined
from slic.engine.forward import Means
from slic.engine.loop import Training
from slic.engine.optimise import estimate_seconds
from slic.errors import InputError, StoreError
from slic.runs import Run
from slic.runtime.devices import pick_device, reading_workers
from slic.runtime.progress import clock
from slic.train.outcome import result
from slic.train.recluster import CLUSTERINGS, clusterings_left
from slic.train.sampling import plan_epoch
from slic.train.setup import Choice, choose
from slic.train.training_set import tested_entries, training_entries

GPU_PRESET, CPU_PRESET = "ucf101-16f", "cpu-small"


def train(
    store: str | None = None,
    *,
    preset: str | None = None,
    config: str | None = None,
    options: Mapping[str, Any] | None = None,
    run: str | None = None,
    new: bool = False,
    device: str = "auto",
    workers: int | None = None,
    init: str | None = None,
    augment_on: Literal["auto", "cpu", "gpu"] = "auto",
    compile: bool = False,
    recompute: bool = False,
    keep_checkpoints: bool = False,
    profile: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Pretrain on a clip store, or continue doing so.

    Processes that `torchrun` has started train one run together: the first of them reads the
    arguments, writes, and says what there is to say.

    Args:
        store: the clip store; the only `*.zarr` here if None.
        preset: where settings start; by device if None.
        config: TOML file that changes settings.
        options: settings by name that change them further; None leaves one as it is. A
            `batch_size` of `auto` is what fits the GPU, or what the run to continue has.
        run: name of the run below `runs/`.
        new: start another run even if one of these settings exists.
        device: `auto`, `cpu`, `cuda` or `cuda:1`; of several processes, each has a GPU.
        workers: reading processes; by device if None.
        augment_on: readers augment on the CPU, or the GPU does; `auto` is where it trains.
        compile: translate the encoder into kernels of its own.
        recompute: less memory, more time.
        init: file of weights to start from.
        keep_checkpoints: also keep the checkpoint of each clustering.
        profile: say at the end where the time went.
        say: takes each line meant for the user.

    Returns:
        run, epochs, steps, checkpoint, loss, clusters, nmi, ami, recall.

    Raises:
        InputError, SettingsError, StoreError, CheckpointError, LabelsMissing: unusable input; no
            run is made.
    """
    with joined() as ranks:
        tell = say if ranks.first else _unsaid
        speed: dict[str, Any] = {"compile": compile, "recompute": recompute, "profile": profile}
        means = ranks.each(
            lambda: replace(
                means_of(ranks, device, workers=workers, augment_on=augment_on), **speed
            )
        )
        check_devices(ranks, means)
        chosen = ranks.decided(
            lambda: choose(
                ranks,
                means,
                store=store,
                preset=preset or (GPU_PRESET if means.device.type == "cuda" else CPU_PRESET),
                config=config,
                options=dict(options or {}),
                init=init,
                run=run,
                new=new,
                say=tell,
            )
        )
        if chosen.done:
            tell(f"{chosen.run.path}: done already; give --new for another run of these settings")
        else:
            _train(ranks, means, chosen, keep=keep_checkpoints, say=tell)
        return ranks.decided(partial(result, chosen.run))


def _unsaid(line: str) -> None:
    """Say nothing, in all processes but the first."""


def _train(
    ranks: Ranks, means: Means, chosen: Choice, *, keep: bool, say: Callable[[str], None]
) -> None:
    if not ranks.alone:
        ranks.each(partial(check_store, chosen.run))
        if means.device.type == "cuda":
            torch.cuda.set_device(means.device)
    training = Training(
        chosen.run, means=means, keep=keep, weights=chosen.weights, ranks=ranks, say=say
    )
    with training.memory():
        ranks.decided(partial(_announce, training, chosen.run, chosen.preset, say))
    training()
    if means.profile:
        _say_profile(training, say)


def means_of(
    ranks: Ranks,
    device: str,
    *,
    workers: int | None,
    augment_on: Literal["auto", "cpu", "gpu"],
) -> Means:
    """With what this process computes, of the GPUs its own."""
    where = pick_device(device)
    if augment_on == "gpu" and where.type != "cuda":
        raise InputError(f"--augment-on gpu: {where} is none; choose cpu or auto")
    if not ranks.alone and where.type == "cuda":
        if where.index is not None:
            raise InputError(f"--device {device}: {ranks.size} processes need a GPU each; drop it")
        where = pick_device(f"cuda:{ranks.local}")
    return means_for(where, workers=workers, augment_on=augment_on, beside=ranks.beside)


def means_for(
    device: torch.device,
    *,
    workers: int | None = None,
    augment_on: Literal["auto", "cpu", "gpu"] = "auto",
    beside: int = 1,
) -> Means:
    """With what `train` computes on a device, unless told otherwise.

    `beside` processes share the machine.
    """
    return Means(
        device=device,
        workers=reading_workers(device, beside=beside) if workers is None else workers,
        augment_on_device=device.type == "cuda" and augment_on != "cpu",
    )


def check_devices(ranks: Ranks, means: Means) -> None:
    """Refuse GPUs for some processes and CPUs for others, which could not tell each other much."""

    def refuse() -> None:
        raise InputError("some processes see a GPU, and some none: mend that, or --device cpu")

    on_gpu = means.device.type == "cuda"
    if all(ranks.any(on_gpu, not on_gpu)):
        ranks.decided(refuse)


def check_store(run: Run) -> None:
    """Refuse a store that is not the one that the first process sees under this path."""
    if ClipStore(run.store).digest(flow=run.settings.flow_probability > 0) != run.store_digest:
        raise StoreError(f"{run.store}: holds here what it does not hold for the first process")


def _say_profile(training: Training, say: Callable[[str], None]) -> None:
    say(f"where the time of {training.profile.steps} steps went:")
    for name, seconds, a_step, share in training.profile.rows():
        each = "" if a_step is None else f"{a_step:.1f} ms a step"
        say(f"  {name:<18} {seconds:>9.2f} s {share:>6.1%}  {each}".rstrip())


def _announce(training: Training, run: Run, preset: str, say: Callable[[str], None]) -> None:
    settings, progress = run.settings, training.state.progress
    videos = f"{len(training.entries)} videos"
    if not training.ranks.alone:
        videos += f", {training.ranks.size} processes"
    device = training.means.device
    where = f"{device} in {resolve_precision(settings.precision, device)}"
    say(f"{run.path}: preset {preset}, {settings.encoder} on {where}, {videos}")
    if progress.total_steps:
        say(f"continuing after epoch {progress.epoch}, step {progress.total_steps}")
    seconds = _seconds(
        training.store,
        training.entries,
        settings=settings,
        means=training.means,
        encoder=training.state.encoder,
        epoch=progress.epoch,
        steps=training.steps_left,
        tested=len(training.test),
        ranks=training.ranks,
    )
    say(f"{training.steps_left} steps left of {settings.epochs} epochs: about {clock(seconds)}")
    if settings.cluster in CLUSTERINGS and settings.warmup_epochs:
        never = settings.warmup_epochs >= settings.epochs
        say(
            f"clusters are used from epoch {settings.warmup_epochs} on (warmup_epochs)"
            + (": not in this run" if never else "")
        )


def expected_seconds(store: Path, settings: Settings, means: Means) -> float:
    """Time that a whole run of these settings will take, from a few clips read and steps done.

    Raises:
        StoreError: the store cannot be trained on.
    """
    clips = ClipStore(store)
    entries = training_entries(clips, settings)
    encoder = new_encoder(settings.encoder, seed=0).to(means.device)
    return _seconds(
        clips,
        entries,
        settings=settings,
        means=means,
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
    means: Means,
    encoder: Encoder,
    epoch: int,
    steps: int,
    tested: int,
    ranks: Ranks = ALONE,
) -> float:
    lengths = {entry.id: entry.frames or 0 for entry in entries}
    alone = {entry.id: code for code, entry in enumerate(entries)}
    plan = plan_epoch(lengths, alone, settings=settings, epoch=epoch)
    return estimate_seconds(
        encoder,
        store,
        [sample for batch in plan for sample in batch],
        settings=settings,
        means=means,
        steps=steps,
        embeddings=clusterings_left(settings, epoch) * (len(entries) + tested),
        processes=ranks.size,
    )
