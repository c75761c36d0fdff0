"""Layout csv: a table `path,label,split,group`; only `path` is required."""

from pathlib import Path

from slic.datasets.layouts.video import Dataset, Video, hold_out, hold_out_noted
from slic.datasets.listing import Row, find_rows, read_csv
from slic.datasets.splits import PART_WORDS, part_of_word, val_note
from slic.errors import DatasetError
from slic.runtime.text import counted, escape


def read_table(file: Path) -> Dataset:
    """Read the videos of a csv that are on disk.

    Raises:
        DatasetError: the csv is malformed, a link leads outside, or no video is on disk.
    """
    rows = read_csv(file)
    _check_words(file, rows)
    present = find_rows(file, rows)
    if not present:
        raise DatasetError(
            f"{escape(file)}: none of the {len(rows)} listed videos is on disk, such as "
            f"{escape(file.parent / rows[0].path)}; paths are relative to the csv's folder"
        )
    notes = []
    if missing := len(rows) - len(present):
        gone = min({row.path for row in rows} - {row.path for row in present})
        verb = "is" if missing == 1 else "are"
        notes.append(
            f"{counted(missing, 'listed video')} {verb} not on disk, such as {escape(gone)}"
        )
    videos, remarks = _csv_videos(present, {row.split for row in rows})
    videos.sort(key=lambda video: video.id)
    return Dataset(file.parent, file.stem, "csv", tuple(videos), (*notes, *remarks))


def _csv_videos(rows: list[Row], words: set[str | None]) -> tuple[list[Video], list[str]]:
    """Return the videos of the rows on disk, given the split words of all rows."""
    videos = [
        Video(r.path, r.path, r.label, r.group, {1: part_of_word(r.split, words=words)})
        for r in rows
    ]
    if words != {None}:
        return videos, [*val_note(words)]
    if any(video.label is not None for video in videos):
        return hold_out_noted(videos)
    return hold_out(videos), []


def _check_words(file: Path, rows: list[Row]) -> None:
    for row in rows:
        if row.split is not None and row.split not in PART_WORDS:
            raise DatasetError(
                f"{escape(file)} line {row.line}: split {escape(row.split[:80])!r} is unknown;"
                " use train, val, test, unused or leave it empty"
            )
