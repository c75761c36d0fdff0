"""What `slic train` does around the loop: choose the run, say what will happen, train, report."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch

from slic.cache import ClipStore
from slic.encoders.precision import resolve_precision
from slic.engine.distributed import Ranks, joined
from slic.engine.forward import ComputeOptions
from slic.engine.loop import Loop
from slic.engine.synchronised import share_of_normalisation
from slic.errors import InputError, StoreError
from slic.runs import Run
from slic.runtime.devices import default_readers, pick_device
from slic.runtime.progress import format_duration
from slic.train.methods.base import Method
from slic.train.outcome import result
from slic.train.setup import TrainingSetup, set_up
from slic.train.training import seconds_left, training

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
        compute = ranks.each(
            lambda: replace(
                compute_options_here(ranks, device, workers=workers, augment_on=augment_on), **speed
            )
        )
        check_devices(ranks, compute)
        chosen = ranks.decided(
            lambda: set_up(
                ranks,
                compute,
                store=store,
                preset=preset or (GPU_PRESET if compute.device.type == "cuda" else CPU_PRESET),
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
            _train(ranks, compute, chosen, keep=keep_checkpoints, say=tell)
        return ranks.decided(partial(result, chosen.run))


def _unsaid(line: str) -> None:
    """Say nothing, in all processes but the first."""


def _train(
    ranks: Ranks,
    compute: ComputeOptions,
    chosen: TrainingSetup,
    *,
    keep: bool,
    say: Callable[[str], None],
) -> None:
    if not ranks.alone:
        ranks.each(partial(check_store, chosen.run))
        if compute.device.type == "cuda":
            torch.cuda.set_device(compute.device)
    with training(
        chosen.run, compute=compute, keep=keep, weights=chosen.weights, ranks=ranks, say=say
    ) as (method, loop):
        with method.memory():
            ranks.decided(partial(_announce, method, loop, chosen.preset))
        loop()
    if compute.profile:
        _say_profile(loop, say)


def compute_options_here(
    ranks: Ranks,
    device: str,
    *,
    workers: int | None,
    augment_on: Literal["auto", "cpu", "gpu"],
) -> ComputeOptions:
    """With what this process computes, of the GPUs its own."""
    where = pick_device(device)
    if augment_on == "gpu" and where.type != "cuda":
        raise InputError(f"--augment-on gpu: {where} is none; choose cpu or auto")
    if not ranks.alone and where.type == "cuda":
        if where.index is not None:
            raise InputError(f"--device {device}: {ranks.size} processes need a GPU each; drop it")
        where = pick_device(f"cuda:{ranks.local}")
    return compute_options(where, workers=workers, augment_on=augment_on, beside=ranks.beside)


def compute_options(
    device: torch.device,
    *,
    workers: int | None = None,
    augment_on: Literal["auto", "cpu", "gpu"] = "auto",
    beside: int = 1,
) -> ComputeOptions:
    """With what `train` computes on a device, unless told otherwise.

    `beside` processes share the machine.
    """
    return ComputeOptions(
        device=device,
        workers=default_readers(device, processes=beside) if workers is None else workers,
        augment_on_device=device.type == "cuda" and augment_on != "cpu",
    )


def check_devices(ranks: Ranks, compute: ComputeOptions) -> None:
    """Refuse GPUs for some processes and CPUs for others, which could not tell each other much."""

    def refuse() -> None:
        raise InputError("some processes see a GPU, and some none: mend that, or --device cpu")

    on_gpu = compute.device.type == "cuda"
    if all(ranks.any(on_gpu, not on_gpu)):
        ranks.decided(refuse)


def check_store(run: Run) -> None:
    """Refuse a store that is not the one that the first process sees under this path."""
    if ClipStore(run.store).digest(flow=run.settings.uses_flow) != run.store_digest:
        raise StoreError(f"{run.store}: holds here what it does not hold for the first process")


def _say_profile(loop: Loop, say: Callable[[str], None]) -> None:
    say(f"where the time of {loop.profile.steps} steps went:")
    for name, seconds, a_step, share in loop.profile.rows():
        each = "" if a_step is None else f"{a_step:.1f} ms a step"
        say(f"  {name:<18} {seconds:>9.2f} s {share:>6.1%}  {each}".rstrip())


def _announce(method: Method, loop: Loop, preset: str) -> None:
    settings, progress, say = method.settings, loop.progress, method.say
    videos = f"{len(method.entries)} videos"
    if not method.ranks.alone:
        videos += f", {method.ranks.size} processes"
    where = f"{loop.device} in {resolve_precision(settings.precision, loop.device)}"
    say(f"{method.run.path}: preset {preset}, {settings.encoder} on {where}, {videos}")
    if progress.total_steps:
        say(f"continuing after epoch {progress.epoch}, step {progress.total_steps}")
    left, time = loop.steps_left, format_duration(seconds_left(method, loop))
    say(f"{left} steps left of {settings.epochs} epochs: about {time}")
    for note in method.notes():
        say(note)
    if shares := share_of_normalisation(method.ranks, loop.device):
        say(shares)
