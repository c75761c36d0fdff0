"""The command `slic search`."""

from typing import Annotated, Any

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
    run_and_arguments,
)
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.text import counted

Queries = Annotated[
    list[str],
    typer.Argument(
        metavar="QUERY...",
        help="Video files, or ids of videos in the store; FILE#t=12,14 means seconds 12 to 14.",
    ),
]
K = Annotated[int, option("--k", "Number of results per query.", min=1)]
Window = Annotated[
    str | None,
    option(
        "--window",
        "Find moments: search windows of this length, such as 2s, instead of whole videos.",
        False,
        metavar="SECONDS",
    ),
]
Stride = Annotated[
    str | None,
    option(
        "--stride",
        "Time between the starts of consecutive windows.",
        "half a window",
        metavar="SECONDS",
    ),
]
Html = Annotated[
    str | None, option("--html", "Also write the results as an HTML page.", False, metavar="FILE")
]


def search_command(
    context: typer.Context,
    query: Queries,
    k: K = 10,
    window: Window = None,
    stride: Stride = None,
    html: Html = None,
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    clips: Clips = None,
    feature: Feature = None,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Find the stored videos, or moments in them, that are most similar to a query."""
    from slic.search import search

    opened, arguments = run_and_arguments(context, "query")
    result = search(opened, query, **arguments)
    for failure in result["failures"]:
        say(f"failed: {failure['query']}: {failure['reason']}")
    if not as_json:
        _print_results(result["results"])
    show(result, as_json=as_json, rows=_rows(result))
    if result["failures"]:
        raise typer.Exit(1)


def _rows(result: dict[str, Any]) -> dict[str, Any]:
    size = counted(result["videos"], "video")
    if result["windows"] is not None:
        size += f", {counted(result['windows'], 'window')}"
    embedding = f"{result['feature']}, mean of {counted(result['clips'], 'clip')}"
    rows = {"run": result["run"], "store": f"{result['store']}, {size}", "embedding": embedding}
    return {**rows, "page": result["html"]} if "html" in result else rows


def _print_results(results: list[dict[str, Any]]) -> None:
    for name in dict.fromkeys(row["query"] for row in results):
        rows = [row for row in results if row["query"] == name]
        timed = rows[0]["start"] is not None
        table = new_table("", "similarity", *["seconds"] * timed, "label", "id")
        for row in rows:
            seconds = [f"{row['start']:.2f}-{row['end']:.2f}"] if timed else []
            texts = (plain(row["label"] or ""), plain(row["id"]))
            table.add_row(str(row["rank"]), f"{row['similarity']:.4f}", *seconds, *texts)
        # Not as the table's title, which would be wrapped at the table's width.
        console().print(plain(name), soft_wrap=True)
        console().print(table)
