"""`slic train`: its options, and what it prints."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.completion import complete_preset, complete_store
from slic.commands.options import Device, Json, Readers
from slic.errors import InputError
from slic.runtime.console import say, show
from slic.runtime.regular_files import brief

Encoders = Literal["r3d18", "r3d18-tv", "s3d", "small"]
SETTINGS = "Settings (as the preset has them, unless given)"
SPEED = "Speed, which changes no setting"


def setting(name: str, *, help: str, metavar: str | None = None) -> Any:
    """An option that changes a setting of the run; None, or False, leaves it as it is."""
    return typer.Option(
        name, help=help, metavar=metavar, show_default=False, rich_help_panel=SETTINGS
    )


def speed(name: str, *, help: str) -> Any:
    """An option of how a run is computed."""
    return typer.Option(name, help=help, rich_help_panel=SPEED)


def train_command(
    store: Annotated[
        str | None,
        typer.Argument(
            metavar="STORE",
            help="A clip store.",
            show_default="the only one here",
            autocompletion=complete_store,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="ucf101-16f, ucf101-32f, kinetics400-16f, kinetics400-32f, cpu-small, demo.",
            show_default="by device",
            autocompletion=complete_preset,
        ),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", help="TOML file that changes settings.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Change any setting; repeatable."),
    ] = None,
    cluster_every: Annotated[
        int | None,
        setting("--cluster-every", help="Epochs between clusterings."),
    ] = None,
    warmup_epochs: Annotated[
        int | None,
        setting("--warmup-epochs", help="Epochs before clusters are used."),
    ] = None,
    cluster: Annotated[
        str | None,
        setting(
            "--cluster",
            metavar="finch|kmeans:N|none|labels",
            help="Source of pseudo-labels.",
        ),
    ] = None,
    supervised: Annotated[
        bool,
        setting("--supervised", help="--cluster labels: the upper bound."),
    ] = False,
    no_cluster: Annotated[
        bool,
        setting("--no-cluster", help="--cluster none: each video alone."),
    ] = False,
    partition: Annotated[
        int | None,
        setting("--partition", help="FINCH's; 0 is the finest."),
    ] = None,
    objective: Annotated[
        Literal["triplet", "infonce"] | None,
        setting("--objective", help="Loss."),
    ] = None,
    no_temporal_loss: Annotated[
        bool,
        setting("--no-temporal-loss", help="The instance loss alone."),
    ] = False,
    all_pairs: Annotated[
        bool,
        setting("--all-pairs", help="All pairs of a cluster in the batch (triplet)."),
    ] = False,
    encoder: Annotated[
        Encoders | None,
        setting("--encoder", help="Network."),
    ] = None,
    init: Annotated[
        str | None,
        setting(
            "--init",
            metavar="FILE",
            help="Start from weights.",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        setting("--frames", help="Of a clip."),
    ] = None,
    size: Annotated[
        int | None,
        setting("--size", help="Of a clip, in pixels."),
    ] = None,
    no_flow: Annotated[bool, setting("--no-flow", help="RGB views alone.")] = False,
    components: Annotated[
        Literal["u", "v", "uv"] | None,
        setting("--components", help="Of the flow in its views."),
    ] = None,
    epochs: Annotated[
        int | None,
        setting("--epochs", help="Passes over the videos."),
    ] = None,
    batch_size: Annotated[
        str | None,
        setting(
            "--batch-size",
            metavar="N|auto",
            help="Samples a step; auto: what fits the GPU.",
        ),
    ] = None,
    lr: Annotated[
        float | None,
        setting("--lr", help="Learning rate."),
    ] = None,
    schedule: Annotated[
        Literal["constant", "cosine", "step"] | None,
        setting("--schedule", help="Of the learning rate."),
    ] = None,
    lr_warmup_epochs: Annotated[
        int | None,
        setting("--lr-warmup-epochs", help="In which it rises."),
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "tf32", "fp32"] | None,
        setting("--precision", help="auto: bf16 on a GPU, fp32 on a CPU."),
    ] = None,
    split: Annotated[
        int | None,
        setting("--split", help="Whose training videos."),
    ] = None,
    seed: Annotated[
        int | None,
        setting("--seed", help="Of every random draw."),
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run.", show_default="numbered")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Start a run even if one exists.")] = False,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep one for each clustering.")
    ] = False,
    profile: Annotated[
        bool,
        speed("--profile", help="Say where the time of a step goes."),
    ] = False,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the encoder: slow start, faster steps.",
            rich_help_panel=SPEED,
        ),
    ] = False,
    recompute: Annotated[
        bool,
        speed("--recompute", help="Less memory a sample, slower steps."),
    ] = False,
    augment_on: Annotated[
        Literal["auto", "cpu", "gpu"],
        speed("--augment-on", help="auto: as --device."),
    ] = "auto",
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Pretrain on a clip store, into runs/. The same command again continues.

    Settings come from the preset, then the config file, then --set, then the other options.
    """
    from slic.engine.distributed import this_rank
    from slic.train.run import train

    options = {
        **_changes(changes or []),
        **_pseudo_labels(cluster, supervised=supervised, no_cluster=no_cluster),
    }
    named = {
        "cluster_every": cluster_every,
        "warmup_epochs": warmup_epochs,
        "partition": partition,
        "objective": objective,
        "temporal_weight": 0.0 if no_temporal_loss else None,
        "pairs": "all" if all_pairs else None,
        "encoder": encoder,
        "frames": frames,
        "size": size,
        "flow_probability": 0.0 if no_flow else None,
        "components": components,
        "epochs": epochs,
        "batch_size": _number_or_auto(batch_size),
        "lr": lr,
        "schedule": schedule,
        "lr_warmup_epochs": lr_warmup_epochs,
        "precision": precision,
        "split": split,
        "seed": seed,
    }
    result = train(
        store,
        preset=preset,
        config=config,
        options=options | {name: value for name, value in named.items() if value is not None},
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
    if not this_rank().first:
        return
    recall = result["recall"] or {}
    rows = {key: result[key] for key in ("run", "epochs", "steps", "checkpoint")}
    rows |= {"loss": f"{result['loss']:.4f}", "clusters": result["clusters"]}
    if result["clusters"] is None:
        del rows["clusters"]
    elif not result["clusters_used"]:
        rows["clusters"] = f"{result['clusters']} (not trained with)"
    rows["NMI"] = "no labels" if result["nmi"] is None else f"{result['nmi']:.3f}"
    rows |= {f"recall at {k}": f"{v:.3f} (held-out training groups)" for k, v in recall.items()}
    show(result, as_json=as_json, rows=rows)


def _changes(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as TOML reads them; what is no TOML value is a text."""
    changes: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {brief(text)}: give NAME=VALUE")
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
        raise InputError("--cluster, --supervised, --no-cluster exclude each other: give one")
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
