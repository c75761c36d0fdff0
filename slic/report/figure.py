"""The gallery as a static figure, for papers."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slic.datasets.listing import stem_of
from slic.errors import InputError, SlicError
from slic.page.thumbnails import Picture, Scene, fitted
from slic.runtime.disk import atomic_write
from slic.runtime.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SUFFIXES = (".pdf", ".svg", ".png")
NEIGHBOURS = 5
# In inches: a page's text is 6.875 wide where it has two columns.
WIDTH, GAP, AFTER_QUERY, TEXT, TOP = 6.875, 0.06, 0.16, 0.15, 0.2
PICTURE = (240, 180)  # pixels
FONT_POINTS, DOTS_AN_INCH = 7, 300
LONGEST = 60  # letters that are tried below a picture
RIGHT, WRONG, PLAIN = "#1a7f37", "#c4261d", "#555555"
TICK = [([3.6, 3.69, 3.85], [2.73, 2.63, 2.83])]
CROSS = [([3.62, 3.82], [2.62, 2.82]), ([3.62, 3.82], [2.82, 2.62])]
# Text stays text, and the same gallery gives the same file.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slic",
    "pdf.fonttype": 42,
    "text.usetex": False,
}
UNDATED: dict[str, dict[str, Any]] = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}


def write_figure(
    path: Path, report: dict[str, Any], scenes: Sequence[Scene | None], *, queries: int = 8
) -> None:
    """Draw queries with their nearest videos into a pdf, svg or png, by the path's suffix.

    The queries are the first of the gallery's first view. A neighbour of the query's label has a
    green frame and a tick, another a red one and a cross.

    Args:
        path: of the figure.
        report: with the sections `gallery` and `videos`.
        scenes: of `Videos.scenes()`, whose middle frames are drawn.
        queries: rows at most.

    Raises:
        InputError: another suffix, or no gallery.
        DiskError: the file system refuses.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: a figure is one of {', '.join(SUFFIXES)}")
    rows = _rows(report)[:queries]
    if not rows:
        raise InputError(f"{path}: there is no gallery to draw: the report shows no query")
    import matplotlib

    # The context gives back what it changes.
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        # A letter that the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        drawing = _drawn(rows, report["videos"], scenes)
        with atomic_write(path) as file:
            dateless = UNDATED.get(suffix)
            drawing.savefig(file, format=suffix[1:], dpi=DOTS_AN_INCH, metadata=dateless)


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    views = (report["gallery"] or {}).get("views", [])
    return [row for view in views[:1] for group in view["groups"] for row in group["rows"]]


def _drawn(
    rows: Sequence[dict[str, Any]], videos: dict[str, Any], scenes: Sequence[Scene | None]
) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    wide = (WIDTH - (NEIGHBOURS + 1) * GAP - AFTER_QUERY) / (NEIGHBOURS + 1)
    high = wide * PICTURE[1] / PICTURE[0]
    line = high + TEXT + GAP
    height = TOP + len(rows) * line
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)  # which can tell how wide a text is
    lefts = [GAP / 2 + i * (wide + GAP) + (AFTER_QUERY if i else 0) for i in range(NEIGHBOURS + 1)]
    for left, name in zip(lefts, ["query", "nearest", "2", "3", "4", "5"], strict=True):
        place = ((left + wide / 2) / WIDTH, 1 - TOP / 2 / height)
        figure.text(*place, name, fontsize=FONT_POINTS, color=PLAIN, ha="center", va="center")
    for number, row in enumerate(rows):
        bottom = height - TOP - number * line - high
        for left, (video, right) in zip(lefts, _pictures(row), strict=False):
            sides = (left / WIDTH, bottom / height, wide / WIDTH, high / height)
            axes = figure.add_axes(sides)
            _draw(axes, scenes[video], _name(videos, video), right)
    return figure


def _pictures(row: dict[str, Any]) -> Iterator[tuple[int, bool | None]]:
    """The query and its nearest, each with whether it is right."""
    yield row["query"], None
    for neighbour in row["neighbours"][:NEIGHBOURS]:
        yield neighbour["video"], neighbour["right"]


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
        _mark(axes, right, colour)
    text = axes.text(2, -0.12, name, fontsize=FONT_POINTS, ha="center", va="top", parse_math=False)
    _fit(text, axes)


def _mark(axes: "Axes", right: bool, colour: str) -> None:
    """A tick or a cross in the upper right corner, drawn so that no font need have it."""
    axes.plot([3.72], [2.72], "o", markersize=8, color=colour, markeredgewidth=0)
    strokes = TICK if right else CROSS
    for x, y in strokes:
        axes.plot(x, y, color="white", linewidth=1.2, solid_capstyle="round")


def _picture(scene: Scene | None) -> Picture | None:
    if scene is None:
        return None
    try:
        return fitted(scene.middle()[0], *PICTURE)
    except SlicError:
        return None


def _name(videos: dict[str, Any], row: int) -> str:
    """The label of a video, or else the end of its path, in one line."""
    return escape(videos["label"][row] or stem_of(videos["id"][row]))


def _fit(text: "Text", axes: "Axes") -> None:
    """Shorten a text until it is no wider than its picture."""
    whole = text.get_text()
    room = axes.get_window_extent().width
    length = min(len(whole), LONGEST)
    while text.get_window_extent().width > room and length > 1:
        length -= 1
        text.set_text(f"{whole[:length].rstrip()}…")
