"""The command `slic reproduce`."""

from typing import Annotated, Any, Literal

import typer

from slic.commands.options import Device, Json, Workers, option, parse_numbers
from slic.errors import InputError
from slic.published import TableName
from slic.runtime.console import console, new_table, plain, say, show
from slic.runtime.progress import format_duration

TableArgument = Annotated[
    TableName,
    typer.Argument(
        help="table1: retrieval; table2: classification; ablation: retrieval without flow or"
        " temporal loss."
    ),
]
ScaleOption = Annotated[
    Literal["demo", "paper"],
    option(
        "--scale",
        "demo: a small encoder on generated videos, in minutes. paper: the paper's settings on your"
        " data sets, for a GPU.",
    ),
]
Seeds = Annotated[str, option("--seeds", "Seeds to train with, such as 0,1,2.")]
Epochs = Annotated[
    int | None, option("--epochs", "Number of epochs per training run.", "the preset's", min=1)
]
Folder = Annotated[str, option("--folder", "Folder for the generated videos and their runs.")]
UCF101 = Annotated[str | None, option("--ucf101", "Clip store of UCF101.", "./ucf101.zarr")]
HMDB51 = Annotated[str | None, option("--hmdb51", "Clip store of HMDB51.", "./hmdb51.zarr")]
K400 = Annotated[
    str | None, option("--kinetics400", "Clip store of Kinetics-400.", "./kinetics400.zarr")
]


def reproduce_command(
    table: TableArgument,
    scale: ScaleOption = "demo",
    seeds: Seeds = "0",
    epochs: Epochs = None,
    folder: Folder = "slic-demo",
    ucf101: UCF101 = None,
    hmdb51: HMDB51 = None,
    kinetics400: K400 = None,
    device: Device = "auto",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Reproduce the SLIC rows of a table in the paper, next to the published results."""
    from slic.paper.reproduce import find_stores, reproduce

    paths = {"UCF101": ucf101, "HMDB51": hmdb51, "K400": kinetics400}
    if scale == "demo" and any(paths.values()):
        raise InputError("--ucf101, --hmdb51 and --kinetics400 are for --scale paper")
    result = reproduce(
        table,
        scale=scale,
        seeds=parse_numbers("--seeds", seeds, least=0),
        epochs=epochs,
        folder=folder,
        stores=find_stores(paths) if scale == "paper" else {},
        device=device,
        workers=workers,
        say=say,
    )
    if not as_json:
        _print_table(result)
    rows = {"scale": scale, "seeds": ", ".join(map(str, result["seeds"]))}
    rows |= {"time": format_duration(result["seconds"]), "files": ", ".join(result["files"])}
    show(result, as_json=as_json, rows=rows)
    if result["failed"]:
        raise typer.Exit(1)


def _print_table(result: dict[str, Any]) -> None:
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
            say(f"{row['method']}, {row['network']}: {row['needs']}")
