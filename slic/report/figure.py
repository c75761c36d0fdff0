"""The gallery as a static figure, for papers."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slic.datasets.listing import stem_of
from slic.errors import InputError, SlicError
from slic.page.thumbnails import Picture, Scene, fitted
from slic.runtime.disk import atomic_write
from slic.runtime.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".pdf", ".svg", ".png")
QUERIES = 8
TITLES = ("query", "nearest", "2", "3", "4", "5")
WIDTH, ROW, TOP = 6.875, 1.0, 0.2  # inches; two columns of a paper are 6.875 wide
PICTURE = (240, 180)  # pixels
FONT_POINTS, DOTS_PER_INCH = 7, 300
LONGEST = 60  # letters of a name at most, before it is measured
RIGHT, WRONG, PLAIN = "#1a7f37", "#c4261d", "#555555"
# Text stays text, and the same gallery gives the same file.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slic",
    "pdf.fonttype": 42,
    "text.usetex": False,
}
UNDATED: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def write_figure(path: Path, report: dict[str, Any], scenes: Sequence[Scene | None]) -> None:
    """Draw the first eight queries of the gallery, each with its nearest videos.

    A neighbour with the query's label has a green frame and a tick, another a red frame and a
    cross.

    Args:
        path: `.pdf`, `.svg` or `.png` file.
        report: report with the sections `gallery` and `videos`.
        scenes: scene of each video; its middle frame is drawn.

    Raises:
        InputError: there is no gallery.
        DiskError: the file system refuses.
    """
    views = (report["gallery"] or {"views": []})["views"][:1]
    rows = [row for view in views for group in view["groups"] for row in group["rows"]][:QUERIES]
    if not rows:
        raise InputError(f"{path}: there is no gallery to draw, because the report has no query")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        height = TOP + ROW * len(rows)
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)  # measures how wide a text is
        sides = {"left": 0.005, "right": 0.995, "bottom": TOP / height, "top": 1 - TOP / height}
        gaps = {"wspace": 0.06, "hspace": 0.25}
        grid = figure.subplots(len(rows), len(TITLES), squeeze=False, gridspec_kw=sides | gaps)
        for axes, title in zip(grid[0], TITLES, strict=True):
            axes.set_title(title, fontsize=FONT_POINTS, color=PLAIN)
        for line, row in zip(grid, rows, strict=True):
            pictures = [(row["query"], None)]
            pictures += [(other["video"], other["right"]) for other in row["neighbours"]]
            for axes, (video, right) in zip(line, pictures, strict=False):
                _draw(axes, scenes[video], _name(report["videos"], video), right)
            for axes in line[len(pictures) :]:
                axes.axis("off")
        with atomic_write(path) as file:
            suffix = path.suffix.lower()
            about = UNDATED.get(suffix)
            figure.savefig(file, format=suffix[1:], dpi=DOTS_PER_INCH, metadata=about)


def _draw(axes: "Axes", scene: Scene | None, name: str, right: bool | None) -> None:
    axes.set(xticks=[], yticks=[], xlim=(0, 4), ylim=(0, 3))
    picture = _picture(scene)
    if picture is None:
        axes.text(2, 1.5, "no picture", fontsize=FONT_POINTS, color=PLAIN, ha="center")
    else:
        axes.imshow(picture, extent=(0, 4, 0, 3), aspect="auto", interpolation="none")
    colour = PLAIN if right is None else RIGHT if right else WRONG
    for side in axes.spines.values():
        side.set(color=colour, linewidth=0.5 if right is None else 1.8)
    if right is not None:
        badge = {"boxstyle": "circle,pad=0.15", "color": colour}
        sign = "✓" if right else "✗"
        axes.text(3.72, 2.7, sign, fontsize=6, color="w", ha="center", va="center", bbox=badge)
    text = axes.set_xlabel(name, fontsize=FONT_POINTS, labelpad=2, parse_math=False)
    # Shortened until it is no wider than the picture.
    length = min(len(name), LONGEST)
    while text.get_window_extent().width > axes.get_window_extent().width and length > 1:
        length -= 1
        text.set_text(f"{name[:length].rstrip()}…")


def _picture(scene: Scene | None) -> Picture | None:
    if scene is None:
        return None
    try:
        return fitted(scene.middle()[0], *PICTURE)
    except SlicError:
        return None


def _name(videos: dict[str, Any], row: int) -> str:
    """Return the label of a video, or the name of its file, on one line."""
    return escape(videos["label"][row] or stem_of(videos["id"][row]))
