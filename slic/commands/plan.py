"""`slic plan`: options and output."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.completion import complete_preset
from slic.commands.options import Json, LayoutOption, arguments_of, option
from slic.errors import InputError
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted

DAY_S, YEAR_S = 86_400, 365.25 * 86_400


def plan_command(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Folder of videos, csv file, list file or store; or the name of a published data"
            " set: ucf101, hmdb51, kinetics400 or kinetics700.",
        ),
    ] = None,
    videos: Annotated[
        int | None,
        option(
            "--videos",
            "Plan for this many hypothetical videos instead of a data set.",
            False,
            min=1,
            max=10**12,
        ),
    ] = None,
    seconds: Annotated[
        float,
        option("--seconds", "Length of each hypothetical video in seconds.", min=1e-3, max=1e6),
    ] = 10.0,
    fps: Annotated[
        float, option("--fps", "Frame rate of the hypothetical videos.", min=1e-3, max=1e4)
    ] = 30.0,
    preset: Annotated[
        str | None,
        option("--preset", "Preset to train with.", "by device", autocompletion=complete_preset),
    ] = None,
    epochs: Annotated[
        int | None, option("--epochs", "Number of training epochs.", "preset's")
    ] = None,
    gpus: Annotated[
        int | None,
        option("--gpus", "Total number of GPUs on all machines.", "those here", min=0, max=10**6),
    ] = None,
    gpu: Annotated[
        str | None, option("--gpu", "Kind of GPU: a100, h100 or h200.", "the one here")
    ] = None,
    machines: Annotated[int, option("--machines", "Number of machines.", min=1, max=10**6)] = 1,
    cores: Annotated[
        int | None,
        option("--cores", "CPU cores per machine.", "as in --rates, or here", min=1, max=10**4),
    ] = None,
    rates: Annotated[
        str | None,
        option(
            "--rates",
            "Use the rates in this file, which --measure has written.",
            False,
            metavar="FILE",
        ),
    ] = None,
    measure: Annotated[
        str | None,
        option(
            "--measure",
            "Measure the rates of this machine and write them to FILE instead of planning.",
            False,
            metavar="FILE",
        ),
    ] = None,
    layout: LayoutOption = "auto",
    as_json: Json = False,
) -> None:
    """Estimate the time, disk space and memory that a data set and training will need."""
    from slic.upkeep.plan import Scenario, measure_rates, plan

    scenario = Scenario(**arguments_of(context, "measure"))
    if measure is not None:
        if rates is not None:
            raise InputError("--measure and --rates cannot be combined: omit one")
        names = measure_rates(scenario, Path(measure), say=say)
        rows = {"written": measure, "measured": ", ".join(names)}
        show({"path": measure, "measured": names}, as_json=as_json, rows=rows)
        return
    result = plan(scenario, say=say)
    if not as_json:
        _show_stages(result["stages"])
    show(result, as_json=as_json, rows=_rows(result))


def _show_stages(stages: list[dict[str, Any]]) -> None:
    table = new_table("stage", "work", "time", "limit", "then")
    for stage in stages:
        others = [(s, part) for part, s in stage["by"].items() if part != stage["limit"] and s >= 1]
        then, part = max(others, default=(0, ""))
        table.add_row(
            stage["name"],
            f"{number(stage['amount'])} {stage['unit']}",
            duration(stage["seconds"]) + "*" * stage["assumed"],
            stage["limit"] if stage["seconds"] else "",
            f"{part} {duration(then)}" if part else "",
        )
    console().print(table)


def _rows(result: dict[str, Any]) -> dict[str, str]:
    data, fleet, totals, first = (result[key] for key in ("data", "fleet", "totals", "first"))
    sizes = {name: format_bytes(size) for name, size in result["bytes"].items()}
    memory = sizes.pop("memory")
    kind = f" ({fleet['gpu']})" if fleet["gpu"] else ""
    gpus = counted(fleet["gpus"], "GPU") + kind if fleet["gpus"] else "no GPU"
    return {
        "data": f"{data['name']}: {number(data['videos'])} videos, {number(data['frames'])} frames",
        "from": data["basis"],
        "preset": f"{result['preset']}, {counted(result['epochs'], 'epoch')},"
        f" {number(data['train'])} training videos",
        "machines": f"{counted(fleet['machines'], 'machine')} with"
        f" {counted(fleet['cores'], 'core')}, {gpus}",
        "total": f"{duration(totals['seconds'])}; {totals['gpu_hours']:,.1f} GPU hours,"
        f" {totals['core_hours']:,.1f} core hours",
        "bottleneck": f"{first['limit']}, in {first['stage']}",
        "disk": ", ".join(f"{name} {size}" for name, size in sizes.items()),
        "files": f"{number(result['files'])} in {number(result['folders'])} folders",
        "memory": f"{memory} for the embeddings while clustering",
        **_sources(result),
    }


def _sources(result: dict[str, Any]) -> dict[str, str]:
    """Return which rates were measured, and the assumed ones that decide a stage's time."""
    rates = result["rates"]
    measured = [name for name, rate in rates.items() if rate["how"] == "measured"]
    rows = {"measured": ", ".join(measured) or "nothing"}
    for name in dict.fromkeys(stage["rate"] for stage in result["stages"] if stage["assumed"]):
        rate = rates[name]
        rows[f"* {name}"] = f"assumed, {rate['value']:.3g} {rate['unit']}: {rate['source']}"
    return rows


def duration(seconds: float) -> str:
    """Format a time: 42 s, 5 h 02 min, 3.1 days, 12.0 years."""
    if seconds < 2 * DAY_S:
        return format_duration(seconds)
    days = seconds < 2 * YEAR_S
    return f"{seconds / DAY_S:,.1f} days" if days else f"{seconds / YEAR_S:,.1f} years"


def number(count: float) -> str:
    """Format a count: 640, 13,320, 2.5 M, 78 M, 1.2 G."""
    if count < 1e6:
        return f"{count:,.0f}"
    for factor, unit in ((1e12, "T"), (1e9, "G")):
        if count >= factor:
            return f"{count / factor:,.3g} {unit}"
    return f"{count / 1e6:.3g} M"
