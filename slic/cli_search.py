"""`slic search`: its options, and what it prints."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from slic.options import (
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
from slic.printing import console, say, show


def search_command(
    query: Annotated[
        list[str], typer.Argument(metavar="QUERY...", help="Video files, or ids of the store.")
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="How many videos to list.")] = 10,
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    clips: Clips = None,
    feature: Annotated[
        Feature | None, typer.Option("--feature", help="Embedding.", show_default="the run's")
    ] = None,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Videos like this one: the nearest of a store, by a run's embeddings."""
    from slic.eval.foreign import evaluated_run
    from slic.search import search

    result = search(
        evaluated_run(run, weights=weights, preset=preset, store=store, say=say),
        query,
        k=k,
        store=store,
        clips=clips,
        feature=feature,
        device=device,
        workers=workers,
        say=say,
    )
    for failure in result["failures"]:
        say(f"failed: {failure['query']}: {failure['reason']}")
    if not as_json:
        _show_results(result["results"])
    rows = {"run": result["run"], "store": f"{result['store']}, {result['videos']} videos"}
    rows |= {"feature": f"{result['feature']}, mean of {result['clips']} clip(s)"}
    show(result, as_json=as_json, rows=rows)
    if result["failures"]:
        raise typer.Exit(1)


def _show_results(results: list[dict]) -> None:
    for name in dict.fromkeys(row["query"] for row in results):
        table = Table("", "similarity", "label", "id", title=escape(name), title_justify="left")
        table.box, table.pad_edge = None, False
        table.columns[3].overflow = "fold"
        for row in (row for row in results if row["query"] == name):
            label = escape(row["label"] or "")
            table.add_row(str(row["rank"]), f"{row['similarity']:.4f}", label, escape(row["id"]))
        console().print(table)
