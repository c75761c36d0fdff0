"""Which run the arguments of `slic train` mean, and what they may not ask for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from slic.cache import ClipStore, Entry
from slic.config import Settings, load_method, make_settings
from slic.encoders.encoder import least_input, weights_digest
from slic.encoders.precision import tune
from slic.encoders.weights import Weights, describe_weights, read_weights
from slic.engine.batch_size import fitting_batch
from slic.engine.distributed import Ranks
from slic.engine.forward import ComputeOptions
from slic.errors import CheckpointError, InputError, SettingsError
from slic.runs import Run, choose_run, only_store, run_of_any_batch
from slic.train.outcome import is_done
from slic.train.training_set import training_entries


@dataclass(frozen=True)
class TrainingSetup:
    """What is to be trained.

    Attributes:
        run: new, to be continued, or done.
        preset: where its settings start.
        weights: to start from.
        done: whether nothing is left to do.
    """

    run: Run
    preset: str
    weights: Weights | None
    done: bool


def set_up(
    ranks: Ranks,
    compute: ComputeOptions,
    *,
    store: str | None,
    preset: str,
    config: str | None,
    options: dict[str, Any],
    init: str | None,
    run: str | None,
    new: bool,
    say: Callable[[str], None],
) -> TrainingSetup:
    """The run that the arguments of `train` mean; made, if there is none.

    Args:
        ranks: the processes that will train it.
        compute: what the first of them computes with.
        store, preset, config, options, init, run, new, say: as of `train`.

    Raises:
        InputError, SettingsError, StoreError, CheckpointError, LabelsMissing: unusable input.
    """
    fit = options.get("batch_size") == "auto"
    if fit:
        del options["batch_size"]
    settings, weights = _settings(preset, config, options, init, say)
    tune(compute.device, settings.precision)
    path = only_store(store)
    clips = ClipStore(path)
    entries = training_entries(clips, settings)
    _say_enlarged(entries, settings, say)
    load_method(settings.method, where="settings").check(entries, settings, where=path)
    # A run that uses flow does not go on with other flow.
    digest = clips.digest(flow=settings.uses_flow)
    if fit:
        known = None if new else run_of_any_batch(settings, path, digest, name=run)
        batch = known or _fitting(ranks, compute, settings, videos=len(entries))
        settings = replace(settings, batch_size=batch)
        say(f"batch size {batch}: {'that of the run' if known else 'what fits the GPU'}")
    check_shares(ranks, settings, videos=len(entries))
    chosen = choose_run(
        settings, store=path, store_digest=digest, preset=preset, name=run, new=new, fitted=fit
    )
    return TrainingSetup(chosen, preset, weights, is_done(chosen))


def _settings(
    preset: str,
    config: str | None,
    options: dict[str, Any],
    init: str | None,
    say: Callable[[str], None],
) -> tuple[Settings, Weights | None]:
    """The settings asked for, and the weights to start from, whose encoder is the default one."""
    weights = None if init is None else read_weights(init)
    if weights is not None and config is None and options.get("encoder") is None:
        options = {**options, "encoder": weights.encoder}
    settings = make_settings(preset, config=Path(config) if config else None, options=options)
    _check_clip(settings)
    if settings.init and weights is None:
        raise SettingsError(f"settings: init = {settings.init!r}: give the file itself, by --init")
    if weights is not None:
        settings = _starting_from(settings, weights, Path(init or ""), say)
    return settings, weights


def _check_clip(settings: Settings) -> None:
    frames, size = least_input(settings.encoder)
    if settings.frames < frames or settings.size < size:
        raise SettingsError(
            f"settings: {settings.encoder} takes clips of {frames} frames of {size} pixels at"
            f" least, not of {settings.frames} of {settings.size}"
        )


def _starting_from(
    settings: Settings, weights: Weights, file: Path, say: Callable[[str], None]
) -> Settings:
    if weights.encoder != settings.encoder:
        raise CheckpointError(
            f"{file}: weights of {weights.encoder}, but the run's encoder is {settings.encoder}:"
            f" give --encoder {weights.encoder}"
        )
    say(f"{file}: {describe_weights(weights)}")
    return replace(settings, init=f"{file.name}@{weights_digest(weights.state)}")


def _say_enlarged(entries: Sequence[Entry], settings: Settings, say: Callable[[str], None]) -> None:
    sides = [min(entry.height or 0, entry.width or 0) for entry in entries]
    smaller = sum(side < settings.size for side in sides)
    if smaller:
        say(
            f"{smaller} of {len(sides)} videos are stored at a short side below {settings.size}"
            f" pixels (the least is {min(sides)}) and are enlarged; `slic prep frames"
            " --short-side` decides"
        )


def _fitting(ranks: Ranks, compute: ComputeOptions, settings: Settings, *, videos: int) -> int:
    clips = load_method(settings.method, where="settings").clips_per_sample
    share = videos // ranks.size
    return ranks.size * fitting_batch(settings, clips=clips, compute=compute, videos=share)


def check_shares(ranks: Ranks, settings: Settings, *, videos: int) -> None:
    """Refuse more processes than the smallest batch of an epoch has samples."""
    smallest = videos // -(-videos // settings.batch_size)
    if smallest < ranks.size:
        raise InputError(
            f"{ranks.size} processes for batches of {smallest} samples: start at most {smallest},"
            " or give a larger --batch-size"
        )
