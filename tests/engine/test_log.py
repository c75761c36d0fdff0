import json
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from slic.config import make_settings
from slic.engine.log import Recorder
from slic.runs import Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path, make_settings("cpu-small"), Path("x.zarr"), "aaaa", "cpu-small")


def lines(run: Run) -> list[dict]:
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def test_lines_are_appended_with_kind_and_step(run):
    recorder = Recorder(run, lines=0)
    recorder.write("epoch", 3, {"loss": 0.5, "rate": None})
    recorder.write("clustering", 4, {"recall": {"1": 0.25}})
    recorder.close()
    assert recorder.lines == 2
    assert lines(run) == [
        {"kind": "epoch", "step": 3, "loss": 0.5, "rate": None},
        {"kind": "clustering", "step": 4, "recall": {"1": 0.25}},
    ]


def test_numbers_become_tensorboard_scalars(run):
    recorder = Recorder(run, lines=0)
    values = {"loss": 0.5, "nmi": None, "in_use": True, "recall": {"1": 0.25, "5": None}}
    recorder.write("epoch", 3, values)
    recorder.close()
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["epoch/loss", "epoch/recall/1"]
    (event,) = events.Scalars("epoch/recall/1")
    assert (event.step, event.value) == (3, 0.25)


@pytest.mark.parametrize("torn", ["", '{"kind": "ep', '{"kind": "epoch", "step": 9}'])
def test_lines_of_work_done_again_are_dropped(run, torn):
    run.metrics.write_text("".join(f'{{"kind": "epoch", "step": {i}}}\n' for i in range(4)) + torn)
    recorder = Recorder(run, lines=2)
    assert [line["step"] for line in lines(run)] == [0, 1]
    recorder.write("epoch", 7, {})
    recorder.close()
    assert [line["step"] for line in lines(run)] == [0, 1, 7]
    assert recorder.lines == 3
    assert sorted(path.name for path in run.path.iterdir()) == ["metrics.jsonl", "tensorboard"]


def test_lost_lines_are_not_counted(run):
    """Or the next interruption would keep lines of work that is done again."""
    recorder = Recorder(run, lines=5)
    recorder.write("epoch", 7, {})
    recorder.close()
    assert recorder.lines == len(lines(run)) == 1
