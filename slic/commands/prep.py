"""The commands `slic prep frames`, `slic prep flow` and `slic prep info`."""

from typing import Annotated, Any

import typer

from slic.commands.completion import complete_store
from slic.commands.options import (
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
    arguments_of,
    option,
)
from slic.errors import InputError, WorkError
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted

prep_app = typer.Typer(
    help="Decode videos and compute optical flow into a clip store.", no_args_is_help=True
)
Scheduler = Annotated[
    str | None,
    option(
        "--scheduler",
        "Run on the workers of the Dask scheduler at this address, such as tcp://host:8786.",
        "this machine",
        metavar="ADDRESS",
    ),
]
ShortSide = Annotated[
    int | None,
    option(
        "--short-side",
        "Short side of stored frames in pixels; smaller videos are not enlarged.",
        "128",
        min=8,
    ),
]
FrameCodec = Annotated[
    Codec,
    option("--codec", "Compression of stored frames: jpeg (quality 90, small) or zstd (lossless)."),
]
Fps = Annotated[
    float | None, option("--fps", "Frame rate of videos that are folders of images.", "unknown")
]
FlowEngine = Annotated[
    Engine,
    option(
        "--engine",
        "Engine that computes the flow; auto: cuda with a GPU, else cpu; imported: read the data"
        " set's flow images.",
    ),
]
Parameters = Annotated[
    list[str] | None,
    option(
        "--param",
        "Change a TV-L1 parameter, named as in OpenCV; may be repeated.",
        metavar="NAME=VALUE",
    ),
]
Bound = Annotated[
    float | None,
    option(
        "--bound",
        "Largest flow that can be stored, in pixels; for flow images, the flow at level 255.",
        "short side / 12",
    ),
]
Check = Annotated[
    int | None,
    option(
        "--check",
        "Compute nothing; compare the stored flow of N random frame pairs with OpenCV's.",
        metavar="N",
    ),
]
Seed = Annotated[int, option("--seed", "Random seed for the choice of pairs with --check.")]
CHECK_ROWS = (
    ("error_px", "end-point error", "{:.4f} px"),
    ("worst_px", "  worst pair", "{:.4f} px"),
    ("equal", "equal levels", "{:.2%}"),
    ("within_1", "within 1 level", "{:.2%}"),
    ("worst_within_1", "  worst pair", "{:.2%}"),
)


@prep_app.command("frames")
def prep_frames_command(
    context: typer.Context,
    dataset: Dataset,
    store: StoreOption = None,
    layout: LayoutOption = "auto",
    short_side: ShortSide = 128,
    codec: FrameCodec = "jpeg",
    fps: Fps = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    retry: Retry = False,
    as_json: Json = False,
) -> None:
    """Decode every video once and store its frames."""
    from slic.prep.frames import prep_frames

    _show_result(prep_frames(**arguments_of(context)), as_json=as_json, unit="frames")


@prep_app.command("flow")
def prep_flow_command(
    context: typer.Context,
    dataset: Dataset,
    store: StoreOption = None,
    layout: LayoutOption = "auto",
    engine: FlowEngine = "auto",
    device: FlowDevice = "auto",
    param: Parameters = None,
    bound: Bound = None,
    short_side: ShortSide = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    limit: Limit = None,
    overwrite: Overwrite = False,
    retry: Retry = False,
    check: Check = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compute TV-L1 optical flow of the stored frames; store missing frames first."""
    arguments = arguments_of(context, "param", "check", "seed")
    if check is None:
        _refuse(context, ["seed"], "applies only with --check")
        from slic.prep.flow import prep_flow
        from slic.prep.tvl1.parameters import parse_parameters

        result = prep_flow(**arguments, parameters=parse_parameters(param or []))
        _show_result(result, as_json=as_json, unit="pairs")
        return
    used = ("dataset", "store", "layout", "workers")
    _refuse(context, [*(arguments.keys() - used), "param"], "does not apply with --check")
    from slic.prep.check import check_flow

    chosen = {name: arguments[name] for name in used}
    _show_check(check_flow(**chosen, pairs=check, seed=seed), as_json=as_json)


def _refuse(context: typer.Context, names: list[str], reason: str) -> None:
    """Raise an InputError if one of these options was given on the command line."""
    for name in sorted(names):
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InputError(f"--{name.replace('_', '-')} {reason}: omit it")


def _show_result(result: Any, *, as_json: bool, unit: str) -> None:
    for note in result.notes:
        say(note)
    for video, reason in result.failures:
        say(f"failed: {video}: {reason}")
    for video, reason in result.damaged:
        say(f"damaged: {video}: {reason}")
    rows = {
        "store": result.store,
        "videos": f"{result.written} stored, {result.skipped} already there,"
        f" {result.failed} failed" + f", {len(result.damaged)} damaged" * bool(result.damaged),
        "time": f"{format_duration(result.seconds)} for {result.frames} {unit}",
    }
    show(result.json(), as_json=as_json, rows=rows)
    if result.new_failures:
        raise typer.Exit(1)


def _show_check(result: Any, *, as_json: bool) -> None:
    reasons = {pair.id: pair.reason for pair in result.damaged}
    for video, reason in reasons.items():
        number = sum(pair.id == video for pair in result.damaged)
        say(f"not compared: {counted(number, 'pair')} of {video}: {reason}")
    if result.left_out:
        videos = counted(result.left_out, "video")
        say(f"skipped: {videos} with a side of 1 pixel, which OpenCV cannot compute")
    figures = result.json()
    rows = {
        "store": figures["store"],
        "pairs": f"{figures['pairs']} of {figures['of_pairs']} compared, from"
        f" {counted(figures['videos'], 'video')}, in {format_duration(figures['seconds'])}",
        "against": f"{figures['against']}, clipped at the bound",
    }
    if figures["pairs"]:
        table = new_table("", "stored flow", "OpenCV's flow, stored the same way")
        for key, name, form in CHECK_ROWS:
            table.add_row(name, form.format(figures[key]), form.format(figures["storing"][key]))
        if not as_json:
            console().print(table)
        rows["computed by"] = f"engine {figures['engine']}"
        rows["deviation"] = f"{figures['deviation']:.2f} (below 1 for correct flow)"
        rows["worst pair"] = f"{figures['worst']['id']}, pair {figures['worst']['pair']}"
    show(figures, as_json=as_json, rows=rows)
    if result.problem:
        raise WorkError(result.problem)
    if result.damaged:
        raise typer.Exit(1)


@prep_app.command("info")
def prep_info_command(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE", help="Path of the clip store.", autocompletion=complete_store
        ),
    ],
    as_json: Json = False,
) -> None:
    """Summarise the contents of a clip store."""
    from slic.prep.info import store_info

    info = store_info(store)
    rows = {key: info[key] for key in ("store", "videos", "frames", "flow", "labels")}
    rows["flow"] = f"of {counted(info['flow'], 'video')}"
    for number, words in info["splits"].items():
        rows[f"split {number}"] = ", ".join(f"{count} {word}" for word, count in words.items())
    for kind in ("failed", "damaged"):
        rows[kind] = len(info[kind])
        if not as_json:
            for video in info[kind]:
                say(f"{kind}: {video['id']}: {video['reason']}")
    if info["outdated"]:
        outdated = counted(len(info["outdated"]), "video")
        rows["outdated"] = f"{outdated} stored with other parameters; run prep again"
    show(info, as_json=as_json, rows={**rows, "bytes": f"{info['bytes']:,}"})
