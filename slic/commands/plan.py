"""`slic plan`: its options, and what it prints."""

from pathlib import Path
from typing import Annotated, Any

import typer

from slic.commands.completion import complete_preset
from slic.commands.options import Json, LayoutOption
from slic.errors import InputError
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted

DAY_S, YEAR_S = 86_400, 365.25 * 86_400


def plan_command(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Folder, csv, list, store; or ucf101, hmdb51, kinetics400, kinetics700.",
        ),
    ] = None,
    videos: Annotated[
        int | None,
        typer.Option("--videos", help="So many videos that are not there yet.", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", help="Of each of --videos.")] = 10.0,
    fps: Annotated[float, typer.Option("--fps", help="Of each of --videos.")] = 30.0,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="Settings of training.",
            show_default="by device",
            autocompletion=complete_preset,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Of training.", show_default="preset's")
    ] = None,
    gpus: Annotated[
        int | None, typer.Option("--gpus", help="GPUs in all.", show_default="those here")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="Their kind: a100, h100, h200.", show_default="the one here"),
    ] = None,
    machines: Annotated[int, typer.Option("--machines", help="Machines.")] = 1,
    cores: Annotated[
        int | None,
        typer.Option("--cores", help="Cores of each.", show_default="as in --rates, or here"),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option("--rates", metavar="FILE", help="Rates measured elsewhere, or known."),
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option("--measure", metavar="FILE", help="Only measure this machine's, into FILE."),
    ] = None,
    layout: LayoutOption = "auto",
    as_json: Json = False,
) -> None:
    """What data will cost to prepare, to train on and to evaluate; nothing of it is done."""
    from slic.upkeep.plan import Asked, measure_rates, plan

    asked = Asked(
        dataset=dataset,
        layout=layout,
        videos=videos,
        seconds=seconds,
        fps=fps,
        preset=preset,
        epochs=epochs,
        gpus=gpus,
        gpu=gpu,
        machines=machines,
        cores=cores,
        rates=rates,
    )
    if measure is not None:
        if rates is not None:
            raise InputError("--measure and --rates exclude each other: leave one out")
        names = measure_rates(asked, Path(measure), say=say)
        rows = {"written": measure, "measured": ", ".join(names)}
        show({"path": measure, "measured": names}, as_json=as_json, rows=rows)
        return
    result = plan(asked, say=say)
    if not as_json:
        _show_stages(result)
    show(result, as_json=as_json, rows=_rows(result))


def _show_stages(result: dict[str, Any]) -> None:
    table = new_table("stage", "work", "time", "limit", "then")
    for stage in result["stages"]:
        mark = "*" * stage["assumed"]
        others = {k: v for k, v in stage["by"].items() if k != stage["limit"] and v >= 1}
        then = max(others, key=lambda name: others[name], default=None)
        table.add_row(
            stage["name"],
            f"{number(stage['amount'])} {stage['unit']}",
            duration(stage["seconds"]) + mark,
            stage["limit"] if stage["seconds"] else "",
            f"{then} {duration(others[then])}" if then else "",
        )
    console().print(table)


def _rows(result: dict[str, Any]) -> dict[str, str]:
    data, fleet, sizes, totals = (result[key] for key in ("data", "fleet", "bytes", "totals"))
    first = result["first"]
    gpus = counted(fleet["gpus"], "GPU") + _kind(fleet["gpu"], result["rates"])
    rows = {
        "data": f"{data['name']}: {number(data['videos'])} videos, {number(data['frames'])} frames",
        "sizes": data["basis"],
        "preset": f"{result['preset']}, {counted(result['epochs'], 'epoch')},"
        f" {number(data['train'])} videos to train on",
        "with": f"{counted(fleet['machines'], 'machine')} of {counted(fleet['cores'], 'core')},"
        f" {gpus if fleet['gpus'] else 'no GPU'}",
        "in all": f"{duration(totals['seconds'])}; {_hours(totals)}",
        "first limit": f"{first['limit']}, of {first['stage']}",
        "disk": f"frames {volume(sizes['frames'])}, flow {volume(sizes['flow'])},"
        f" index {volume(sizes['index'])}, embeddings {volume(sizes['embeddings'])},"
        f" checkpoint {volume(sizes['checkpoint'])}",
        "files": f"{number(result['files'])} in {number(result['folders'])} folders",
        "memory": f"{volume(sizes['memory'])} for a clustering's embeddings",
    }
    rows |= _sources(result["rates"])
    return rows


def _kind(gpu: str | None, rates: dict[str, Any]) -> str:
    """The kind of GPUs, marked where something of them is assumed."""
    told = [rates[name]["how"] for name in ("compute_gpu", "flow_gpu") if name in rates]
    return f" ({gpu}{'*' * ('assumed' in told)})" if gpu else ""


def _hours(totals: dict[str, float]) -> str:
    told = [f"{totals['gpu_hours']:,.1f} GPU hours"] if totals["gpu_hours"] else []
    return ", ".join([*told, f"{totals['core_hours']:,.1f} core hours"])


def _sources(rates: dict[str, Any]) -> dict[str, str]:
    measured = [name for name, rate in rates.items() if rate["how"] == "measured"]
    rows = {"measured": ", ".join(measured) or "nothing"}
    for name, rate in rates.items():
        if rate["how"] == "assumed":
            value, unit = rate["value"], rate["unit"].split(",")[0]
            told = number(value) if value >= 1 else f"{value:.3g}"
            rows[f"* {name}"] = f"assumed, {told} {unit}: {rate['source']}"
    return rows


def duration(seconds: float) -> str:
    """A time for people, up to years: 42 s, 5 h 02 min, 3.1 days, 12 years."""
    if seconds < 2 * DAY_S:
        return format_duration(seconds)
    if seconds < 2 * YEAR_S:
        return f"{seconds / DAY_S:,.3g} days" if seconds < 100 * DAY_S else _whole(seconds, DAY_S)
    return f"{_whole(seconds, YEAR_S, 'years')}"


def _whole(seconds: float, unit: float, name: str = "days") -> str:
    return f"{seconds / unit:,.0f} {name}"


def number(count: float) -> str:
    """A count for people: 640, 13,320, 2.5 M, 78 M, 1.2 G."""
    if count < 1e6:
        return f"{count:,.0f}"
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= factor:
            return f"{count / factor:,.3g} {unit}"
    raise AssertionError


def volume(size: float) -> str:
    """Bytes for people: 640 kB, 1.2 GB, 3.1 TB, 2.4 PB."""
    for factor, unit in ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= factor:
            return f"{size / factor:,.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
