"""Evaluate weights from elsewhere: import them as a run folder, which any command accepts."""

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from slic import __version__
from slic.cache import ClipStore
from slic.cache.entries import fingerprint
from slic.config import Settings, make_settings, settings_from, with_defaults
from slic.encoders.checkpoints import CHECKPOINT_FORMAT
from slic.encoders.encoder import Encoder, new_encoder, weights_digest
from slic.encoders.tensor_files import save_tensors
from slic.encoders.weights import Weights, describe_weights, load_weights, read_weights
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
    """Return the run to evaluate: of `--run`, of `--weights`, or else the newest.

    Args:
        name: Name or path of a run.
        weights: Path of a weights file.
        preset: Preset that sets the clips' shape for the weights.
        store: Clip store to evaluate the weights on; default: the only one in this folder.
        say: Called with a line that describes the weights.

    Raises:
        InputError: Both a run and weights are given, or a preset without weights.
        CheckpointError: There is no such run, or the weights cannot be used.
        StoreError: There is no store.
    """
    if weights is None:
        if preset is not None:
            raise InputError("--preset applies only with --weights: a run has its own settings")
        return find_run(name)
    if name is not None:
        raise InputError("give either --run or --weights, not both")
    file = Path(weights)
    content = read_weights(file)
    say(f"{file}: {describe_weights(content)}")
    return import_weights(file, content, preset=preset, store=only_store(store))


def import_weights(file: Path, weights: Weights, *, preset: str | None, store: Path) -> Run:
    """Make a run folder that holds weights from elsewhere, or return the one made before.

    Args:
        file: The weights' file; its name becomes part of the run's.
        weights: Its content.
        preset: Preset of the clips. Default: for slic's own weights the settings they were trained
            with, for others `ucf101-16f`.
        store: The run's store.

    Raises:
        SettingsError: There is no such preset.
    """
    encoder = new_encoder(weights.encoder, seed=0)
    load_weights(encoder, weights, where=str(file))
    if preset is None and weights.settings:
        preset = "own"
        settings = settings_from(with_defaults(weights.settings), where=str(file))
    else:
        preset = preset or PRESET
        settings = make_settings(preset, options={"encoder": weights.encoder})
    content = {"weights": weights_digest(encoder.state_dict()), "statistics": encoder.statistics}
    digest = fingerprint(content)
    feature = settings.retrieval_feature if weights.has_head else "backbone"
    settings = replace(settings, init=f"{file.name}@{digest}", retrieval_feature=feature)
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.partition(".")[0]).strip("-") or "weights"
    path = RUNS / f"{stem[:40]}-{preset}-{digest}"
    if not (path / "config.toml").exists():
        about: dict[str, Any] = {"store": store, "store_digest": ClipStore(store).digest()}
        with suppress(CheckpointError):  # another process has made it meanwhile
            create_run(path, settings, **about, preset=preset, imported=True, head=weights.has_head)
    run = replace(open_run(path), store=store)
    if not run.checkpoint.exists():
        save_tensors(run.checkpoint, checkpoint_content(encoder, settings, head=weights.has_head))
    return run


def checkpoint_content(encoder: Encoder, settings: Settings, *, head: bool) -> dict[str, Any]:
    """Return the content of a checkpoint of an encoder that was not trained here."""
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
