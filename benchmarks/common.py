"""Helpers of the benchmark scripts: clips, facts about the machine, tables and JSON."""

import json
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import cv2
import numpy as np

Row = dict[str, Any]


class Column(NamedTuple):
    """One column of a table: heading, key in a row, and format of a value."""

    heading: str
    key: str
    form: str = ""


def machine(**facts: Any) -> Row:
    """Return the processor, a script's own facts, and versions of packages."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    return {
        "machine": model,
        **facts,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
    }


def show(rows: Sequence[Row], columns: Sequence[Column], facts: Row) -> None:
    """Print rows as a table, and the facts in a line below it."""
    cells = [[_cell(row[c.key], c.form) for c in columns] for row in rows]
    lines = [[c.heading for c in columns], *cells]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for first, *rest in lines:
        right = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        print("  ".join([first.ljust(widths[0]), *right]))
    print(", ".join(f"{key} {value}" for key, value in facts.items()))


def _cell(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def show_json(facts: Row, **results: Any) -> None:
    """Print one JSON object."""
    print(json.dumps({**facts, **results}))


def write_json(path: Path, content: Row) -> None:
    """Write one JSON object to a file, atomically."""
    aside = path.with_name(f"{path.name}.part")
    aside.write_text(json.dumps(content, indent=1) + "\n")
    aside.replace(path)


def say(line: str) -> None:
    """Print progress to stderr."""
    print(line, file=sys.stderr, flush=True)


def refuse(line: str) -> NoReturn:
    """Exit with code 2, because an argument is unusable."""
    say(line)
    sys.exit(2)


def drawn_video(seed: int, count: int) -> np.ndarray:
    """Generate a texture that drifts, rotates and grows behind a disc that moves the other way."""
    rng = np.random.default_rng(seed)
    texture = sum(
        cv2.GaussianBlur(rng.standard_normal((300, 400)).astype(np.float32), (0, 0), s) * s
        for s in (1.5, 4, 12)
    )
    texture = cv2.normalize(texture, None, 30, 220, cv2.NORM_MINMAX)
    frames = []
    for t in range(count):
        move = cv2.getRotationMatrix2D((200, 150), 0.8 * t, 1.2 + 0.01 * t)
        move[:, 2] += (2.3 * t - 40, -1.1 * t - 30)
        frame = cv2.warpAffine(texture, move, (320, 240), borderMode=cv2.BORDER_REFLECT)
        cv2.circle(frame, (280 - 5 * t, 60 + 4 * t), 35, float(40 + 30 * seed), -1)
        frames.append(frame + rng.normal(0, 2, frame.shape))
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def decoded_video(path: Path, count: int) -> np.ndarray:
    """Read grey frames from the middle of a video."""
    capture = cv2.VideoCapture(str(path))
    middle = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) // 2 - count // 2, 0)
    frames: list[np.ndarray] = []
    for index in range(middle + count):
        found, frame = capture.read()
        if not found:
            break
        if index >= middle:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
    if len(frames) < 2:
        refuse(f"{path}: fewer than 2 frames decode from its middle; give another video")
    return np.stack(frames)


def resized(frames: Iterable[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Resize frames to a width and height."""
    return np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in frames])


def video_files(paths: Sequence[Path]) -> list[Path]:
    """List the videos among files and in folders, in order."""
    from slic.datasets.videos import VIDEO_SUFFIXES

    def found() -> Iterator[Path]:
        for path in paths:
            if path.is_dir():
                yield from sorted(p for p in path.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
            elif path.is_file():
                yield path
            else:
                refuse(f"{path}: no such video or folder")

    return list(found())
