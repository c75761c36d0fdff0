"""`slic report`: everything worth looking at of a run, as one page."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slic.cache.clusterings import FILE as CLUSTERS
from slic.cache.clusterings import read_clusterings
from slic.cache.names import read_names
from slic.errors import InputError
from slic.page import PAGES, write_page
from slic.report.figure import SUFFIXES, write_figure
from slic.report.material import gather
from slic.report.sections import Built, build
from slic.runs import Run
from slic.runtime.disk import check_writable

FILE = "report.html"
SAMPLE = 3000
# Those that may be missing, in the order of the page.
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
    say: Callable[[str], None] = print,
    **how: Any,
) -> dict[str, Any]:
    """Write a run's report as one HTML file, whole or not at all.

    Args:
        run: whose latest checkpoint, and what it has recorded.
        output: the file; `report.html` in the run's folder if None.
        figure: also the gallery as a static figure, a `.pdf`, `.svg` or `.png`.
        say: takes lines meant for the user.
        how: as for `build_report`.

    Returns:
        path, bytes, figure (path or None), run, store, videos (shown), sections (their names),
        remarks (what is missing, and why).

    Raises:
        InputError and its kinds: unusable input.
        DiskError: the file system refuses; what was there before stays.
    """
    path = _checked("--output", run.path / FILE if output is None else Path(output), PAGES)
    drawing = None if figure is None else _checked("--figure", Path(figure), SUFFIXES)
    built, store = _built(run, say=say, **how)
    if drawing is not None:
        write_figure(drawing, built.report, built.scenes)
    return {
        "path": str(path),
        "bytes": write_page(path, built.report, built.images),
        "figure": None if drawing is None else str(drawing),
        "run": str(run.path),
        "store": str(store),
        "videos": len(built.scenes),
        "sections": [name for name in SECTIONS if built.report[name]],
        "remarks": built.report["remarks"],
    }


def build_report(
    run: Run,
    *,
    store: str | None = None,
    split: int | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    names: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The sections of a run's report, which docs/report.md lists, and its images by name.

    What is missing or damaged is left out with a remark, but for what is asked for by name.

    Args:
        run: whose latest checkpoint, and what it has recorded.
        store: another store than the run's.
        split: number; the run's if None.
        sample: videos of the map at most.
        seed: of all that is drawn.
        names: csv of clusters' names, as the page saves them.
        device, workers: for embeddings that are not cached yet.
        say: takes lines meant for the user.

    Raises:
        InputError and its kinds: unusable input, such as a split that the store does not have.
    """
    how: dict[str, Any] = {"store": store, "split": split, "device": device, "workers": workers}
    built, _ = _built(run, sample=sample, seed=seed, names=names, say=say, **how)
    return built.report, built.images


def _built(
    run: Run,
    *,
    sample: int = SAMPLE,
    seed: int = 0,
    names: str | None = None,
    say: Callable[[str], None],
    **how: Any,
) -> tuple[Built, Path]:
    named = _named(run, names)  # before hours of embedding, maybe
    material = gather(run, say=say, **how)
    return build(material, sample=sample, seed=seed, names=named, say=say), material.path


def _named(run: Run, names: str | None) -> dict[int, str]:
    """Names of clusters of the last clustering, from a csv."""
    if names is None:
        return {}
    file = run.path / CLUSTERS
    found = read_clusterings(file).named if file.exists() else {}
    if not found:
        raise InputError(f"--names {names}: {run.path} has no clusters to name")
    *_, (last, clusters) = found.items()
    return read_names(Path(names), last, known=set(clusters.tolist()))


def _checked(option: str, path: Path, suffixes: Sequence[str]) -> Path:
    """A path to write to, refused before anything is computed for it."""
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; name a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{option} {path}: is a device or a pipe; name a file")
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: end its name in one of {', '.join(suffixes)}")
    check_writable(path.parent)
    return path
