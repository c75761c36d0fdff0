"""Layout kinetics (-400, -600, -700): videos named by YouTube id, and csv files with the rest.

The files are `<id>_<start:06d>_<end:06d>.mp4` or `<id>.mp4`, in any folders. The csv files, in any
of these, have columns `label,youtube_id,time_start,time_end,split`; the label is missing if it is
secret.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from slic.datasets.layouts.video import Video, missing_note
from slic.datasets.listing import Listing, csv_lines, stem_of
from slic.datasets.splits import FOLDER_WORDS, part_of_word, val_note
from slic.errors import DatasetError
from slic.runtime.regular_files import open_regular
from slic.runtime.text import counted, escape, is_one_line

_COLUMNS: Final = ("youtube_id", "time_start", "time_end", "split")
_WORDS: Final = {word: word for word in ("train", "val", "test")} | dict.fromkeys(
    ("validate", "validation"), "val"
)


class _Row(NamedTuple):
    """A clip: id of its video, label if known, and word of its split."""

    id: str
    label: str | None
    word: str


@dataclass
class _Table:
    """The rows of all csv files.

    Attributes:
        rows: the rows by file name without suffix; None if rows contradict each other.
        ids: YouTube id -> names of its clips.
    """

    rows: dict[str, _Row | None] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)

    def name(self, stem: str) -> str | None:
        """Return the name of the clip in a file; None if it is none, or could be several."""
        if stem in self.rows:
            return stem
        names = self.ids.get(stem, ())
        return names[0] if len(names) == 1 else None


def is_kinetics_table(file: Path) -> bool:
    """Return whether the header of a csv has YouTube ids."""
    try:
        with open(open_regular(file), "rb") as opened:
            header = opened.readline(1 << 12)
    except OSError:
        return False
    return "youtube_id" in _header(header.decode("utf-8-sig", errors="replace").split(","))


def read_kinetics(
    root: Path, listing: Listing, *, tables: list[Path]
) -> tuple[list[Video], list[str]]:
    """Return the videos of a listing with labels and splits from csv files, and remarks.

    A video that is in no csv gets its split from a folder such as val/, if no csv has that split,
    and its class from its folder, if a csv has that class.

    Raises:
        DatasetError: there is no csv, it is malformed, or none of its videos is on disk.
    """
    if not tables:
        raise DatasetError(
            f"{escape(root)}: no csv with columns label,youtube_id,time_start,time_end,split in"
            " this folder; put it there or pass --layout classes"
        )
    table = _Table()
    for file in tables:
        _read_table(file, table)
    if not table.rows:
        raise DatasetError(f"{escape(tables[0])}: no video is listed below the header")
    names = {path: table.name(stem_of(path)) for path in listing.videos}
    present = {name for name in names.values() if name is not None}
    if not present:
        first = escape(next(iter(table.rows)))
        raise DatasetError(
            f"{escape(tables[0])}: none of the {len(table.rows)} listed videos is among the"
            f" {len(names)} on disk, such as {first}.mp4; remove the csv or pass --layout classes"
        )
    videos, notes = _videos(names, table)
    return videos, [*missing_note(len(table.rows) - len(present)), *notes]


def _videos(names: dict[str, str | None], table: _Table) -> tuple[list[Video], list[str]]:
    classes = {_class_key(row.label): row.label for row in table.rows.values() if row and row.label}
    listed = {row.word for row in table.rows.values() if row}
    found: dict[str, _Row | None] = {}
    for path, name in names.items():
        found[path] = table.rows[name] if name else _row_of_folders(path, classes, listed)
    # A test split without labels cannot be used for testing.
    words = {row.word for row in found.values() if row and (row.label or row.word != "test")}
    videos = []
    for path, row in found.items():
        label, word = (row.label, row.word) if row else (None, None)
        part = part_of_word(word, words=words) if word in words else "unused"
        group = row.id if row and len(table.ids.get(row.id, ())) > 1 else None
        videos.append(Video(path, path, label, group, {1: part}))
    return videos, _notes(names, found, table, words)


def _row_of_folders(path: str, classes: dict[str, str], listed: set[str]) -> _Row | None:
    folders = PurePosixPath(path).parts[:-1]
    words = [_WORDS[f.lower()] for f in folders if f.lower() in FOLDER_WORDS]
    if not words or words[0] in listed:
        return None
    return _Row(stem_of(path), classes.get(_class_key(folders[-1])), words[0])


def _class_key(label: str | None) -> str:
    return (label or "").lower().replace("_", " ")


def _notes(
    names: dict[str, str | None],
    found: dict[str, _Row | None],
    table: _Table,
    words: set[str],
) -> list[str]:
    reasons = Counter(
        "in no csv" if name is None else "listed with different labels or splits"
        for path, name in names.items()
        if found[path] is None
    )
    notes = [f"{counted(n, 'video')} {reason}: unused" for reason, n in sorted(reasons.items())]
    secret = sum(row is not None and row.word not in words for row in found.values())
    if secret:
        notes.append(f"{counted(secret, 'test video')} without label: unused")
    return [*notes, *val_note(words)]


# --- csv -------------------------------------------------------------------------------------


def _header(cells: list[str]) -> list[str]:
    return [cell.strip().strip('"').lower() for cell in cells]


def _read_table(file: Path, table: _Table) -> None:
    """Add the rows of a csv to a table."""
    lines = csv_lines(file)
    columns = _header(next(lines)[1])
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise DatasetError(
            f"{escape(file)}: no column {missing[0]}; expected: label,{','.join(_COLUMNS)}"
        )
    places = [columns.index(name) for name in _COLUMNS]
    label = columns.index("label") if "label" in columns else None
    for number, cells in lines:
        values = [cells[place].strip() for place in places]
        name = None if label is None else cells[label].strip() or None
        _add(table, f"{escape(file)} line {number}", values, name)


def _add(table: _Table, where: str, values: list[str], label: str | None) -> None:
    video, start, end, split = values
    word = _WORDS.get(split.lower())
    if word is None:
        raise DatasetError(
            f"{where}: split {escape(split[:80])!r} is unknown; use train, val, validate or test"
        )
    if not video or not is_one_line(video) or (label and not is_one_line(label)):
        raise DatasetError(f"{where}: the id is empty, or a cell contains NUL or a line break")
    name = f"{video}_{_seconds(where, start):06d}_{_seconds(where, end):06d}"
    row = _Row(video, label, word)
    if name not in table.rows:
        table.rows[name] = row
        table.ids.setdefault(video, []).append(name)
    elif (first := table.rows[name]) is not None and first != row:
        # One csv may have the labels that another with the same rows lacks.
        labels = {row.label, first.label} - {None}
        same = row.word == first.word and len(labels) == 1
        table.rows[name] = row._replace(label=labels.pop()) if same else None


def _seconds(where: str, text: str) -> int:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        raise DatasetError(
            f"{where}: time {escape(text[:80])!r} is not a number of seconds"
        ) from None
