"""The demo as a whole, on the smallest set it can draw; what it reaches is for benchmarks/."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from slic.cache import ClipStore
from slic.cli import demo_command
from slic.demo.demo import PLAIN, demo
from slic.errors import DatasetError, InputError


@pytest.mark.slow
def test_demo_goes_all_the_way_and_does_nothing_twice(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    options = {"groups": 2, "epochs": 1, "workers": 2, "say": str}
    first = demo(str(folder), **options)
    assert first["videos"] == 80
    assert Path(first["report"]).read_text().startswith("<!doctype html>")
    assert first["recall"].keys() == {"mean frame, no network", "random weights", PLAIN, "slic"}
    for recall in first["recall"].values():
        assert 0 <= recall["1"] <= recall["5"] <= recall["10"] <= 1
    store = ClipStore(folder / "ucf101.zarr")
    assert len(store.ids) == 80
    assert all(entry.flow for entry in store.entries())

    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.h5")}
    assert made
    again = demo(str(folder), **options)
    for method, recall in again["recall"].items():
        assert recall == pytest.approx(first["recall"][method])
    assert {path: path.stat().st_mtime_ns for path in made} == made

    with pytest.raises(DatasetError, match="seed 0, not 1"):
        demo(str(folder), seed=1, **options)


def test_mean_frame_recall_is_of_mean_frames(drawn_store: Path) -> None:
    import cv2

    from slic.demo.demo import mean_frame_recall

    store = ClipStore(drawn_store)
    rows, labels, words = [], [], []
    for entry in store.entries():
        frames = store.read(entry.id, 0, entry.frames or 1).astype(np.float64)
        rows.append(cv2.resize(frames.mean(axis=0), (32, 32), interpolation=cv2.INTER_AREA))
        labels.append(entry.label)
        words.append(entry.split1)
    pixels = np.stack(rows).reshape(len(rows), -1)
    pixels -= pixels.mean(axis=0)
    hits = []
    for i in range(len(rows)):
        if words[i] != "test":
            continue
        cosines = {
            j: pixels[i] @ pixels[j] / np.linalg.norm(pixels[i]) / np.linalg.norm(pixels[j])
            for j in range(len(rows))
            if words[j] == "train"
        }
        hits.append(labels[max(cosines, key=cosines.__getitem__)] == labels[i])
    assert mean_frame_recall(str(drawn_store))["1"] == pytest.approx(np.mean(hits))


def test_the_command_draws_what_the_function_does() -> None:
    """The command line repeats the defaults, so as not to import torch for its help."""
    command, function = (inspect.signature(f).parameters for f in (demo_command, demo))
    shared = command.keys() & function.keys()
    assert shared == {"folder", "seed", "epochs", "groups", "workers"}
    assert all(command[name].default == function[name].default for name in shared)


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("in the way")
    with pytest.raises(InputError, match="--folder"):
        demo(str(tmp_path / "demo"), say=str)
