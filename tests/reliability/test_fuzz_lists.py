"""Lists of videos as strangers write them: a data set, or a line that says what is wrong."""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import fuzz, mutated, outcome, soak
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

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
    found = read_dataset(folder / kind / GIVEN.get(kind, ""), layout=kind)  # type: ignore[arg-type]
    assert found.videos
    for video in found.videos:
        assert is_one_line(video.id)
        assert is_one_line(video.label or "none")
        inside = (found.root / video.path).resolve()
        assert inside.is_relative_to((folder / kind).resolve())
        assert set(video.splits.values()) <= {"train", "test", "unused"}


def changed(text: str, rng: random.Random) -> bytes:
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


test_changed_lists = fuzz(make, case, examples=400)


def soak_fuzz_lists(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes."""
    return {"lists": soak(make, case, seed=seed, minutes=minutes)}


@pytest.mark.parametrize("kind", LISTS)
def test_any_text_is_a_list_or_refused(kind: str, tmp_path: Path) -> None:
    make(tmp_path)
    name, first = next(iter(LISTS[kind].items()))
    header = first.splitlines(keepends=True)[0] if kind in ("csv", "kinetics") else ""

    @settings(
        max_examples=60,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.text() | st.lists(st.text(max_size=8), max_size=6).map(",".join), st.booleans())
    @example("x.mp4 " + "9" * 5000, False)
    @example("y" * 5000 + ".mp4 1", False)
    @example("0 ", True)
    def run(text: str, headed: bool) -> None:
        data = (header if headed else "") + text
        (tmp_path / kind / name).write_bytes(data.encode(errors="surrogatepass"))
        outcome(lambda: read(tmp_path, kind))

    run()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make(tmp_path)
    return tmp_path


LONG: dict[str, Callable[[], str]] = {
    "spaces in a line": lambda: "a" + " " * 400_000 + "b.avi x\n",
    "columns": lambda: "path" + ",label" * 300_000 + "\n",
    "commas": lambda: "path,label\n" + "," * 1_000_000 + "\n",
    "quotes": lambda: 'path\n"' + '""' * 300_000,
    "lines": lambda: "\n" * 200_000,
    "digits": lambda: "1" * 400_000 + " " + "2" * 400_000 + "\n",
    "class": lambda: "1 a" + " " * 400_000 + "b\n",
}


@pytest.mark.parametrize("kind", LISTS)
@pytest.mark.parametrize("text", LONG)
def test_long_lists_take_no_long_time(folder: Path, kind: str, text: str) -> None:
    begin = time.process_time()
    for name in LISTS[kind]:
        (folder / kind / name).write_text(LONG[text](), encoding="utf-8")
        outcome(lambda: read(folder, kind))
    assert time.process_time() - begin < 20  # one that is quadratic takes hours


@pytest.mark.parametrize("kind", ["csv", "mmaction", "kinetics"])
@pytest.mark.parametrize("what", ["pipe", "endless"])
def test_what_is_no_file_is_not_waited_for(folder: Path, kind: str, what: str) -> None:
    import os

    file = folder / kind / next(iter(LISTS[kind]))
    file.unlink()
    os.mkfifo(file) if what == "pipe" else file.symlink_to("/dev/zero")
    with pytest.raises(DatasetError):
        read_dataset(file, layout="auto")
    shutil.rmtree(folder / kind)
