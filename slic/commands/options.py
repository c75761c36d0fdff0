"""Options that several commands share, with their help texts."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from slic.commands.completion import complete_device, complete_preset, complete_run, complete_store
from slic.config import Feature as FeatureName
from slic.datasets.layouts.video import Layout
from slic.errors import InputError
from slic.runtime.console import say

if TYPE_CHECKING:
    from slic.runs import Run

Codec = Literal["jpeg", "zstd"]
Engine = Literal["auto", "cuda", "cpu", "torch", "opencv", "imported"]


def option(name: str, text: str, default: str | bool = True, **details: Any) -> Any:
    """Make an option of a command.

    Args:
        name: Its name, such as `--run`.
        text: Its help text.
        default: What the help shows as its default; True for the value itself, False for nothing.
        **details: Further arguments of `typer.Option`.
    """
    return typer.Option(name, help=text, show_default=default, **details)


def arguments_of(context: typer.Context, *without: str) -> dict[str, Any]:
    """Return the arguments of a command by name, but for `as_json` and those listed."""
    return {k: v for k, v in context.params.items() if k not in ("as_json", *without)}


def run_and_arguments(context: typer.Context, *without: str) -> tuple["Run", dict[str, Any]]:
    """Open the run that a command's options choose; return it with the other arguments, and `say`.

    Raises:
        InputError, CheckpointError, StoreError: as `evaluated_run`.
    """
    from slic.eval.imported import evaluated_run

    arguments = arguments_of(context, *without)
    name, weights, preset = (arguments.pop(key) for key in ("run", "weights", "preset"))
    run = evaluated_run(name, weights=weights, preset=preset, store=arguments["store"], say=say)
    return run, {**arguments, "say": say}


def parse_numbers(name: str, text: str, *, least: int) -> list[int]:
    """Parse the value of an option such as `--k 1,5,10` to distinct numbers, in the given order.

    Raises:
        InputError: The value is not a list of integers of at least `least`.
    """
    try:
        numbers = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"{name} {text}: give whole numbers, such as 1,5,10") from None
    if min(numbers) < least:
        raise InputError(f"{name} {text}: each number must be at least {least}")
    return numbers


Dataset = Annotated[
    str,
    typer.Argument(metavar="DATASET", help="Folder of videos, csv file, list file, or store."),
]
StoreOption = Annotated[
    str | None,
    option("--store", "Path of the clip store.", "./<name>.zarr", autocompletion=complete_store),
]
LayoutOption = Annotated[
    Literal["auto", Layout], option("--layout", "How the data set is organised on disk.")
]
Workers = Annotated[
    int | None, option("--workers", "Number of worker processes.", "all cores", min=1)
]
Readers = Annotated[
    int | None,
    option(
        "--workers",
        "Number of processes that read clips; 0: read them in the main process.",
        "by device",
        min=0,
    ),
]
Limit = Annotated[
    int | None,
    option(
        "--limit",
        "Process at most this many videos, sampled from the whole data set.",
        "all",
        min=1,
    ),
]
Overwrite = Annotated[bool, option("--overwrite", "Process stored videos again and replace them.")]
Retry = Annotated[bool, option("--retry", "Retry videos that failed before.")]
Json = Annotated[bool, option("--json", "Print the result as one JSON object.")]
RunOption = Annotated[
    str | None,
    option("--run", "Name of a run in runs/, or its path.", "newest", autocompletion=complete_run),
]
WeightsOption = Annotated[
    str | None,
    option(
        "--weights", "Evaluate the weights in this file instead of a run's.", False, metavar="FILE"
    ),
]
WeightsPreset = Annotated[
    str | None,
    option(
        "--preset",
        "Preset that defines the shape of clips for --weights.",
        "ucf101-16f",
        autocompletion=complete_preset,
    ),
]
OtherStore = Annotated[
    str | None,
    option("--store", "Clip store to use.", "the run's", autocompletion=complete_store),
]
Split = Annotated[int | None, option("--split", "Split to evaluate: 1, 2 or 3.", "the run's")]
Device = Annotated[
    str, option("--device", "auto, cpu, cuda or cuda:N.", autocompletion=complete_device)
]
FlowDevice = Annotated[
    str,
    option(
        "--device", "auto, cpu, cuda (all GPUs), cuda:N or mps.", autocompletion=complete_device
    ),
]
Clips = Annotated[
    int | None,
    option("--clips", "Number of clips whose embeddings are averaged per video.", "the run's"),
]
Feature = Annotated[
    FeatureName | None,
    option(
        "--feature",
        "Embedding to compare: the output of the backbone or of the projection head.",
        "the run's",
    ),
]
