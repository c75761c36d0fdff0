"""Hostile names, labels and lists: stored safely or refused with one line, never outside."""

import json
import os
import random
import re
import sqlite3
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import write

from slic.cache import ClipStore, video_key
from slic.cache.entries import Entry
from slic.cache.index import Index
from slic.datasets.videos import Dataset, read_dataset
from slic.errors import DatasetError
from slic.runtime.console import say, show
from slic.runtime.text import escape
from slic.train.run import train

Slic = Callable[..., tuple[int, str, str]]

# As the name of a file, without its suffix.
NAMES = (
    *("\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\tb", "\x07", "\x7f", "\x08\x08\x08"),
    *("[bold]x", "[red", "[link=file:x]", ":fire:", "{x}", "%s%n", "<script>alert(1)<"),
    *("-rf", "--help", "a b", " ", "'q\"", "$(id)", "`id`", ";ls", "*", "?", "#", "\\n", "a..."),
    *(unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "\u202egpj"),
    *("👩\u200d💻", "a\u00a0b", "\ufeff", "日本" * 40, "x" * 250, "A", "a", "a-b", "a.b", "a_b"),
    *("CON", "nul", "COM1", "C:x", "~", "a,b", "0", "null", "\ue000", "\U0010ffff"),
)
LABELS = ("\x1b]0;t\x07 :fire:", "[red]%s", "c '\"<script>\u202e")
TINY = {"frames": 4, "stride": 1, "size": 16, "batch_size": 6, "epochs": 1, "retrieval_clips": 1}


def is_clean(text: str) -> bool:
    """Whether a terminal shows it without being told anything by it."""
    return all(line.isprintable() for line in text.split("\n"))


# --- printing --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "a\nb", "a\rb", "a\0b", "\udcff", "a\u2028b", ""])
def test_names_are_printed_as_they_are_but_for_controls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # which would break long names
    say(f"{name}|")
    show({}, as_json=False, rows={"name": name})
    out, err = capsys.readouterr()
    assert is_clean(out)
    assert is_clean(err)
    assert err == f"{escape(name)}|\n"
    assert escape(name) in out
    assert escape(name) == name or not name.isprintable()


# --- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of a data set of hostile names, and one run of it."""
    folder = tmp_path_factory.mktemp("named")
    video = write(folder / "mpeg4.avi", 4, size=(32, 24)).read_bytes()
    root = folder / "set [bold]\x1b[31m :fire: %s"
    for number, name in enumerate(NAMES):
        path = root / LABELS[number % len(LABELS)] / f"{name}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video)
    (root / LABELS[0] / "\x1b[5mbroken.avi").write_bytes(b"no video")
    (root / LABELS[0] / os.fsdecode(b"\xff.avi")).write_bytes(video)
    (root / "linked").symlink_to(root / LABELS[0], target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def store(named: Path) -> Path:
    from slic.prep.flow import prep_flow

    (root,) = (path for path in named.iterdir() if path.is_dir())
    path = root / "a store among the videos.zarr"
    for written in (len(NAMES), 0):
        result = prep_flow(str(root), store=str(path), bound=3.0, workers=1)
        assert (result.written, result.videos) == (written, len(NAMES) + 1)
        assert [video for video, _ in result.failures] == [f"{LABELS[0]}/\x1b[5mbroken.avi"]
    return path


def test_hostile_names_are_stored_and_read_back(named: Path, store: Path) -> None:
    opened = ClipStore(store)
    wanted = {f"{LABELS[n % len(LABELS)]}/{name}.avi": n for n, name in enumerate(NAMES)}
    assert set(opened.ids) == set(wanted)
    for video, number in wanted.items():
        assert opened.entry(video).label == LABELS[number % len(LABELS)]
        assert opened.read(video, 0, 4).shape == (4, 24, 32, 3)
        assert opened.read(video, 0, 3, view="flow").shape == (3, 24, 32, 2)
    for view in ("frames", "flow"):
        keys = {path.name for path in (store / view).iterdir()} - {"zarr.json"}
        assert keys == {video_key(video) for video in wanted}
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", key) for key in keys)
        # Not even a file system that ignores case would mix them up.
        assert len({key.lower() for key in keys}) == len(keys)
    assert {path.name for path in named.iterdir()} == {"mpeg4.avi", store.parent.name}


def test_commands_say_hostile_names_cleanly(
    store: Path, slic: Slic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root, here = str(store.parent), ("--store", str(store))
    commands = [
        ("prep", "frames", root, *here),
        ("prep", "info", str(store)),
        ("prep", "info", str(store) + "\x1b[31m"),
        ("prep", "frames", root + "\n[bold]\x1b[31m"),
    ]
    for command in commands:
        code, out, err = slic(*command)
        assert code in (0, 2)
        assert is_clean(out)
        assert is_clean(err)
        assert "Traceback" not in err
    for command in commands[:2]:
        code, out, err = slic(*command, "--json")
        failed = json.loads(out).get("failures") or json.loads(out)["failed"]
        assert (code, [each["id"] for each in failed]) == (0, [f"{LABELS[0]}/\x1b[5mbroken.avi"])
    assert "1 video ignored: file names that are not UTF-8" in slic(*commands[0])[2]


def test_training_and_evaluation_take_hostile_labels(
    store: Path, slic: Slic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = ("--run", "[bold] \x1b[31m%s", "--device", "cpu", "--workers", "0")
    options = {**TINY, "flow_probability": 0.5}
    train(
        str(store),
        preset="cpu-small",
        options=options,
        device="cpu",
        workers=0,
        run=run[1],
        say=str,
    )
    code, out, err = slic("eval", "retrieve", *run, "--per-class")
    assert code == 0
    assert is_clean(out)
    assert is_clean(err)
    assert all(escape(label) in out for label in LABELS)
    code, out, err = slic("eval", "classify", "--mode", "linear", *run, "--json")
    assert (code, is_clean(err)) == (0, True)
    assert json.loads(out)["mode"] == "linear"


def test_folders_of_any_name(tmp_path: Path, slic: Slic, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write(tmp_path / "mpeg4.avi", 2, size=(16, 16)).read_bytes()
    for number, name in enumerate(("-x", "[red] \x1b[31m é%s")):
        work = tmp_path / str(number)
        (work / name).mkdir(parents=True)
        (work / name / "a.avi").write_bytes(video)
        monkeypatch.chdir(work)
        code, out, err = slic("prep", "frames", f"./{name}", "--workers", "1", "--json")
        assert (code, json.loads(out)["store"]) == (0, f"{name}.zarr"), err
        assert {path.name for path in work.iterdir()} == {name, f"{name}.zarr"}


# --- lists -----------------------------------------------------------------------------------


def test_lists_cannot_name_pipes_and_devices(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")
    (tmp_path / "x_train_list.txt").write_text("a.mp4 0\npipe.mp4 0\n")
    (tmp_path / "x.csv").write_text("path\na.mp4\npipe.mp4\n")
    for name in ("x_train_list.txt", "x.csv", ""):
        assert [video.id for video in read_dataset(tmp_path / name).videos] == ["a.mp4"]
    for name in ("x_train_list.txt", "x.csv"):
        lines = (tmp_path / name).read_text().replace("pipe", "zero")
        (tmp_path / name).write_text(lines)
        with pytest.raises(DatasetError, match="leads outside"):
            read_dataset(tmp_path / name)


PATHS = (
    *("../../x.mp4", "/etc/passwd", "..\\x.mp4", "C:\\x.mp4", "in/../../out.mp4", "in/link.mp4"),
    *("in/folder/out.mp4", "~/x.mp4", "file:///etc/passwd", "http://127.0.0.1/a.mp4", "in"),
    *("a\0.mp4", "a\n.mp4", "a\r.mp4", "\x85.mp4", "\u2028.mp4", "\udcff.mp4", "", ".", "..", "/"),
    *("x" * 300 + ".mp4", "y/" * 3000 + "a.mp4", *(f"{name}.mp4" for name in NAMES)),
)
WORDS = (
    *(*PATHS, *NAMES, *LABELS, "train", "test", "val", "1", "0", "-1", "9" * 30, "1e9", "nan"),
    *("inf", "1e400", "٣", "³"),
)


def _quoted(rng: random.Random, *cells: str) -> str:
    quoted = (cell.replace('"', '""') for cell in cells)
    return ",".join(f'"{cell}"' if rng.random() < 0.8 else cell for cell in quoted) + "\n"


def _hostile_list(root: Path, rng: random.Random) -> Path:
    """Write one list of some kind below a data set; what to read."""
    kind = rng.choice(("csv", "kinetics", "mmaction", "label map", "ucf101", "classes", "hmdb51"))
    path, word = rng.choice((*PATHS, *["in/a.mp4"] * 20)), rng.choice(WORDS)
    other = rng.choice(WORDS)
    files = {
        "csv": {"x.csv": "path,label,split,group\n" + _quoted(rng, path, word, "train", other)},
        "kinetics": {
            "x.csv": "label,youtube_id,time_start,time_end,split\n"
            + _quoted(rng, word, rng.choice(("a", path)), rng.choice(("1", other)), "1", "train")
        },
        "mmaction": {"x_train.txt": f"{path} {rng.choice(('1', word))}\n", "x_val.txt": other},
        "label map": {"x_train.txt": "in/a.mp4 0\n", "label_map.txt": f"{word}\n{other}\n"},
        "ucf101": {"trainlist01.txt": f"{path} {word}\n", "testlist01.txt": f"{other}\n"},
        "classes": {
            "trainlist01.txt": "in/a.mp4 1\n",
            "testlist01.txt": "in/b.mp4\n",
            "classInd.txt": f"1 {rng.choice(('in', word))}\n{rng.choice(('', other))}",
        },
        "hmdb51": {"in_test_split1.txt": f"{path} 1\n{rng.choice(('', f'{word} {other}'))}\n"},
    }[kind]
    for name, text in files.items():
        (root / name).write_bytes(text.encode(errors="surrogateescape"))
    return root if kind in ("ucf101", "classes", "hmdb51") else root / next(iter(files))


def _hostile_tree(root: Path, rng: random.Random) -> Path:
    """Make a few files of hostile names in folders of hostile names; what to read."""
    for _ in range(rng.randint(1, 4)):
        folder = root.joinpath(
            *rng.choices((*LABELS, "train", "u", "x" * 255), k=rng.randint(0, 2))
        )
        folder.mkdir(parents=True, exist_ok=True)
        letters = rng.choices("a\n\r\t\x1b\x85\u2028\u202e\ud7ffé[]:%' .-_1", k=rng.randint(1, 9))
        name = rng.choice((rng.choice(NAMES), "".join(letters)))
        (folder / f"{name[:240]}{rng.choice(('.mp4', '.AVI', '_1.jpg', '.csv'))}").touch()
    return root


def _check(dataset: Dataset, root: Path, index: Index) -> None:
    """All videos lie inside, all texts are of one line, and the index gives them back.

    Links to files are followed where a folder is read, and nowhere else.
    """
    listed = dataset.layout in ("csv", "mmaction")
    for note in dataset.notes:
        assert note.isprintable(), note
    for video in dataset.videos:
        inside = os.path.realpath(dataset.root / video.path).startswith(f"{root.resolve()}/")
        assert inside or (not listed and video.path == "in/link.mp4"), video
        texts = [text for text in (video.id, video.label, video.group) if text]
        assert all(text.splitlines() == [text] and "\0" not in text for text in texts), video
        parts = (video.splits.get(number) for number in (1, 2, 3))
        key = video_key(video.id)
        entry = Entry(video.id, key, video.path, video.label, video.group, *parts)
        index.put(entry)
        assert index.entry(video.id) == entry


def _tried(folder: Path, rng: random.Random, counts: dict[str, Any]) -> None:
    root = folder / f"set{counts['tried']}"
    (root / "in").mkdir(parents=True)
    (root / "in" / "a.mp4").touch()
    (root / "in" / "link.mp4").symlink_to(folder / "out.mp4")
    (root / "in" / "folder").symlink_to(folder, target_is_directory=True)
    make = rng.choice((_hostile_list, _hostile_list, _hostile_tree))
    counts["tried"] += 1
    asked = make(root, rng)
    try:
        found = read_dataset(asked)
    except DatasetError as error:
        assert str(error).isprintable(), str(error)  # noqa: PT017
        counts["refused"] += 1
        return
    index = Index(folder / "index.sqlite", writable=True)
    _check(found, root, index)
    index.close()
    counts["stored"] += 1


def soak_hostile_names(seed: int, minutes: float) -> dict[str, Any]:
    """Read data sets of hostile lists, folders and file names, and enter them in an index.

    Returns:
        Counts: tried, stored, refused, and `unexpected`, a line for all that must not be.
    """
    rng = random.Random(seed)
    counts: dict[str, Any] = {"tried": 0, "stored": 0, "refused": 0, "unexpected": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "out.mp4").touch()
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            try:
                _tried(folder, rng, counts)
            except Exception as error:
                counts["unexpected"].append(f"{counts['tried']}: {repr(error)!a}")
    return counts


def test_soak_runs() -> None:
    counts = soak_hostile_names(3, 0.05)
    assert counts["tried"] == counts["stored"] + counts["refused"] > 0
    assert counts["unexpected"] == []


def test_index_holds_what_it_is_given(tmp_path: Path) -> None:
    """Names are values to SQLite, never part of a statement."""
    index = Index(tmp_path / "index.sqlite", writable=True)
    name = "'; DROP TABLE videos; --"
    index.put(Entry(name, video_key(name), name, name, name, "train", None, None))
    assert index.entry(name) is not None
    index.close()
    with sqlite3.connect(tmp_path / "index.sqlite") as connection:
        assert connection.execute("SELECT label FROM videos").fetchall() == [(name,)]
    connection.close()


def test_keys_are_distinct_for_ids_that_look_alike() -> None:
    rng = np.random.default_rng(5)
    letters = list("aA/.-_ é\u0301[")
    ids = {"".join(rng.choice(letters, rng.integers(1, 7))) for _ in range(20_000)}
    keys = {video_key(video) for video in ids}
    assert len(keys) == len({key.lower() for key in keys}) == len(ids)
