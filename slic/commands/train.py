"""`slic train`: its options, and what it prints."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.completion import complete_preset, complete_store
from slic.commands.options import Device, Json, Readers, option
from slic.commands.setting_options import panel_title, with_setting_options
from slic.config import PRESETS
from slic.errors import InputError
from slic.runtime.console import say, show
from slic.runtime.regular_files import brief
from slic.train.slic_settings import SlicSettings

METHOD = panel_title("Method")
NETWORK = panel_title("Clips and network")
OPTIMISATION = panel_title("Optimisation")
SPEED = "Speed and memory (not part of the settings)"


Store = Annotated[
    str | None,
    typer.Argument(
        metavar="STORE",
        help="Clip store to train on.",
        show_default="the only one in this folder",
        autocompletion=complete_store,
    ),
]
Preset = Annotated[
    str | None,
    option(
        "--preset",
        f"Settings to start from: {', '.join(PRESETS)}.",
        "ucf101-16f on a GPU, cpu-small on a CPU",
        autocompletion=complete_preset,
    ),
]
Config = Annotated[
    str | None,
    option("--config", "TOML file of settings that override the preset's.", metavar="FILE"),
]
Changes = Annotated[
    list[str] | None,
    option(
        "--set",
        "Change any setting, including those without an option; may be repeated."
        " docs/settings.md lists them all.",
        metavar="NAME=VALUE",
    ),
]
RunName = Annotated[
    str | None,
    option(
        "--run",
        "Name of the run in runs/ to start or resume.",
        "store, encoder and a number",
        metavar="NAME",
    ),
]
New = Annotated[bool, option("--new", "Start a new run even if one with the same settings exists.")]
KeepCheckpoints = Annotated[
    bool,
    option("--keep-checkpoints", "Also keep the checkpoint of each clustering."),
]
Cluster = Annotated[
    str | None,
    option(
        "--cluster",
        "Source of the pseudo-labels: finch, kmeans:N (N clusters), none (every video is"
        " its own cluster), or labels (the true ones).",
        metavar="SOURCE",
        rich_help_panel=METHOD,
    ),
]
Supervised = Annotated[
    bool,
    option(
        "--supervised",
        "Same as --cluster labels: the paper's upper bound.",
        rich_help_panel=METHOD,
    ),
]
NoCluster = Annotated[
    bool,
    option("--no-cluster", "Same as --cluster none.", rich_help_panel=METHOD),
]
Init = Annotated[
    str | None,
    option(
        "--init",
        "Start from the weights in this file instead of random ones.",
        metavar="FILE",
        rich_help_panel=NETWORK,
    ),
]
BatchSize = Annotated[
    str | None,
    option(
        "--batch-size",
        "Samples per optimiser step; auto takes the largest batch that fits the GPU.",
        metavar="N|auto",
        rich_help_panel=OPTIMISATION,
    ),
]
Profile = Annotated[
    bool,
    option(
        "--profile",
        "Report how long each phase of a training step takes.",
        rich_help_panel=SPEED,
    ),
]
Compile = Annotated[
    bool,
    option(
        "--compile",
        "Compile the network: training starts later, but steps are faster on a GPU.",
        rich_help_panel=SPEED,
    ),
]
Recompute = Annotated[
    bool,
    option(
        "--recompute",
        "Recompute activations in the backward pass: less memory, slower steps.",
        rich_help_panel=SPEED,
    ),
]
AugmentOn = Annotated[
    Literal["auto", "cpu", "gpu"],
    option(
        "--augment-on",
        "Where to augment clips; auto is the training device.",
        rich_help_panel=SPEED,
    ),
]


@with_setting_options(SlicSettings)
def train_command(
    store: Store = None,
    preset: Preset = None,
    config: Config = None,
    changes: Changes = None,
    run: RunName = None,
    new: New = False,
    keep_checkpoints: KeepCheckpoints = False,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
    cluster: Cluster = None,
    supervised: Supervised = False,
    no_cluster: NoCluster = False,
    init: Init = None,
    batch_size: BatchSize = None,
    profile: Profile = False,
    compile: Compile = False,
    recompute: Recompute = False,
    augment_on: AugmentOn = "auto",
    **settings: Any,
) -> None:
    """Pretrain a network on a clip store, or resume an interrupted training.

    Settings are taken from the preset, --config, --set and the
    options below; each overrides those before it.
    """
    from slic.engine.distributed import this_rank
    from slic.train.run import train

    result = train(
        store,
        preset=preset,
        config=config,
        options={
            **_changes(changes or []),
            **_pseudo_labels(cluster, supervised=supervised, no_cluster=no_cluster),
            **({} if batch_size is None else {"batch_size": _number_or_auto(batch_size)}),
            **settings,
        },
        init=init,
        run=run,
        new=new,
        device=device,
        workers=workers,
        augment_on=augment_on,
        compile=compile,
        recompute=recompute,
        keep_checkpoints=keep_checkpoints,
        profile=profile,
        say=say,
    )
    if this_rank().first:
        show(result, as_json=as_json, rows=_rows(result))


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    rows = {key: result[key] for key in ("run", "epochs", "steps", "checkpoint")}
    rows["loss"] = f"{result['loss']:.4f}"
    if result["clusters"] is not None:
        unused = "" if result["clusters_used"] else " (not used in training)"
        rows["clusters"] = f"{result['clusters']}{unused}"
    rows["NMI"] = "no labels" if result["nmi"] is None else f"{result['nmi']:.3f}"
    recall = result["recall"] or {}
    return rows | {
        f"recall at {k}": f"{v:.3f} (held-out training groups)" for k, v in recall.items()
    }


def _changes(given: list[str]) -> dict[str, Any]:
    """Parse `NAME=VALUE`; a value that is not a number is a text."""
    changes: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {brief(text)}: must be NAME=VALUE")
        changes[name.strip()] = _value(value.strip())
    return changes


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _pseudo_labels(cluster: str | None, *, supervised: bool, no_cluster: bool) -> dict[str, Any]:
    flags = [name for name, given in (("labels", supervised), ("none", no_cluster)) if given]
    asked = flags if cluster is None else [cluster, *flags]
    if len(asked) > 1:
        raise InputError("give only one of --cluster, --supervised and --no-cluster")
    if not asked:
        return {}
    name, colon, number = asked[0].partition(":")
    if not colon:
        return {"cluster": name}
    try:
        clusters = int(number)
    except ValueError:
        clusters = 0
    if name != "kmeans" or clusters < 1:
        raise InputError(f"--cluster {cluster}: give finch, kmeans:N, none or labels")
    return {"cluster": name, "kmeans_clusters": clusters}


def _number_or_auto(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--batch-size {text}: give a whole number, or auto") from None
