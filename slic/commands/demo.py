"""`slic demo`: its options, and what it prints."""

from typing import Annotated

import typer

from slic.commands.options import Json, Workers
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration


def demo_command(
    folder: Annotated[str, typer.Option("--folder", help="Where everything goes.")] = "slic-demo",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of drawing and training.")] = 0,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", min=1, help="Of each training.", show_default="preset's"),
    ] = None,
    groups: Annotated[
        int, typer.Option("--groups", min=2, help="Scenes an action, of 4 clips each.")
    ] = 16,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """All of it on video that it draws itself: draw, prep, train, eval, report."""
    from slic.demo.demo import demo

    result = demo(folder, seed=seed, epochs=epochs, groups=groups, workers=workers, say=say)
    table = new_table("recall at", "1", "5", "10")
    for method, recall in result["recall"].items():
        table.add_row(method, *(f"{value:.3f}" for value in recall.values()))
    if not as_json:
        console().print(table)
    rows = {
        "linear probe": f"top-1 {result['top1']:.3f}",
        "time": format_duration(result["seconds"]),
        "look at": f"{result['report']}, in a browser",
    }
    show(result, as_json=as_json, rows=rows)
