"""`slic demo`: options and printed results."""

from typing import Annotated

from slic.commands.options import Json, Workers, option
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration


def demo_command(
    folder: Annotated[
        str, option("--folder", "Folder for the videos, the runs and the report.")
    ] = "slic-demo",
    seed: Annotated[
        int, option("--seed", "Random seed for the videos and the training.", min=0)
    ] = 0,
    epochs: Annotated[
        int | None,
        option("--epochs", "Number of epochs per training run.", "preset's", min=1),
    ] = None,
    groups: Annotated[
        int, option("--groups", "Scenes per action, with 4 clips each.", min=2, max=99)
    ] = 16,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Run the whole pipeline on generated videos (about 4 minutes on a laptop CPU)."""
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
        "report": f"{result['report']} (open it in a browser)",
    }
    show(result, as_json=as_json, rows=rows)
