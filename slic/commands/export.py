"""`slic cache export`: options and output."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.filesize import decimal as format_bytes

from slic.commands.completion import complete_cache
from slic.commands.options import Device, Json, OtherStore, Readers, RunOption, arguments_of, option
from slic.errors import InputError
from slic.runtime.console import say, show
from slic.runtime.progress import format_duration
from slic.runtime.text import counted


def cache_export_command(
    context: typer.Context,
    cache: Annotated[
        str | None,
        typer.Argument(
            metavar="CACHE.h5",
            help="Embedding cache to export.",
            show_default="a run's",
            autocompletion=complete_cache,
        ),
    ] = None,
    run: RunOption = None,
    store: OtherStore = None,
    output: Annotated[
        str | None,
        option(
            "--output",
            "File to write; the suffix determines the format.",
            "./<run>-<store>.parquet",
            metavar="FILE",
        ),
    ] = None,
    format: Annotated[
        Literal["parquet", "csv", "npz"] | None,
        option("--format", "File format if --output is not given.", "parquet"),
    ] = None,
    feature: Annotated[
        Literal["backbone", "projection", "both"], option("--feature", "Embeddings to export.")
    ] = "both",
    names: Annotated[
        str | None,
        option(
            "--names",
            "CSV file of cluster names, as saved from the report page.",
            False,
            metavar="FILE",
        ),
    ] = None,
    overwrite: Annotated[bool, option("--overwrite", "Overwrite an existing file.")] = False,
    device: Device = "auto",
    workers: Readers = None,
    as_json: Json = False,
) -> None:
    """Write embeddings, clusters and labels as parquet, csv or npz, with one row per video."""
    from slic.runs import find_run
    from slic.upkeep.export import export

    if cache is not None and (run is not None or store is not None):
        given = "--run" if run is not None else "--store"
        raise InputError(f"{given} has no effect when a cache file is exported: omit one of them")
    source = find_run(run) if cache is None else Path(cache)
    result = export(source, **arguments_of(context, "cache", "run"), say=say)
    rows = {"written": result["path"], "run": result["run"] or "unknown"}
    rows |= {key: result[key] for key in ("store", "checkpoint", "protocol")}
    rows["rows"] = f"{result['rows']:,}, of {counted(result['videos'], 'video')}"
    if result["clustering"]:
        rows["clusters"] = f"of {result['clustering']}, for {result['clustered']:,} rows"
    rows["columns"] = ", ".join(result["columns"])
    rows["size"] = f"{format_bytes(result['bytes'])} in {format_duration(result['seconds'])}"
    show(result, as_json=as_json, rows=rows)
