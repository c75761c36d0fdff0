"""`slic report`: options and printed results."""

from typing import Annotated

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.options import (
    Device,
    Json,
    OtherStore,
    Readers,
    RunOption,
    Split,
    WeightsOption,
    WeightsPreset,
)
from slic.runtime.console import say, show


def report_command(
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: Split = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", metavar="FILE", help="HTML file to write.", show_default="<run>/report.html"
        ),
    ] = None,
    names: Annotated[
        str | None,
        typer.Option(
            "--names", metavar="FILE", help="CSV file of cluster names, as saved by the page."
        ),
    ] = None,
    figure: Annotated[
        str | None,
        typer.Option(
            "--figure", metavar="FILE", help="Also write the gallery as a .pdf, .svg or .png."
        ),
    ] = None,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Largest number of videos on the map.")
    ] = 3000,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Random seed of samples and of the map.")
    ] = 0,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report: curves, retrieval, clusters, confusion, and a map of the videos."""
    from slic.eval.imported import evaluated_run
    from slic.report.build import report

    result = report(
        evaluated_run(run, weights=weights, preset=preset, store=store, say=say),
        output=output,
        figure=figure,
        say=say,
        store=store,
        split=split,
        sample=sample,
        seed=seed,
        names=names,
        device=device,
        workers=workers,
    )
    for remark in result["remarks"]:
        say(remark)
    rows = {"report": result["path"], "size": format_bytes(result["bytes"])}
    rows |= {"figure": result["figure"]} if result["figure"] else {}
    rows |= {"videos": f"{result['videos']:,} shown", "sections": ", ".join(result["sections"])}
    show(
        result,
        as_json=as_json,
        rows={**rows, "next": "open the report in a browser; it works offline"},
    )
