"""`slic train`: its options, and what it prints."""

from typing import Annotated, Any, Literal

import typer

from slic.errors import InputError
from slic.options import PRESETS, Device, Json, Readers
from slic.printing import say, show

Encoders = Literal["r3d18", "r3d18-tv", "s3d", "small"]


def train_command(
    store: Annotated[
        str | None,
        typer.Argument(metavar="STORE", help="A clip store.", show_default="the only one here"),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="ucf101-16f, ucf101-32f, kinetics400-16f, kinetics400-32f, cpu-small, demo.",
            show_default="by device",
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
        typer.Option("--cluster-every", help="Epochs between clusterings.", show_default=PRESETS),
    ] = None,
    warmup_epochs: Annotated[
        int | None,
        typer.Option(
            "--warmup-epochs", help="Epochs before clusters are used.", show_default=PRESETS
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="finch|kmeans:N|none|labels",
            help="Source of pseudo-labels.",
            show_default=PRESETS,
        ),
    ] = None,
    supervised: Annotated[
        bool, typer.Option("--supervised", help="--cluster labels: the upper bound.")
    ] = False,
    no_cluster: Annotated[
        bool, typer.Option("--no-cluster", help="--cluster none: each video alone.")
    ] = False,
    partition: Annotated[
        int | None,
        typer.Option("--partition", help="FINCH's; 0 is the finest.", show_default=PRESETS),
    ] = None,
    objective: Annotated[
        Literal["triplet", "infonce"] | None,
        typer.Option("--objective", help="Loss.", show_default=PRESETS),
    ] = None,
    no_temporal_loss: Annotated[
        bool, typer.Option("--no-temporal-loss", help="The instance loss alone.")
    ] = False,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="All pairs of a cluster in the batch.")
    ] = False,
    encoder: Annotated[
        Encoders | None, typer.Option("--encoder", help="Network.", show_default=PRESETS)
    ] = None,
    init: Annotated[
        str | None,
        typer.Option("--init", metavar="FILE", help="Start from weights.", show_default="random"),
    ] = None,
    frames: Annotated[
        int | None, typer.Option("--frames", help="Of a clip.", show_default=PRESETS)
    ] = None,
    size: Annotated[
        int | None, typer.Option("--size", help="Of a clip, in pixels.", show_default=PRESETS)
    ] = None,
    no_flow: Annotated[bool, typer.Option("--no-flow", help="RGB views alone.")] = False,
    components: Annotated[
        Literal["u", "v", "uv"] | None,
        typer.Option("--components", help="Of the flow in its views.", show_default=PRESETS),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Passes over the videos.", show_default=PRESETS)
    ] = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            metavar="N|auto",
            help="Samples a step; auto: what fits the GPU.",
            show_default=PRESETS,
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option("--lr", help="Learning rate.", show_default=PRESETS)
    ] = None,
    schedule: Annotated[
        Literal["constant", "cosine", "step"] | None,
        typer.Option("--schedule", help="Of the learning rate.", show_default=PRESETS),
    ] = None,
    lr_warmup_epochs: Annotated[
        int | None,
        typer.Option("--lr-warmup-epochs", help="In which it rises.", show_default=PRESETS),
    ] = None,
    precision: Annotated[
        Literal["auto", "bf16", "tf32", "fp32"] | None,
        typer.Option("--precision", help="auto: bf16 on a GPU, fp32 on a CPU."),
    ] = None,
    split: Annotated[
        int | None, typer.Option("--split", help="Whose training videos.", show_default=PRESETS)
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of every random draw.", show_default=PRESETS)
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run.", show_default="numbered")
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="Start a run even if one exists.")] = False,
    keep_checkpoints: Annotated[
        bool, typer.Option("--keep-checkpoints", help="Keep one for each clustering.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time of a step goes.")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the encoder: slow start, faster steps.")
    ] = False,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Less memory a sample, slower steps.")
    ] = False,
    augment_on: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option("--augment-on", help="auto: as --device.")
    ] = "auto",
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Pretrain on a clip store, into runs/. The same command again continues.

    Settings come from the preset, then the config file, then --set, then the other options.
    """
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
    recall = result["recall"] or {}
    rows = {key: result[key] for key in ("run", "epochs", "steps", "checkpoint")}
    rows |= {"loss": f"{result['loss']:.4f}", "clusters": result["clusters"]}
    rows["NMI"] = "no labels" if result["nmi"] is None else f"{result['nmi']:.3f}"
    rows |= {f"recall at {k}": f"{v:.3f} (held-out training groups)" for k, v in recall.items()}
    show(result, as_json=as_json, rows=rows)


def _changes(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` as TOML reads them; what is no TOML value is a text."""
    changes: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--set {text}: give NAME=VALUE")
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
