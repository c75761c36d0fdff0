"""`slic search`: its options, and what it prints."""

from typing import Annotated

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
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.text import counted


def search_command(
    query: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY...", help="Video files, or ids of the store; a part: FILE#t=12,14."
        ),
    ],
    k: Annotated[int, typer.Option("--k", min=1, help="How many to list.")] = 10,
    window: Annotated[
        str | None,
        typer.Option(
            "--window",
            metavar="SECONDS",
            help="Find places in long videos: search windows of so long, such as 2s.",
            show_default="whole videos",
        ),
    ] = None,
    stride: Annotated[
        str | None,
        typer.Option(
            "--stride",
            metavar="SECONDS",
            help="From one window to the next.",
            show_default="half a window",
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page to look at.", show_default=False),
    ] = None,
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
    """Videos like this one, or places in them: the nearest of a store, by a run's embeddings."""
    from slic.eval.foreign import evaluated_run
    from slic.search import search

    result = search(
        evaluated_run(run, weights=weights, preset=preset, store=store, say=say),
        query,
        k=k,
        store=store,
        clips=clips,
        feature=feature,
        window=window,
        stride=stride,
        html=html,
        device=device,
        workers=workers,
        say=say,
    )
    for failure in result["failures"]:
        say(f"failed: {failure['query']}: {failure['reason']}")
    if not as_json:
        _show_results(result["results"])
    held = f"{result['store']}, {counted(result['videos'], 'video')}"
    if result["windows"] is not None:
        held += f", {counted(result['windows'], 'window')}"
    clips_each = f"mean of {counted(result['clips'], 'clip')}"
    rows = {"run": result["run"], "store": held, "feature": f"{result['feature']}, {clips_each}"}
    if html is not None:
        rows["page"] = result["html"]
    show(result, as_json=as_json, rows=rows)
    if result["failures"]:
        raise typer.Exit(1)


def _show_results(results: list[dict]) -> None:
    for name in dict.fromkeys(row["query"] for row in results):
        found = [row for row in results if row["query"] == name]
        timed = found[0]["start"] is not None
        headings = ("", "similarity", *["seconds"] * timed, "label", "id")
        table = new_table(*headings)
        for row in found:
            seconds = [f"{row['start']:.2f}-{row['end']:.2f}"] if timed else []
            texts = (plain(row["label"] or ""), plain(row["id"]))
            table.add_row(str(row["rank"]), f"{row['similarity']:.4f}", *seconds, *texts)
        console().print(plain(name), soft_wrap=True)  # no title, which breaks at the width
        console().print(table)
