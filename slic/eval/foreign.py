"""Weights from elsewhere as a run folder, so that all that takes a run takes them."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slic import __version__
from slic.cache import ClipStore
from slic.cache.clipstore import fingerprint
from slic.config import Settings, make_settings, settings_from, with_defaults
from slic.encoders.checkpoints import CHECKPOINT_FORMAT
from slic.encoders.encoder import Encoder, new_encoder, weights_digest
from slic.encoders.tensor_files import save_whole
from slic.encoders.weights import Weights, described, load_weights, read_weights
from slic.errors import CheckpointError, InputError
from slic.runs import RUNS, Run, create_run, find_run, only_store, open_run

PRESET = "ucf101-16f"


def evaluated_run(
    name: str | None,
    *,
    weights: str | None,
    preset: str | None,
    store: str | None,
    say: Callable[[str], None] = print,
) -> Run:
    """The run that an evaluation means: of `--run`, of `--weights`, or else the newest.

    Args:
        name: a run.
        weights: a file of weights.
        preset: how clips are made for these.
        store: where they are evaluated; the only one here if None.
        say: takes a line on what the weights are.

    Raises:
        InputError: both a run and weights, or a preset without weights.
        CheckpointError: no run, or weights that cannot be used.
        StoreError: no store.
    """
    if weights is None:
        if preset is not None:
            raise InputError("--preset goes with --weights: a run has its own settings")
        return find_run(name)
    if name is not None:
        raise InputError("--run and --weights exclude each other: give one")
    file = Path(weights)
    found = read_weights(file)
    say(f"{file}: {described(found)}")
    return import_weights(file, found, preset=preset, store=only_store(store))


def import_weights(file: Path, found: Weights, *, preset: str | None, store: Path) -> Run:
    """A run folder that holds weights from elsewhere; made once for a file's content and preset.

    Clips are made as the preset says; if None, as those weights of slic were trained with, or as
    the paper's.

    Raises:
        SettingsError: no such preset.
    """
    encoder = new_encoder(found.encoder, seed=0)
    load_weights(encoder, found, where=str(file))
    own = found.settings if preset is None else None
    preset = "own" if own else preset or PRESET
    settings = (
        settings_from(with_defaults(own), where=str(file))
        if own
        else make_settings(preset, options={"encoder": found.encoder})
    )
    digest = fingerprint(
        {"weights": weights_digest(encoder.state_dict()), "statistics": encoder.statistics}
    )
    feature = settings.retrieval_feature if found.has_head else "backbone"
    settings = replace(settings, init=f"{file.name}@{digest}", retrieval_feature=feature)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.partition(".")[0]).strip("-") or "weights"
    path = RUNS / f"{stem[:40]}-{preset}-{digest}"
    if (path / "config.toml").exists():
        run = replace(open_run(path), store=store)
    else:
        run = _made(
            path,
            settings,
            store=store,
            store_digest=ClipStore(store).digest(),
            preset=preset,
            imported=True,
            head=found.has_head,
        )
    if not run.checkpoint.exists():
        save_whole(run.checkpoint, checkpoint_content(encoder, settings, head=found.has_head))
    return run


def _made(path: Path, settings: Settings, **about: Any) -> Run:
    try:
        return create_run(path, settings, **about)
    except CheckpointError:
        return open_run(path)  # another process was quicker


def checkpoint_content(encoder: Encoder, settings: Settings, *, head: bool) -> dict[str, Any]:
    """What a checkpoint holds of an encoder that was not trained here."""
    return {
        "format": CHECKPOINT_FORMAT,
        "slic": __version__,
        "encoder": encoder.name,
        "model": encoder.state_dict(),
        "head": head,
        "progress": {"epoch": 0},
        "settings": settings.as_dict(),
        "mean": list(encoder.statistics[0]),
        "std": list(encoder.statistics[1]),
    }
