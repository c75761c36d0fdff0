"""`slic eval retrieve`: its options, and what it prints."""

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
)
from slic.errors import InputError
from slic.runtime.console import console, new_table, plain, say, show


def eval_retrieve_command(
    k: Annotated[str, typer.Option("--k", help="How many neighbours count.")] = "1,5,10",
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="1|2|3|all", help="Split.", show_default="the run's"),
    ] = None,
    clips: Clips = None,
    feature: Annotated[
        Feature | None, typer.Option("--feature", help="Embedding.", show_default="the run's")
    ] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Also recall at 1 of each class.")
    ] = False,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Recall at k: is one of the k nearest training videos of the same class?"""
    from slic.eval.foreign import evaluated_run
    from slic.eval.retrieve import parse_ks, retrieve

    result = retrieve(
        evaluated_run(run, weights=weights, preset=preset, store=store, say=say),
        ks=parse_ks(k),
        store=store,
        split=_split(split),
        clips=clips,
        feature=feature,
        device=device,
        workers=workers,
        say=say,
    )
    if per_class and not as_json:
        _show_classes(result["per_class"])
    rows = {key: result[key] for key in ("run", "store", "split", "queries", "gallery")}
    rows |= {"feature": f"{result['feature']}, mean of {result['clips']} clip(s)"}
    rows |= {f"recall at {k}": f"{value:.4f}" for k, value in result["recall"].items()}
    for number, of in result.get("splits", {}).items():
        values = ", ".join(f"{value:.4f} at {k}" for k, value in of["recall"].items())
        rows[f"split {number}"] = values
    show(result, as_json=as_json, rows=rows)


def _split(text: str | None) -> int | Literal["all"] | None:
    if text is None or text == "all":
        return text  # type: ignore[return-value]
    try:
        return int(text)
    except ValueError:
        raise InputError(f"--split {text}: give 1, 2, 3 or all") from None


def _show_classes(recall: dict[str, Any]) -> None:
    table = new_table("class", "recall at 1")
    for label, value in recall.items():
        table.add_row(plain(label), f"{value:.4f}")
    console().print(table)
