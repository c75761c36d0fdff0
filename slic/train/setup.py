"""Find the run that the arguments of `slic train` describe, or make it; refuse what cannot work."""

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
    """What to train.

    Attributes:
        run: run folder, new, to be continued, or done.
        weights: weights to start from.
        done: whether the run has been trained to its end.
    """

    run: Run
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
    """Find or make the run that the arguments of `train` describe.

    Args:
        ranks: processes that will train it.
        compute: device and compute options of rank 0.
        store, preset, config, options, init, run, new, say: as in `train`.

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
    _warn_of_enlarging(entries, settings, say)
    method = load_method(settings.method, where="settings")
    method.check(entries, settings, where=path)
    # Flow is part of the digest if the run uses it: such a run is not continued with other flow.
    digest = clips.digest(flow=settings.uses_flow)
    if fit:
        known = None if new else run_of_any_batch(settings, path, digest, name=run)
        batch = known or ranks.size * fitting_batch(
            settings,
            clips=method.clips_per_sample,
            compute=compute,
            videos=len(entries) // ranks.size,
        )
        settings = replace(settings, batch_size=batch)
        say(f"batch size {batch}: {'as in the run' if known else 'the largest that fits the GPU'}")
    check_shares(ranks, settings, videos=len(entries))
    chosen = choose_run(
        settings, store=path, store_digest=digest, preset=preset, name=run, new=new, fitted=fit
    )
    return TrainingSetup(chosen, weights, is_done(chosen))


def _settings(
    preset: str,
    config: str | None,
    options: dict[str, Any],
    init: str | None,
    say: Callable[[str], None],
) -> tuple[Settings, Weights | None]:
    """Merge the settings, and read the weights to start from, whose encoder is the default."""
    weights = None if init is None else read_weights(init)
    if weights is not None and config is None and options.get("encoder") is None:
        options = {**options, "encoder": weights.encoder}
    settings = make_settings(preset, config=Path(config) if config else None, options=options)
    frames, size = least_input(settings.encoder)
    if settings.frames < frames or settings.size < size:
        raise SettingsError(
            f"settings: {settings.encoder} needs clips of at least {frames} frames of {size}"
            f" pixels, not {settings.frames} of {settings.size}"
        )
    if weights is None or init is None:
        if settings.init:
            raise SettingsError(f"settings: init = {settings.init!r}: give the file with --init")
        return settings, None
    if weights.encoder != settings.encoder:
        raise CheckpointError(
            f"{init}: weights of {weights.encoder}, but the run's encoder is {settings.encoder}:"
            f" give --encoder {weights.encoder}"
        )
    say(f"{init}: {describe_weights(weights)}")
    return replace(settings, init=f"{Path(init).name}@{weights_digest(weights.state)}"), weights


def _warn_of_enlarging(
    entries: Sequence[Entry], settings: Settings, say: Callable[[str], None]
) -> None:
    sides = [min(entry.height or 0, entry.width or 0) for entry in entries]
    smaller = sum(side < settings.size for side in sides)
    if smaller:
        say(
            f"{smaller} of {len(sides)} videos are stored with a short side below {settings.size}"
            f" pixels (the least is {min(sides)}) and are enlarged; `slic prep frames"
            " --short-side` sets the stored size"
        )


def check_shares(ranks: Ranks, settings: Settings, *, videos: int) -> None:
    """Refuse more processes than the smallest batch of an epoch has samples."""
    smallest = videos // -(-videos // settings.batch_size)
    if smallest < ranks.size:
        raise InputError(
            f"{ranks.size} processes for batches of {smallest} samples: start at most {smallest},"
            " or give a larger --batch-size"
        )
