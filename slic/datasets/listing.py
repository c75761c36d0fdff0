"""The contents of a data set: videos and lists below a folder, rows of a csv."""

import csv
import difflib
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slic.datasets.images import image_prefix
from slic.errors import DatasetError
from slic.runtime.regular_files import LARGE, read_regular
from slic.runtime.text import counted, escape, is_one_line, is_utf8

_SUFFIXES: Final = "avi mp4 mkv mov webm mpg mpeg m4v wmv flv 3gp ts ogv"
VIDEO_SUFFIXES: Final = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
LIST_NAME: Final = re.compile(r"(?:(train|test)list0?([1-3])|classind)\.txt", re.IGNORECASE)
LONGEST_NAME: Final = 4096  # characters: Linux allows no longer path
HMDB51_LIST_NAME: Final = re.compile(r"(.+)_test_split([1-3])\.txt", re.IGNORECASE)

_WINDOWS_ABSOLUTE: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")

CSV_COLUMNS: Final = ("path", "label", "split", "group")
# Names of these columns in other tables, for the hint in an error.
_COLUMN_HINTS: Final = {
    **dict.fromkeys(("file", "filename", "video", "name", "id"), "path"),
    **dict.fromkeys(("class", "category", "action", "target"), "label"),
    **dict.fromkeys(("subset", "set", "fold", "part"), "split"),
}


@dataclass(frozen=True)
class Listing:
    """The contents of a folder and its subfolders, as sorted relative posix paths.

    Attributes:
        videos: video files.
        lists: list files of UCF101.
        hmdb51_lists: list files of HMDB51.
        tables: files with suffix `.csv`.
        pictures: folders with numbered images and no video, and the prefixes of the images; "" is
            the folder itself.
        notes: remarks for the user.
    """

    videos: tuple[str, ...]
    lists: tuple[str, ...]
    hmdb51_lists: tuple[str, ...]
    tables: tuple[str, ...]
    pictures: dict[str, set[str]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of a csv; empty cells are None, and `split` is in lower case."""

    line: int
    path: str
    label: str | None
    split: str | None
    group: str | None


def stem_of(path: str) -> str:
    """Return the file name of a path without the suffix of a video."""
    name = path.rpartition("/")[2]
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in VIDEO_SUFFIXES else name


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Raises:
        DatasetError: the file cannot be read or is not UTF-8.
    """
    try:
        return read_regular(file, limit=LARGE).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"byte {error.start}"
        raise DatasetError(f"{escape(file)}: not UTF-8 ({where}); save it as UTF-8") from None
    except OSError as error:
        raise DatasetError(f"{escape(file)}: cannot be read: {error.strerror}") from None


# --- folders ---------------------------------------------------------------------------------


def list_folder(root: Path) -> Listing:
    """List all videos, and folders of numbered images, in a folder and its subfolders.

    Names that begin with a dot and files without a video suffix are ignored. Links to folders are
    not followed. Links to files are, wherever they lead, and the video has the link's path.

    Raises:
        DatasetError: a folder cannot be read, there is no video or image, or the name of a video
            or of a folder of images contains NUL or a line break.
    """
    found: dict[str, list[str]] = {"video": [], "list": [], "hmdb51 list": [], "table": []}
    pictures: dict[str, set[str]] = defaultdict(set)
    ignored = {"folder link": 0, "broken link": 0, "name that is not UTF-8": 0}
    for path, entry in _scan(root):
        kind = _kind(entry)
        if kind == "folder link":
            ignored[kind] += 1
        elif kind == "image":
            pictures[path.rpartition("/")[0]].add(image_prefix(entry.name) or "")
        elif kind is not None and not is_utf8(path):
            ignored["name that is not UTF-8"] += kind in ("video", "broken link")
        elif kind == "broken link":
            ignored[kind] += 1
        elif kind is not None:
            if kind == "video":
                _check_one_line(root, path)
            found[kind].append(path)
    notes = _ignored_notes(ignored)
    for path in found["video"]:
        pictures.pop(path.rpartition("/")[0], None)  # thumbnails
    for folder in pictures:
        _check_one_line(root, folder or "images")
    if not found["video"] and not pictures:
        _refuse_without_video(root, notes)
    videos, lists, hmdb51_lists, tables = (tuple(sorted(paths)) for paths in found.values())
    named = {folder: pictures[folder] for folder in sorted(pictures) if is_utf8(folder)}
    return Listing(videos, lists, hmdb51_lists, tables, named, notes)


def _scan(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield relative path and entry of every file and link below `root` that is not hidden."""
    folders = [""]
    while folders:
        prefix = folders.pop()
        try:
            with os.scandir(os.path.join(root, prefix)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{prefix}{entry.name}/")
                    else:
                        yield prefix + entry.name, entry
        except OSError as error:
            folder = escape(os.path.join(root, prefix))
            raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Return the kind of an entry, a key of `found` or `ignored` in `list_folder`, or `image`."""
    linked = entry.is_symlink()
    try:
        # The scan has told the type, so only links cost a stat.
        is_file = entry.is_file()
        if linked and not is_file and entry.is_dir():
            return "folder link"
    except OSError:  # a link to itself
        is_file = False
    if os.path.splitext(entry.name)[1].lower() in VIDEO_SUFFIXES:
        return "video" if is_file else ("broken link" if linked else None)
    if is_file and image_prefix(entry.name) is not None:
        return "image"
    return _list_kind(entry.name) if is_file else None


def _list_kind(name: str) -> str | None:
    if name.lower().endswith(".csv"):
        return "table"
    if LIST_NAME.fullmatch(name):
        return "list"
    return "hmdb51 list" if HMDB51_LIST_NAME.fullmatch(name) else None


def _check_one_line(root: Path, path: str) -> None:
    if not is_one_line(path):
        raise DatasetError(
            f"{escape(root)}: the name {path!a} contains a line break; rename that file or folder"
        )


def _ignored_notes(ignored: dict[str, int]) -> tuple[str, ...]:
    links, broken, foreign = ignored.values()
    notes = []
    if links:
        notes.append(f"{counted(links, 'link')} to folders not followed")
    if broken:
        notes.append(f"{counted(broken, 'link')} to missing videos ignored")
    if foreign:
        notes.append(f"{counted(foreign, 'video')} ignored: file names that are not UTF-8")
    return tuple(notes)


def _refuse_without_video(root: Path, notes: tuple[str, ...]) -> None:
    if not any(root.iterdir()):
        raise DatasetError(f"{escape(root)}: the folder is empty")
    known = " ".join(sorted(VIDEO_SUFFIXES))
    remarks = f" ({'; '.join(notes)})" if notes else ""
    raise DatasetError(f"{escape(root)}: no video in this folder{remarks}; known suffixes: {known}")


# --- csv -------------------------------------------------------------------------------------


def csv_lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of the header, and of each row that is not blank.

    Raises:
        DatasetError: not UTF-8, not a csv, or a row is not as long as the header.
    """
    reader = csv.reader(
        io.StringIO(read_text(file), newline=""), strict=True, skipinitialspace=True
    )
    try:
        header = next(reader, [])
        yield reader.line_num, header
        for cells in filter(any, reader):
            if len(cells) != len(header):
                raise DatasetError(
                    f"{escape(file)} line {reader.line_num}: {counted(len(cells), 'cell')} under a"
                    f" header with {len(header)}; quote cells that contain a comma"
                )
            yield reader.line_num, cells
    except csv.Error as error:
        raise DatasetError(f"{escape(file)} line {reader.line_num}: not a csv: {error}") from None


def read_csv(file: Path) -> list[Row]:
    """Read a csv with the column `path` and optionally `label`, `split`, `group`, in any order.

    Args:
        file: the csv, UTF-8 with or without byte order mark, with any line ends.

    Returns:
        The rows, without blank lines. Paths are normalised (`./a//b.mp4` becomes `a/b.mp4`); the
        files need not exist.

    Raises:
        DatasetError: not UTF-8 or not a csv, wrong columns, a row of another length, a path that
            is empty, absolute or contains `..`, a path listed twice, a line break in a cell.
    """
    lines = csv_lines(file)
    columns = _columns(file, next(lines)[1])
    rows: dict[str, Row] = {}
    for number, cells in lines:
        row = _row(f"{escape(file)} line {number}", columns, cells, number)
        first = rows.setdefault(row.path, row)
        if first is not row:
            raise DatasetError(
                f"{escape(file)} line {row.line}: {escape(row.path)} is already listed on "
                f"line {first.line}; remove one of them"
            )
    if not rows:
        raise DatasetError(f"{escape(file)}: no video is listed below the header")
    return list(rows.values())


def _columns(file: Path, header: list[str]) -> list[str]:
    columns = [cell.strip().lower() for cell in header]
    unknown = [c for c in columns if c not in CSV_COLUMNS]
    if "path" in columns and not unknown and len(set(columns)) == len(columns):
        return columns
    few = unknown[: len(CSV_COLUMNS)]
    hints = [f"{escape(c[:40])!r} may be {near!r}" for c in few if (near := _nearest(c[:40]))]
    named = [escape(c[:40]) for c in columns[: 2 * len(CSV_COLUMNS)]]
    more = len(columns) - len(named)
    found = (",".join(named) or "none") + (f" and {more} more" if more else "")
    raise DatasetError(
        f"{escape(file)}: columns are {found}; expected: path, and optionally label, split, "
        f"group, each once{''.join(f'; {hint}' for hint in hints)}"
    )


def _nearest(column: str) -> str | None:
    near = difflib.get_close_matches(column, CSV_COLUMNS, n=1)
    return near[0] if near else _COLUMN_HINTS.get(column)


def _row(where: str, columns: list[str], cells: list[str], line: int) -> Row:
    if not all(is_one_line(cell) for cell in cells if cell):
        raise DatasetError(f"{where}: a cell contains NUL or a line break; remove it")
    values = dict(zip(columns, cells, strict=True))
    path = inner_path(where, values.pop("path"), of="the csv's folder")
    rest = {name: value.strip() or None for name, value in values.items()}
    word = rest.get("split")
    return Row(line, path, rest.get("label"), word and word.lower(), rest.get("group"))


def inner_path(where: str, text: str, *, of: str) -> str:
    """Normalise a listed path; raise a DatasetError if it is empty or leads out of `of`."""
    steps = [step for step in text.split("/") if step not in ("", ".")]
    if not steps:
        raise DatasetError(f"{where}: the path is empty; name a video")
    if text.startswith("/") or _WINDOWS_ABSOLUTE.match(text) or ".." in steps:
        raise DatasetError(
            f"{where}: {escape(text)} is outside the data set; give paths relative to {of},"
            " without '..'"
        )
    return "/".join(steps)


class Inside:
    """Resolve paths below a root and refuse those that leave it; each folder is resolved once.

    Args:
        root: the folder.
        of: what to call the root in messages.
    """

    def __init__(self, root: Path, *, of: str) -> None:
        self.of = of
        self._root = os.path.realpath(root)
        self._folders: dict[str, str] = {}

    def target(self, where: str, path: str) -> str:
        """Return the target of a relative path, whether or not it exists.

        Raises:
            DatasetError: a link leads outside of the root.
        """
        folder, _, name = path.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(os.path.join(self._root, folder))
        target = os.path.join(self._folders[folder], name)
        if os.path.islink(target):
            target = os.path.realpath(target)
        if not target.startswith(os.path.join(self._root, "")):
            raise DatasetError(
                f"{where}: {escape(path)} is a link that leads out of {self.of}; move the list or"
                " the video"
            )
        return target


def find_rows(file: Path, rows: list[Row]) -> list[Row]:
    """Return the rows whose video is a regular file in the csv's folder.

    Raises:
        DatasetError: a link leads outside of the csv's folder.
    """
    inside = Inside(file.parent, of="the csv's folder")
    where = escape(file)
    return [
        row for row in rows if os.path.isfile(inside.target(f"{where} line {row.line}", row.path))
    ]
