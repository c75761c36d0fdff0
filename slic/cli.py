"""The command line: parse, call, print."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.exceptions import TyperException

from slic import __version__
from slic.cli_cache import cache_app
from slic.cli_classify import eval_classify_command
from slic.cli_reproduce import reproduce_command
from slic.cli_retrieve import eval_retrieve_command
from slic.cli_search import search_command
from slic.cli_train import train_command
from slic.disk import failure
from slic.errors import InputError, SlicError, WorkError
from slic.options import (
    Codec,
    Dataset,
    Engine,
    FlowDevice,
    Json,
    LayoutOption,
    Limit,
    Overwrite,
    Retry,
    StoreOption,
    Workers,
)
from slic.printing import console, say, show
from slic.progress import clock
from slic.stopping import exit_code_of_stop, stop_on_signals

app = typer.Typer(
    name="slic",
    help="Video representations without labels: prepare video, pretrain, evaluate.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
prep_app = typer.Typer(
    help="Decode video and compute flow into a clip store.", no_args_is_help=True
)
eval_app = typer.Typer(help="Measure a run from cached embeddings.", no_args_is_help=True)
app.add_typer(prep_app, name="prep")
app.add_typer(eval_app, name="eval")
app.add_typer(cache_app, name="cache")

INTERRUPTED = 130
CHECKED = (
    ("error_px", "end-point error", "{:.4f} px"),
    ("worst_px", "  worst pair", "{:.4f} px"),
    ("equal", "equal levels", "{:.2%}"),
    ("within_1", "within 1 level", "{:.2%}"),
    ("worst_within_1", "  worst pair", "{:.2%}"),
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"slic {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Video representations without labels: prepare video, pretrain, evaluate."""


@prep_app.command("frames")
def prep_frames_command(
    dataset: Dataset,
    store: StoreOption = None,
    layout: LayoutOption = "auto",
    short_side: Annotated[int, typer.Option("--short-side", min=8, help="Pixels.")] = 128,
    codec: Annotated[Codec, typer.Option("--codec", help="zstd is lossless.")] = "jpeg",
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Of folders of images.", show_default="unknown"),
    ] = None,
    workers: Workers = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    retry: Retry = False,
    as_json: Json = False,
) -> None:
    """Decode every video once, into ./<name>.zarr."""
    from slic.prep.frames import prep_frames

    result = prep_frames(
        dataset,
        store=store,
        layout=layout,
        short_side=short_side,
        codec=codec,
        fps=fps,
        workers=workers,
        limit=limit,
        overwrite=overwrite,
        retry=retry,
    )
    _show_prep(result, as_json=as_json, unit="frames")


@prep_app.command("flow")
def prep_flow_command(
    context: typer.Context,
    dataset: Dataset,
    store: StoreOption = None,
    layout: LayoutOption = "auto",
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine", help="auto: cuda on a GPU, else cpu; imported: flow images of the data set."
        ),
    ] = "auto",
    device: FlowDevice = "auto",
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="NAME=VALUE", help="Of TV-L1, named as in OpenCV."),
    ] = None,
    bound: Annotated[
        float | None,
        typer.Option(
            "--bound",
            help="Largest flow, pixels; of images, what 255 stands for.",
            show_default="short side / 12",
        ),
    ] = None,
    short_side: Annotated[
        int | None,
        typer.Option("--short-side", min=8, help="Of missing frames.", show_default="128"),
    ] = None,
    workers: Workers = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    retry: Retry = False,
    check: Annotated[
        int | None,
        typer.Option(
            "--check", metavar="N", help="Write nothing: compare N stored pairs with OpenCV."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --check's draw.")] = 0,
    as_json: Json = False,
) -> None:
    """TV-L1 optical flow beside the frames; the frames first, if missing."""
    if check is not None:
        _refuse_beside("--check", context, "dataset", "store", "layout", "workers", "seed")
        from slic.prep.check import check_flow

        found = check_flow(
            dataset, pairs=check, seed=seed, store=store, layout=layout, workers=workers
        )
        _show_check(found, as_json=as_json)
        return
    _refuse_without("--check", context, "seed")
    from slic.prep.flow import prep_flow
    from slic.prep.tvl1.parameters import parse_parameters

    result = prep_flow(
        dataset,
        store=store,
        layout=layout,
        engine=engine,
        device=device,
        parameters=parse_parameters(param or []),
        bound=bound,
        short_side=short_side,
        workers=workers,
        limit=limit,
        overwrite=overwrite,
        retry=retry,
    )
    _show_prep(result, as_json=as_json, unit="pairs")


def _show_prep(result: Any, *, as_json: bool, unit: str) -> None:
    for note in result.notes:
        say(note)
    for video, reason in result.failures:
        say(f"failed: {video}: {reason}")
    for video, reason in result.damaged:
        say(f"damaged: {video}: {reason}")
    rows = {
        "store": result.store,
        "videos": f"{result.videos}: {result.written} written, {result.skipped} there before,"
        f" {result.failed} failed" + f", {len(result.damaged)} damaged" * bool(result.damaged),
        unit: f"{result.frames} in {clock(result.seconds)}",
    }
    show(result.json(), as_json=as_json, rows=rows)
    if result.new_failures:
        raise typer.Exit(1)


def _refuse_beside(option: str, context: typer.Context, *fitting: str) -> None:
    for name in context.params:
        source = context.get_parameter_source(name)
        given = source is not None and source.name == "COMMANDLINE"
        if given and name not in (*fitting, option.strip("-"), "as_json"):
            other = name.replace("_", "-")
            raise InputError(f"--{other} has no part in {option}: leave it out")


def _refuse_without(option: str, context: typer.Context, name: str) -> None:
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        raise InputError(f"--{name} has a part in {option} alone: leave it out")


def _show_check(result: Any, *, as_json: bool) -> None:
    reasons = {pair.id: pair.reason for pair in result.damaged}
    for video, reason in reasons.items():
        number = sum(pair.id == video for pair in result.damaged)
        say(f"not compared: {number} pair{'s' * (number > 1)} of {video}: {reason}")
    if result.left_out:
        say(f"left out, of 1-pixel sides, which OpenCV cannot do: {result.left_out} videos")
    figures = result.json()
    rows = {
        "store": figures["store"],
        "pairs": f"{figures['pairs']} of {figures['of_pairs']}, of {figures['videos']} videos,"
        f" in {clock(figures['seconds'])}",
        "against": f"{figures['against']}; flow beyond the bound counts as the bound",
    }
    if figures["pairs"]:
        worst, stored, storing = figures["worst"], figures, figures["storing"]
        table = Table("", "stored flow", "OpenCV's, stored alike", box=None, pad_edge=False)
        for key, name, form in CHECKED:
            table.add_row(name, form.format(stored[key]), form.format(storing[key]))
        if not as_json:
            console().print(table)
        rows["flow by"] = figures["engine"]
        rows["deviation"] = f"{figures['deviation']:.2f}; right flow stays below 1"
        rows["worst pair"] = f"{worst['id']}, pair {worst['pair']}"
    show(figures, as_json=as_json, rows=rows)
    if result.problem:
        raise WorkError(result.problem)
    if result.damaged:
        raise typer.Exit(1)


@prep_app.command("info")
def prep_info_command(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A clip store.")],
    as_json: Json = False,
) -> None:
    """What a store holds."""
    from slic.prep.info import store_info

    info = store_info(store)
    rows = {key: info[key] for key in ("store", "videos", "frames", "flow", "labels")}
    for number, words in info["splits"].items():
        rows[f"split {number}"] = ", ".join(f"{count} {word}" for word, count in words.items())
    for kind in ("failed", "damaged"):
        rows[kind] = len(info[kind])
        if not as_json:
            for video in info[kind]:
                say(f"{kind}: {video['id']}: {video['reason']}")
    if info["outdated"]:
        rows["outdated"] = f"{len(info['outdated'])}: stored by other parameters; run prep again"
    show(info, as_json=as_json, rows={**rows, "bytes": f"{info['bytes']:,}"})


app.command("train")(train_command)
app.command("search")(search_command)
app.command("reproduce")(reproduce_command)


eval_app.command("retrieve")(eval_retrieve_command)
eval_app.command("classify")(eval_classify_command)


@app.command("demo")
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
    """All of it on video that it draws itself: draw, prep, train, eval."""
    from slic.demo import demo

    result = demo(folder, seed=seed, epochs=epochs, groups=groups, workers=workers, say=say)
    table = Table("recall at", "1", "5", "10", box=None, pad_edge=False)
    for method, recall in result["recall"].items():
        table.add_row(method, *(f"{value:.3f}" for value in recall.values()))
    if not as_json:
        console().print(table)
    rows = {
        "linear probe": f"top-1 {result['top1']:.3f}",
        "time": clock(result["seconds"]),
        "look at": f"{result['run']}: metrics.jsonl, tensorboard/, embeddings/, clusters.h5",
    }
    show(result, as_json=as_json, rows=rows)


def _say_stopped() -> None:
    same = "the same command" + ", without --overwrite," * ("--overwrite" in sys.argv)
    say(f"slic: stopped; {same} goes on from there")


def main() -> None:
    """Run the command line; errors are one line on stderr, and the exit code tells their kind."""
    stop_on_signals()
    try:
        code = app(standalone_mode=False)
        # Typer turns Ctrl-C into this code, silently.
        if code == INTERRUPTED:
            _say_stopped()
            code = exit_code_of_stop()
        sys.exit(code)
    except KeyboardInterrupt:
        _say_stopped()
        sys.exit(exit_code_of_stop())
    except TyperException as error:
        # Without arguments the help has been printed, and there is no message.
        if message := error.format_message():
            say(f"slic: {message}")
        sys.exit(error.exit_code)
    except SlicError as error:
        say(f"slic: {error}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read stdout (head, less) is gone: that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = Path(os.fsdecode(error.filename)) if error.filename else None
        say(f"slic: {failure(where, error)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
