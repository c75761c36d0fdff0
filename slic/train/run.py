"""What `slic train` does around the loop: choose the run, say what will happen, train, report."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, Entry
from slic.config import Settings, make_settings
from slic.devices import pick_device, reading_workers
from slic.errors import LabelsMissing
from slic.progress import clock
from slic.runs import Run, choose_run, only_store
from slic.train.loop import Training, is_done, result, training_entries
from slic.train.optimise import estimate_seconds
from slic.train.recluster import pseudo_labels
from slic.train.samples import SampleReader
from slic.train.sampling import plan_epoch

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
    keep_checkpoints: bool = False,
    profile: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Pretrain on a clip store, or continue doing so.

    Args:
        store: the clip store; the only `*.zarr` here if None.
        preset: where settings start; by device if None.
        config: TOML file that changes settings.
        options: settings by name that change them further; None leaves one as it is.
        run: name of the run below `runs/`.
        new: start another run even if one of these settings exists.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        workers: reading processes; by device if None.
        keep_checkpoints: also keep the checkpoint of each clustering.
        profile: say at the end where the time went.
        say: takes each line meant for the user.

    Returns:
        run, epochs, steps, checkpoint, loss, clusters, nmi, ami, recall.

    Raises:
        SettingsError, StoreError, CheckpointError, LabelsMissing: unusable input; no run is made.
    """
    where = pick_device(device)
    named = preset or (GPU_PRESET if where.type == "cuda" else CPU_PRESET)
    settings = make_settings(named, config=Path(config) if config else None, options=options)
    path = only_store(store)
    clips = ClipStore(path)
    entries = training_entries(clips, settings)
    if settings.cluster == "labels":
        _require_labels(entries, path, settings)
    # A run that uses flow does not go on with other flow.
    digest = clips.digest(flow=settings.flow_probability > 0)
    chosen = choose_run(settings, store=path, store_digest=digest, preset=named, name=run, new=new)
    if is_done(chosen):
        say(f"{chosen.path}: done already; give --new for another run of these settings")
        return result(chosen)
    how_many = reading_workers(where) if workers is None else workers
    training = Training(
        chosen, device=where, workers=how_many, keep=keep_checkpoints, profile=profile
    )
    _announce(training, chosen, named, say)
    training()
    if profile:
        _say_profile(training, say)
    return result(chosen)


def _say_profile(training: Training, say: Callable[[str], None]) -> None:
    say(f"where the time of {training.profile.steps} steps went:")
    for name, seconds, a_step, share in training.profile.rows():
        each = "" if a_step is None else f"{a_step:.1f} ms a step"
        say(f"  {name:<18} {seconds:>9.2f} s {share:>6.1%}  {each}".rstrip())


def _require_labels(entries: Sequence[Entry], store: Path, settings: Settings) -> None:
    try:
        pseudo_labels(entries, {}, settings=settings, epoch=0)
    except LabelsMissing as error:
        raise LabelsMissing(f"{store}: {error}") from None


def _announce(training: Training, run: Run, preset: str, say: Callable[[str], None]) -> None:
    settings, progress = run.settings, training.state.progress
    videos = f"{len(training.entries)} videos"
    say(f"{run.path}: preset {preset}, {settings.encoder} on {training.device}, {videos}")
    if progress.total_steps:
        say(f"continuing after epoch {progress.epoch}, step {progress.total_steps}")
    alone = {entry.id: code for code, entry in enumerate(training.entries)}
    plan = plan_epoch(training.lengths, alone, settings=settings, epoch=progress.epoch)
    seconds = estimate_seconds(
        training.state.encoder,
        SampleReader(training.store, settings),
        [sample for batch in plan for sample in batch],
        settings=settings,
        steps=training.steps_left,
        device=training.device,
        workers=training.workers,
    )
    say(f"{training.steps_left} steps left of {settings.epochs} epochs: about {clock(seconds)}")
