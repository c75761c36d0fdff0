"""Damaged and odd lists of videos: a data set, or one line that says what is wrong."""

import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz, mutated, outcome, soak

from slic.datasets.videos import read_dataset
from slic.errors import DatasetError
from slic.runtime.text import is_one_line

UCF = ["v_Run_g01_c01.avi", "v_Run_g08_c01.avi", "v_Hop_g02_c01.avi"]
HMDB = ["a_run_f_cm_np1_ba_bad_0.avi", "b_run_f_cm_np1_ba_bad_1.avi"]
LISTS: dict[str, dict[str, str]] = {
    "csv": {"list.csv": "path,label,split,group\nx.mp4,Run,train,g\ny.mp4,Hop,test,\n"},
    "kinetics": {
        "train.csv": "label,youtube_id,time_start,time_end,split\n"
        "run,abcdefghijk,1,11,train\nhop,lmnopqrstuv,2,12,validate\n"
    },
    "ucf101": {
        "trainlist01.txt": "Run/v_Run_g08_c01.avi 1\n",
        "testlist01.txt": "Run/v_Run_g01_c01.avi\nHop/v_Hop_g02_c01.avi\n",
        "classInd.txt": "1 Run\n2 Hop\n",
    },
    "hmdb51": {"run_test_split1.txt": f"{HMDB[0]} 1\n{HMDB[1]} 2\n"},
    "mmaction": {
        "set_train_list.txt": "x.mp4 0\n",
        "set_val_list.txt": "y.mp4 1\n",
        "label_map.txt": "Run\nHop\n",
    },
}
VIDEOS = {
    "csv": ["x.mp4", "y.mp4"],
    "kinetics": ["abcdefghijk_000001_000011.mp4", "lmnopqrstuv.mp4"],
    "ucf101": [f"{name.split('_')[1]}/{name}" for name in UCF],
    "hmdb51": [f"run/{name}" for name in HMDB],
    "mmaction": ["x.mp4", "y.mp4"],
}
GIVEN = {"csv": "list.csv", "mmaction": "set_train_list.txt"}
PIECES = [
    *("\0", "\r\n", "\r", "\n", "\ufeff", '"', '""', ",", ";", "\t", " ", "..", "/", "\\", "C:\\"),
    *("'", "\u2028", "\x85", "\x1b[2J", "é", "\U0001f600", "9" * 5000, "1e999", "nan", "-1"),
    *("x" * 300, "path", "label", ".mp4", " " * 3000, "," * 3000, "../../etc/passwd", "/etc"),
]


def make(folder: Path) -> None:
    for kind, names in VIDEOS.items():
        for name in names:
            (folder / kind / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / kind / name).write_bytes(b"video")
        for name, text in LISTS[kind].items():
            (folder / kind / name).write_text(text, encoding="utf-8")


def read(folder: Path, kind: str) -> None:
    """Read a data set; all of its videos are inside it, and its texts are of one line."""
    found = read_dataset(folder / kind / GIVEN.get(kind, ""), layout=kind)  # type: ignore[arg-type]
    assert found.videos
    for video in found.videos:
        assert is_one_line(video.id)
        assert is_one_line(video.label or "none")
        inside = (found.root / video.path).resolve()
        assert inside.is_relative_to((folder / kind).resolve())
        assert set(video.splits.values()) <= {"train", "test", "unused"}


def changed(text: str, rng: random.Random) -> bytes:
    """Change a list, as text or as bytes; sometimes in another encoding, or all of it."""
    if rng.random() < 0.1:
        text = "".join(rng.choices([*PIECES, "x.mp4", "1", "\n"], k=rng.randrange(8)))
    data = text.encode()
    for _ in range(rng.choice([1, 1, 2, 5])):
        if rng.random() < 0.5:
            place = rng.randrange(len(text) + 1)
            text = text[:place] + rng.choice(PIECES) + text[place:]
            data = text.encode()
        else:
            data = mutated(data, rng)
            text = data.decode(errors="replace")
    return data if rng.random() < 0.7 else text.encode(rng.choice(["utf-8-sig", "utf-16"]))


def case(folder: Path, rng: random.Random) -> str:
    kind = rng.choice(list(LISTS))
    name, text = rng.choice(list(LISTS[kind].items()))
    (folder / kind / name).write_bytes(changed(text, rng))
    try:
        return outcome(lambda: read(folder, kind))
    finally:
        (folder / kind / name).write_text(text, encoding="utf-8")


test_changed_lists = fuzz(make, case, examples=300)


def soak_fuzz_lists(seed: int, minutes: float) -> dict[str, Any]:
    """Change lists until the time is over."""
    return soak(make, case, seed=seed, minutes=minutes)


@pytest.mark.parametrize("kind", LISTS)
def test_long_lists_take_no_long_time(tmp_path: Path, kind: str) -> None:
    make(tmp_path)
    begin = time.process_time()
    for text in (
        "a" + " " * 400_000 + "b.avi x\n",
        "path,label\n" + "," * 1_000_000 + "\n",
        'path\n"' + '""' * 300_000,
        "1" * 400_000 + " " + "2" * 400_000 + "\n",
    ):
        for name in LISTS[kind]:
            (tmp_path / kind / name).write_text(text, encoding="utf-8")
            outcome(lambda: read(tmp_path, kind))
    assert time.process_time() - begin < 60  # quadratic time would be hours


@pytest.mark.parametrize("kind", ["csv", "mmaction", "kinetics"])
@pytest.mark.parametrize("what", ["pipe", "endless"])
def test_lists_that_are_not_files_are_refused(tmp_path: Path, kind: str, what: str) -> None:
    make(tmp_path)
    file = tmp_path / kind / next(iter(LISTS[kind]))
    file.unlink()
    os.mkfifo(file) if what == "pipe" else file.symlink_to("/dev/zero")
    with pytest.raises(DatasetError):
        read_dataset(file, layout="auto")
