"""Hostile names, labels and lists: stored safely or refused with one line, never outside."""

import json
import os
import random
import re
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz, outcome, soak
from hostile import write

from slic.cache import ClipStore, video_key
from slic.cache.entries import Entry
from slic.cache.index import Index
from slic.datasets.videos import Dataset, read_dataset
from slic.errors import DatasetError
from slic.runtime.console import say, show
from slic.runtime.text import escape, is_one_line
from slic.train.run import train

Slic = Callable[..., tuple[int, str, str]]

# As the name of a file, without its suffix.
NAMES = (
    *("\x1b[31mred", "\x1b]0;title\x07", "\x9b31m", "a\tb", "\x7f", "[bold]x", "[red", ":fire:"),
    *("{x}%s%n", "<script>alert(1)<", "-rf", "a b", " ", "'q\"$(id)`id`;ls", "*?#", "\\n", "a..."),
    *(unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "\u202egpj"),
    *("👩\u200d💻", "a\u00a0b", "\ufeff", "日本" * 40, "x" * 250, "A", "a", "a-b", "a_b", "CON"),
    *("C:x", "~", "a,b", "null", "\U0010ffff"),
)
LABELS = ("\x1b]0;t\x07 :fire:", "[red]%s", "c '\"<script>\u202e")
TINY = {"frames": 4, "stride": 1, "size": 16, "batch_size": 6, "epochs": 1, "retrieval_clips": 1}


def is_clean(text: str) -> bool:
    """Return whether a text is free of characters that control a terminal."""
    return all(line.isprintable() for line in text.split("\n"))


# --- printing --------------------------------------------------------------------------------


def test_names_are_printed_as_they_are_but_for_controls(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # which would break long names
    for name in (*NAMES, "a\nb", "a\rb", "a\0b", "\udcff", "a\u2028b", ""):
        check_printed(name, capsys)


def check_printed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_commands_print_hostile_names_safely(
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


@pytest.mark.slow
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
        with pytest.raises(DatasetError, match="leads out"):
            read_dataset(tmp_path / name)


def case(folder: Path, rng: random.Random) -> str:
    """Read a folder of files and folders of hostile names; all videos go through an index."""
    root = folder / "set"
    shutil.rmtree(root, ignore_errors=True)
    (root / "in").mkdir(parents=True)
    (root / "in" / "folder").symlink_to(folder, target_is_directory=True)
    for _ in range(rng.randint(1, 4)):
        parents = rng.choices((*LABELS, "train", "u", "x" * 255), k=rng.randint(0, 2))
        root.joinpath(*parents).mkdir(parents=True, exist_ok=True)
        letters = rng.choices("a\n\r\t\x1b\x85\u2028\u202e\ud7ffé[]:%' .-_1", k=rng.randint(1, 9))
        name = rng.choice((rng.choice(NAMES), "".join(letters)))[:240]
        root.joinpath(*parents, name + rng.choice((".mp4", ".AVI", "_1.jpg", ".csv"))).touch()
    return outcome(lambda: check(read_dataset(root), root, folder))


def check(dataset: Dataset, root: Path, folder: Path) -> None:
    """Check that all videos are inside, all texts one line, and that an index returns them."""
    assert all(note.isprintable() for note in dataset.notes)
    index = Index(folder / "index.sqlite", writable=True)
    for video in dataset.videos:
        assert os.path.realpath(dataset.root / video.path).startswith(f"{root.resolve()}/")
        texts = [text for text in (video.id, video.label, video.group) if text]
        assert all(is_one_line(text) for text in texts), video
        parts = (video.splits.get(number) for number in (1, 2, 3))
        key = video_key(video.id)
        entry = Entry(video.id, key, video.path, video.label, video.group, *parts)
        index.put(entry)
        assert index.entry(video.id) == entry
    index.close()


def _nothing(folder: Path) -> None:
    """There is nothing to make."""


test_folders_of_hostile_names = fuzz(_nothing, case, examples=100)


def soak_hostile_names(seed: int, minutes: float) -> dict[str, Any]:
    """Read folders of hostile names until the time is over."""
    return soak(_nothing, case, seed=seed, minutes=minutes)
