"""`slic report`: write everything worth looking at in a run as one page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from slic.cache.clusterings import FILE as CLUSTERS
from slic.cache.clusterings import read_clusterings, read_names
from slic.errors import InputError
from slic.page import PAGES, check_target, write_page
from slic.report.figure import SUFFIXES, write_figure
from slic.report.inputs import read_inputs
from slic.report.sections import build
from slic.runs import Run

FILE = "report.html"
SAMPLE = 3000
# Sections that may be missing, in the order of the page.
SECTIONS = (
    "figures",
    "curves",
    "paper",
    "gallery",
    "classes",
    "clusters",
    "confusion",
    "map",
    "failed",
)


def report(
    run: Run,
    *,
    output: str | None = None,
    figure: str | None = None,
    store: str | None = None,
    split: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    names: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write a run's report as one HTML file, atomically.

    A section whose input is missing or damaged is left out, and a remark says why. Only a store
    or split that is named explicitly must be there.

    Args:
        run: the run; its latest checkpoint is shown.
        output: HTML file to write; `report.html` in the run's folder if None.
        figure: `.pdf`, `.svg` or `.png` file for a static figure of the gallery; None for none.
        store: store to show instead of the run's own.
        split: number of the split; the run's own if None.
        sample: largest number of videos on the map.
        seed: random seed of all samples and of the map.
        names: CSV file of names for the clusters, as saved by the page.
        device: device for embeddings that are not cached yet.
        workers: reader processes for such embeddings.
        say: called with each progress message.

    Returns:
        path, bytes, figure (path or None), run, store, videos (number shown), sections (their
        names) and remarks (what is missing, and why).

    Raises:
        InputError: an argument is unusable; its subclasses for the store, split or checkpoint.
        DiskError: the file system refuses; an existing report stays as it is.
    """
    path = check_target("--output", run.path / FILE if output is None else Path(output), PAGES)
    drawing = None if figure is None else check_target("--figure", Path(figure), SUFFIXES)
    named = _names(run, names)
    inputs = read_inputs(run, store=store, split=split, device=device, workers=workers, say=say)
    page = build(inputs, sample=sample, seed=seed, names=named, say=say)
    if drawing is not None:
        write_figure(drawing, page.report, page.scenes)
    return {
        "path": str(path),
        "bytes": write_page(path, page.report, page.images),
        "figure": None if drawing is None else str(drawing),
        "run": str(run.path),
        "store": str(inputs.store_path),
        "videos": len(page.scenes),
        "sections": [name for name in SECTIONS if page.report[name]],
        "remarks": page.report["remarks"],
    }


def _names(run: Run, names: str | None) -> dict[int, str]:
    """Read the names of the last clustering's clusters from a CSV file."""
    if names is None:
        return {}
    file = run.path / CLUSTERS
    clusterings = read_clusterings(file) if file.exists() else None
    if clusterings is None or not clusterings.named:
        raise InputError(f"--names {names}: {run.path} has no clusters to name")
    last, clusters = clusterings.last
    return read_names(Path(names), last, known=set(clusters.values()))
