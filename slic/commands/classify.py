"""`slic eval classify`: its options, and what it prints."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.options import (
    Device,
    Feature,
    Json,
    OtherStore,
    Readers,
    RunOption,
    Split,
    WeightsOption,
    WeightsPreset,
)
from slic.runtime.console import say, show

HARDEST = 3


def eval_classify_command(
    mode: Annotated[
        Literal["linear", "linear-augmented", "finetune"],
        typer.Option("--mode", help="linear: cached embeddings, in seconds."),
    ] = "linear",
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: Split = None,
    clips: Annotated[
        int | None,
        typer.Option("--clips", help="Of a test video.", show_default="10; linear: the run's"),
    ] = None,
    crops: Annotated[
        int | None,
        typer.Option("--crops", help="Of a test clip: 1 or 10.", show_default="10; linear: 1"),
    ] = None,
    feature: Annotated[
        Feature | None, typer.Option("--feature", help="Embedding.", show_default="backbone")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Passes over the videos.", show_default="150"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Clips a step.", show_default="32")
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", help="Rate; of a backbone a tenth.", show_default="0.001"),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option("--dropout", help="Before the linear layer.", show_default="0.9"),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of every random draw.", show_default="the run's")
    ] = None,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Accuracy of a linear layer on the embeddings, or of the network finetuned.

    linear-augmented and finetune train on augmented clips, and go on after an interruption.
    --epochs, --batch-size, --lr, --dropout, --seed, --crops are theirs alone.
    """
    from slic.eval.classify import classify
    from slic.eval.foreign import evaluated_run

    result = classify(
        evaluated_run(run, weights=weights, preset=preset, store=store, say=say),
        mode=mode,
        store=store,
        split=split,
        clips=clips,
        feature=feature,
        options={
            "epochs": epochs,
            "batch_size": batch_size,
            "lr": lr,
            "dropout": dropout,
            "seed": seed,
            "crops": crops,
        },
        device=device,
        workers=workers,
        say=say,
    )
    show(result, as_json=as_json, rows=_rows(result))


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    rows = {key: result[key] for key in ("run", "store", "split", "mode", "train", "test")}
    if result["validation"]:
        chosen = f"epoch {result['best_epoch']} of {result['epochs']}, top-1"
        rows["validation"] = f"{result['validation']}: {chosen} {result['validation_top1']:.4f}"
    rows |= {"top-1": f"{result['top1']:.4f}", "top-5": f"{result['top5']:.4f}"}
    rows["of each video"] = f"{result['clips']} clip(s), {result['crops']} crop(s) of each"
    hardest = sorted(result["per_class"].items(), key=lambda item: item[1])[:HARDEST]
    rows["hardest"] = ", ".join(f"{label} {value:.2f}" for label, value in hardest)
    return {**rows, "confusion": result["confusion"]}
