"""The command `slic eval classify`."""

from typing import Annotated, Any

import typer

from slic.commands.options import (
    Device,
    Json,
    OtherStore,
    Readers,
    RunOption,
    Split,
    WeightsOption,
    WeightsPreset,
    option,
    run_and_arguments,
)
from slic.config import Feature
from slic.eval.recipe import Mode
from slic.runtime.console import show
from slic.runtime.text import counted

HARDEST = 3  # classes to print
PANEL = "Training (not for --mode linear)"
TRAINING_OPTIONS = ("epochs", "batch_size", "lr", "dropout", "seed", "crops")


def training_option(name: str, text: str, default: str) -> Any:
    """Make an option of the modes that train on clips."""
    return option(name, text, default, rich_help_panel=PANEL)


ModeOption = Annotated[
    Mode,
    option(
        "--mode",
        "linear: logistic regression on cached embeddings, in seconds. linear-augmented: a linear"
        " layer, trained on augmented clips. finetune: the whole network.",
        metavar="MODE",
    ),
]
TestClips = Annotated[
    int | None, option("--clips", "Number of clips per test video.", "10; linear: the run's")
]
FeatureOption = Annotated[Feature | None, option("--feature", "Embedding to classify.", "backbone")]
Crops = Annotated[
    int | None, training_option("--crops", "Number of crops per test clip: 1 or 10.", "10")
]
Epochs = Annotated[
    int | None, training_option("--epochs", "Passes over the training videos.", "150")
]
BatchSize = Annotated[int | None, training_option("--batch-size", "Clips per step.", "32")]
Rate = Annotated[
    float | None,
    training_option(
        "--lr", "Learning rate of the linear layer; the backbone's is a tenth of it.", "0.001"
    ),
]
Dropout = Annotated[
    float | None,
    training_option("--dropout", "Dropout probability before the linear layer.", "0.9"),
]
Seed = Annotated[int | None, training_option("--seed", "Seed for all random choices.", "the run's")]


def eval_classify_command(
    context: typer.Context,
    mode: ModeOption = "linear",
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: Split = None,
    clips: TestClips = None,
    feature: FeatureOption = None,
    crops: Crops = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    dropout: Dropout = None,
    seed: Seed = None,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Train a classifier on a run's encoder, and measure its accuracy on the test videos.

    Run the same command again to resume an interrupted training.
    """
    from slic.eval.classify import classify

    opened, arguments = run_and_arguments(context)
    options = {name: arguments.pop(name) for name in TRAINING_OPTIONS}
    result = classify(opened, **arguments, options=options)
    show(result, as_json=as_json, rows=_rows(result))


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    rows = {key: result[key] for key in ("run", "store", "split", "mode")}
    rows["training videos"] = result["train"]
    if result["validation"]:
        best = f"best epoch {result['best_epoch']} of {result['epochs']}"
        rows["validation"] = (
            f"{result['validation']} videos, {best}: top-1 {result['validation_top1']:.4f}"
        )
    views = f"{counted(result['clips'], 'clip')} x {counted(result['crops'], 'crop')}"
    rows |= {"test videos": f"{result['test']}, {views} each"}
    rows |= {"top-1": f"{result['top1']:.4f}", "top-5": f"{result['top5']:.4f}"}
    hardest = sorted(result["per_class"].items(), key=lambda item: item[1])[:HARDEST]
    rows["hardest classes"] = ", ".join(f"{label} {value:.2f}" for label, value in hardest)
    return {**rows, "confusion": result["confusion"]}
