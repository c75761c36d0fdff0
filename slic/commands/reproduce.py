"""`slic reproduce`: its options, and what it prints."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.options import Device, Json, Workers
from slic.errors import InputError
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.progress import format_duration


def reproduce_command(
    table: Annotated[
        Literal["table1", "table2", "ablation"],
        typer.Argument(help="Retrieval, classification, or the ablation."),
    ],
    scale: Annotated[
        Literal["demo", "paper"],
        typer.Option("--scale", help="demo: drawn video, small encoder, InfoNCE."),
    ] = "demo",
    seeds: Annotated[str, typer.Option("--seeds", help="Of training, such as 0,1,2.")] = "0",
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Of each training.", show_default="preset's"),
    ] = None,
    folder: Annotated[
        str, typer.Option("--folder", help="Of the demo's set and runs.")
    ] = "slic-demo",
    ucf101: Annotated[
        str | None, typer.Option("--ucf101", help="Its store.", show_default="./ucf101.zarr")
    ] = None,
    hmdb51: Annotated[
        str | None, typer.Option("--hmdb51", help="Its store.", show_default="./hmdb51.zarr")
    ] = None,
    kinetics400: Annotated[
        str | None,
        typer.Option("--kinetics400", help="Its store.", show_default="./kinetics400.zarr"),
    ] = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """The SLIC rows of the paper's tables beside the published figures."""
    from slic.paper.reproduce import need_stores, reproduce

    paths = {"UCF101": ucf101, "HMDB51": hmdb51, "K400": kinetics400}
    if scale == "demo" and any(paths.values()):
        raise InputError("stores have a part in --scale paper alone: leave them out")
    result = reproduce(
        table,
        scale=scale,
        seeds=_seeds(seeds),
        epochs=epochs,
        folder=folder,
        stores=need_stores(paths) if scale == "paper" else {},
        device=device,
        workers=workers,
        say=say,
    )
    if not as_json:
        _show_table(result)
    rows = {"scale": scale, "seeds": ", ".join(map(str, result["seeds"]))}
    rows |= {"time": format_duration(result["seconds"]), "written": ", ".join(result["files"])}
    show(result, as_json=as_json, rows=rows)
    if result["failed"]:
        raise typer.Exit(1)


def _show_table(result: dict[str, Any]) -> None:
    from slic.paper.comparison import lines

    table = new_table("percent", title=result["title"])
    for column in result["columns"]:
        table.add_column(column, justify="right")
    for line in lines(result):
        table.add_row(*map(plain, line))
    console().print(table)
    say(result["note"])
    for row in result["rows"]:
        if row["needs"]:
            say(f"{row['method']}, {row['network']}: needs {row['needs']}")


def _seeds(text: str) -> list[int]:
    try:
        seeds = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise InputError(f"--seeds {text}: give whole numbers with commas, such as 0,1,2") from None
    if min(seeds) < 0:
        raise InputError(f"--seeds {text}: each must be 0 or more")
    return seeds
