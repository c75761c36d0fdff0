"""`slic train` around the loop: choose the run, announce it, train, and return the result."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch

from slic.cache import ClipStore
from slic.encoders.precision import resolve_precision
from slic.engine.distributed import Ranks, joined
from slic.engine.forward import ComputeOptions
from slic.engine.loop import Loop
from slic.errors import InputError, StoreError
from slic.runs import Run
from slic.runtime.devices import default_readers, pick_device
from slic.runtime.progress import format_duration
from slic.runtime.text import counted
from slic.train.methods.base import Method
from slic.train.outcome import result
from slic.train.setup import set_up
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
    """Pretrain on a clip store, or continue an interrupted run.

    Processes started by `torchrun` train one run together: rank 0 reads the arguments, writes the
    run folder, and prints.

    Args:
        store: path of the clip store; by default the only `*.zarr` in the current folder.
        preset: preset that the settings start from; chosen by device if None.
        config: path of a TOML file that changes settings.
        options: settings by name that override both. A `batch_size` of `auto` is the largest
            that fits the GPU, or that of the run to continue.
        run: name of the run below `runs/`, or a path; by default runs are numbered.
        new: start another run even if there is one with these settings.
        device: `auto`, `cpu`, `cuda` or `cuda:1`; each of several processes uses a GPU of its own.
        workers: number of reader processes; chosen by device if None.
        init: file of weights to start from.
        augment_on: augment in the readers (`cpu`) or on the GPU; `auto` follows the device.
        compile: compile the encoder.
        recompute: use less memory and more time.
        keep_checkpoints: also keep the checkpoint of each clustering.
        profile: report at the end where the time went.
        say: called with each line for the user.

    Returns:
        run, epochs, steps, checkpoint, loss, clusters, clusters_used, nmi, ami, recall.

    Raises:
        InputError, SettingsError, StoreError, CheckpointError, LabelsMissing: unusable input; no
            run is made.
    """
    with joined() as ranks:
        say = say if ranks.first else _say_nothing
        compute = compute_options(
            device_of_rank(ranks, device),
            workers=workers,
            augment_on=augment_on,
            local_size=ranks.local_size,
            compile=compile,
            recompute=recompute,
            profile=profile,
        )
        check_devices(ranks, compute)
        setup = ranks.on_first(
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
                say=say,
            )
        )
        if setup.done:
            say(f"{setup.run.path}: already done; give --new for another run with these settings")
            return ranks.on_first(partial(result, setup.run))
        if not ranks.is_single:
            check_store(setup.run)
            if compute.device.type == "cuda":
                torch.cuda.set_device(compute.device)
        with training(
            setup.run,
            compute=compute,
            keep=keep_checkpoints,
            weights=setup.weights,
            ranks=ranks,
            say=say,
        ) as (method, loop):
            with method.memory():
                ranks.on_first(partial(_announce, method, loop))
            loop()
        if profile:
            _report_profile(loop, say)
        return ranks.on_first(partial(result, setup.run))


def _say_nothing(line: str) -> None:
    """Print nothing, on all ranks except 0."""


def device_of_rank(ranks: Ranks, name: str) -> torch.device:
    """Return the device named by `--device`; of several processes, each has its own GPU."""
    device = pick_device(name)
    if ranks.is_single or device.type != "cuda":
        return device
    if device.index is not None:
        raise InputError(f"--device {name}: {ranks.size} processes need a GPU each; omit it")
    return pick_device(f"cuda:{ranks.local_rank}")


def compute_options(
    device: torch.device,
    *,
    workers: int | None = None,
    augment_on: Literal["auto", "cpu", "gpu"] = "auto",
    local_size: int = 1,
    **speed: bool,
) -> ComputeOptions:
    """Return the compute options that `train` uses on a device.

    Args:
        device: device to train on.
        workers: number of reader processes; chosen by device if None.
        augment_on: as in `train`.
        local_size: number of training processes that share the machine.
        speed: compile, recompute and profile.
    """
    if augment_on == "gpu" and device.type != "cuda":
        raise InputError(f"--augment-on gpu: the device is {device}; choose cpu or auto")
    return ComputeOptions(
        device=device,
        workers=default_readers(device, processes=local_size) if workers is None else workers,
        augment_on_device=device.type == "cuda" and augment_on != "cpu",
        **speed,
    )


def check_devices(ranks: Ranks, compute: ComputeOptions) -> None:
    """Refuse GPUs for some processes and CPUs for others, which cannot exchange tensors."""
    on_gpu = compute.device.type == "cuda"
    if all(ranks.any(on_gpu, not on_gpu)):
        raise InputError("only some of the processes see a GPU: fix that, or give --device cpu")


def check_store(run: Run) -> None:
    """Refuse a store whose content is not what rank 0 sees under this path."""
    if ClipStore(run.store).digest(flow=run.settings.uses_flow) != run.store_digest:
        raise StoreError(f"{run.store}: its content here differs from what rank 0 sees")


def _report_profile(loop: Loop, say: Callable[[str], None]) -> None:
    say(f"time spent in {loop.profile.steps} steps:")
    for name, seconds, per_step, share in loop.profile.rows():
        each = "" if per_step is None else f"{per_step:.1f} ms per step"
        say(f"  {name:<18} {seconds:>9.2f} s {share:>6.1%}  {each}".rstrip())


def _announce(method: Method, loop: Loop) -> None:
    settings, progress, say, ranks = method.settings, loop.progress, method.say, method.ranks
    videos = f"{len(method.entries)} videos"
    if not ranks.is_single:
        videos += f", {ranks.size} processes"
    where = f"{loop.device} in {resolve_precision(settings.precision, loop.device)}"
    run = method.run
    say(f"{run.path}: preset {run.preset}, {settings.encoder} on {where}, {videos}")
    if progress.total_steps:
        say(f"continuing after epoch {progress.epoch}, step {progress.total_steps}")
    steps, epochs = loop.steps_left, method.epochs - progress.epoch
    seconds = seconds_left(method, epoch=progress.epoch, steps=steps)
    say(f"{steps} steps left in {counted(epochs, 'epoch')}: about {format_duration(seconds)}")
    for note in method.notes():
        say(note)
    if not ranks.is_single and loop.device.type != "cuda":
        say(
            f"{ranks.size} processes on {loop.device}: batch normalisation uses the share of"
            " each rank instead of the whole batch, unlike on GPUs"
        )
