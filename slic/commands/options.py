"""The command line's options that several commands share, and what their help says."""

from typing import Annotated, Literal

import typer

from slic.commands.completion import complete_device, complete_preset, complete_run, complete_store

Layout = Literal[
    "auto", "ucf101", "hmdb51", "kinetics", "classes", "images", "mmaction", "csv", "flat"
]
Codec = Literal["jpeg", "zstd"]
Engine = Literal["auto", "cuda", "cpu", "torch", "opencv", "imported"]
Feature = Literal["backbone", "projection"]

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="Folder, csv, list, or store.")]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Path of the store.",
        show_default="./<name>.zarr",
        autocompletion=complete_store,
    ),
]
LayoutOption = Annotated[Layout, typer.Option("--layout", help="How to read the folder.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes.", show_default="all cores")
]
Readers = Annotated[
    int | None,
    typer.Option("--workers", min=0, help="Reading processes.", show_default="by device"),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many videos, spread.", show_default="all"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do again what is there.")]
Retry = Annotated[bool, typer.Option("--retry", help="Try again what failed before.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        help="Run below runs/, or its path.",
        show_default="newest",
        autocompletion=complete_run,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="FILE", help="Weights from elsewhere.", show_default="a run's"
    ),
]
WeightsPreset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Clips for --weights.",
        show_default="ucf101-16f",
        autocompletion=complete_preset,
    ),
]
OtherStore = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Another store.",
        show_default="the run's",
        autocompletion=complete_store,
    ),
]
Split = Annotated[
    int | None, typer.Option("--split", help="Split: 1, 2, 3.", show_default="the run's")
]
Device = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:1.", autocompletion=complete_device),
]
FlowDevice = Annotated[
    str,
    typer.Option(
        "--device",
        help="auto, cpu, cuda (all GPUs), cuda:1, mps.",
        autocompletion=complete_device,
    ),
]
Clips = Annotated[
    int | None, typer.Option("--clips", help="Clips a video.", show_default="the run's")
]
