"""The command `slic eval retrieve`."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.options import (
    Clips,
    Device,
    Feature,
    Json,
    OtherStore,
    Readers,
    RunOption,
    WeightsOption,
    WeightsPreset,
    option,
    parse_numbers,
    run_and_arguments,
)
from slic.errors import InputError
from slic.runtime.console import console, new_table, plain, show
from slic.runtime.text import counted

Ks = Annotated[str, option("--k", "Numbers of neighbours k for which to report recall.")]
SplitOption = Annotated[
    str | None,
    option(
        "--split",
        "Split to evaluate; all reports the mean over all splits.",
        "the run's",
        metavar="1|2|3|all",
    ),
]
PerClass = Annotated[bool, option("--per-class", "Also print recall at 1 for each class.")]


def eval_retrieve_command(
    context: typer.Context,
    k: Ks = "1,5,10",
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: SplitOption = None,
    clips: Clips = None,
    feature: Feature = None,
    per_class: PerClass = False,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Measure recall at k: how many test videos have one of their class among the k nearest."""
    from slic.eval.retrieve import retrieve

    opened, arguments = run_and_arguments(context, "k", "split", "per_class")
    ks = sorted(parse_numbers("--k", k, least=1))
    result = retrieve(opened, ks=ks, split=_split(split), **arguments)
    if per_class and not as_json:
        _print_classes(result["per_class"])
    show(result, as_json=as_json, rows=_rows(result))


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    rows = {key: result[key] for key in ("run", "store", "split")}
    rows |= {
        "queries": f"{result['queries']} test videos",
        "gallery": f"{result['gallery']} training videos",
        "embedding": f"{result['feature']}, mean of {counted(result['clips'], 'clip')}",
    }
    rows |= {f"recall at {k}": f"{value:.4f}" for k, value in result["recall"].items()}
    for number, of_split in result.get("splits", {}).items():
        values = (f"{value:.4f} at {k}" for k, value in of_split["recall"].items())
        rows[f"split {number}"] = ", ".join(values)
    return rows


def _split(text: str | None) -> int | Literal["all"] | None:
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--split {text}: give 1, 2, 3 or all") from None


def _print_classes(recall: dict[str, Any]) -> None:
    table = new_table("class", "recall at 1")
    for label, value in recall.items():
        table.add_row(plain(label), f"{value:.4f}")
    console().print(table)
