"""`slic prep`: its options, and what it prints."""

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
)
from slic.errors import InputError, WorkError
from slic.runtime.console import console, new_table, say, show
from slic.runtime.progress import format_duration

prep_app = typer.Typer(
    help="Decode video and compute flow into a clip store.", no_args_is_help=True
)
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler, such as tcp://host:8786, whose workers do it.",
        show_default="this machine",
    ),
]
CHECKED = (
    ("error_px", "end-point error", "{:.4f} px"),
    ("worst_px", "  worst pair", "{:.4f} px"),
    ("equal", "equal levels", "{:.2%}"),
    ("within_1", "within 1 level", "{:.2%}"),
    ("worst_within_1", "  worst pair", "{:.2%}"),
)


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
    scheduler: Scheduler = None,
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
        scheduler=scheduler,
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
    scheduler: Scheduler = None,
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
        scheduler=scheduler,
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
        unit: f"{result.frames} in {format_duration(result.seconds)}",
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
        f" in {format_duration(figures['seconds'])}",
        "against": f"{figures['against']}; flow beyond the bound counts as the bound",
    }
    if figures["pairs"]:
        worst, stored, storing = figures["worst"], figures, figures["storing"]
        table = new_table("", "stored flow", "OpenCV's, stored alike")
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
    store: Annotated[
        str,
        typer.Argument(metavar="STORE", help="A clip store.", autocompletion=complete_store),
    ],
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
