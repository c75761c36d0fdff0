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
    option,
    run_and_arguments,
)
from slic.runtime.console import say, show


def report_command(
    context: typer.Context,
    run: RunOption = None,
    weights: WeightsOption = None,
    preset: WeightsPreset = None,
    store: OtherStore = None,
    split: Split = None,
    output: Annotated[
        str | None,
        option("--output", "HTML file to write.", "<run>/report.html", metavar="FILE"),
    ] = None,
    names: Annotated[
        str | None,
        option(
            "--names", "CSV file of cluster names, as saved from the report page.", metavar="FILE"
        ),
    ] = None,
    figure: Annotated[
        str | None,
        option("--figure", "Also write the gallery as a .pdf, .svg or .png file.", metavar="FILE"),
    ] = None,
    sample: Annotated[
        int, option("--sample", "Maximum number of videos on the map.", min=1)
    ] = 3000,
    seed: Annotated[int, option("--seed", "Random seed for the samples and the map.", min=0)] = 0,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report: curves, retrieval, clusters, confusion, and a map of the videos."""
    from slic.report.build import report

    opened, arguments = run_and_arguments(context)
    result = report(opened, **arguments)
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
