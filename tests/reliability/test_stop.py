"""SIGTERM and Ctrl-C: commands finish what is under way, and all processes end within seconds."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import RUN, STORE, Material
from harness import Ended, Running
from states import steps_done, store_faults, store_state

from slic.cache import ClipStore
from slic.encoders.checkpoints import load_checkpoint
from slic.prep.frames import prep_frames

STOPPED = "slic: stopped; run the same command again to continue"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
LEAVES_S = 15.0  # on a busy machine; on an idle one the 3 seconds of grace, and a little more
slow = pytest.mark.slow


def stop(
    running: Running, *signals: tuple[signal.Signals, bool], when: Callable[[], bool]
) -> Ended:
    """Send signals, to the command alone or its process group, once a condition holds."""
    assert running.wait_until(when), running.said
    begin = time.monotonic()
    for number, group in signals:
        running.send(number, group=group)
    ended = running.ended(timeout_s=60)
    assert time.monotonic() - begin < LEAVES_S
    return ended


def check_stopped(ended: Ended, number: signal.Signals) -> None:
    """Check for the exit code of shells, one line, no other message, and no process left."""
    assert ended.code == CODES[number], ended.err
    lines = ended.err.splitlines()
    assert lines[-1] == STOPPED, ended.err
    assert lines.count(STOPPED) == 1
    assert not any("Traceback" in line or "died" in line or "rror" in line for line in lines)
    assert not ended.left


def stored(folder: Path) -> int:
    """Return the number of videos in the store, whose root is made last."""
    made = (folder / STORE / "zarr.json").exists()
    return len(ClipStore(folder / STORE).ids) if made else 0


@pytest.mark.parametrize(
    "signals",
    [
        [(signal.SIGTERM, True)],
        pytest.param([(signal.SIGINT, True)], marks=slow),
        pytest.param([(signal.SIGTERM, False)], marks=slow),
        # `timeout` signals the process, and then its group: that is one stop.
        pytest.param([(signal.SIGTERM, False), (signal.SIGTERM, True)], marks=slow),
    ],
    ids=str,
)
def test_prep_stops_between_two_videos(
    material: Material, signals: list[tuple[signal.Signals, bool]]
) -> None:
    """What was begun is finished and entered; what is not entered was not begun."""
    folder = material.folder()
    running = Running(material.prep_frames("1"), folder)
    check_stopped(stop(running, *signals, when=lambda: stored(folder) > 0), signals[0][0])
    store = folder / STORE
    assert not store_faults(store, material.arrays)
    done = stored(folder)
    assert 0 < done == len(ClipStore(store).keys("frames"))
    assert not list((store / "index" / "writing").iterdir())
    again = prep_frames(str(material.videos), store=str(store), workers=1)
    assert again.written == again.videos - done
    assert store_state(store) == store_state(material.frames_store)


@slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, "1"), (signal.SIGTERM, "0")])
def test_train_stops_after_a_step_and_goes_on_from_it(
    material: Material, number: signal.Signals, workers: str
) -> None:
    """No checkpoint is due; the stop saves one, of the last step that was done."""
    folder, group = material.folder(), workers == "1"
    material.with_store(folder)
    words = (*material.train(workers), "--set", "epochs=2000", "--set", "cluster_every=2000")
    metrics = folder / RUN / "metrics.jsonl"

    def begun() -> bool:
        return metrics.exists() and '"epoch": 3,' in metrics.read_text()

    check_stopped(stop(Running(words, folder), (number, group), when=begun), number)
    progress = load_checkpoint(folder / RUN / "checkpoints" / "latest")["progress"]
    assert progress["total_steps"] == progress["epoch"] * 3 + progress["step"]
    again = Running(words, folder)
    ended = stop(again, (number, group), when=lambda: "steps left" in again.said)
    check_stopped(ended, number)
    after = f"continuing after epoch {progress['epoch']}, step {progress['total_steps']}\n"
    assert after in ended.err
    assert steps_done(folder / RUN) >= progress["total_steps"]


@slow
def test_flow_on_two_devices_stops(material: Material) -> None:
    """Each device's process finishes the videos under way, or leaves them to the next run."""
    two_devices = (
        "-c",
        "import slic.prep.flow_device as on; on.devices_for = lambda engine, device: ['cpu'] * 2;"
        " from slic.cli import main; main()",
    )
    folder = material.folder()
    material.with_frames(folder)
    words = ("prep", "flow", STORE, "--engine", "torch", "--device", "cpu", "--workers", "1")

    def some() -> bool:
        return any(entry.flow for entry in ClipStore(folder / STORE).entries())

    running = Running(words, folder, entry=two_devices)
    check_stopped(stop(running, (signal.SIGTERM, True), when=some), signal.SIGTERM)
    entries = ClipStore(folder / STORE).entries()
    done = [entry for entry in entries if entry.flow]
    assert 0 < len(done) < len(entries)
    for entry in done:
        flow = ClipStore(folder / STORE).read(entry.id, 0, 9, view="flow").astype(int)
        # Another engine gives the same but for rounding.
        assert abs(flow - material.arrays["flow", entry.key]).mean() < 1


@slow
def test_evaluation_stops(material: Material) -> None:
    folder = material.folder()
    material.with_run(folder)
    words = ["eval", "classify", "--run", "r", "--mode", "finetune", "--epochs", "5000"]
    words += ["--clips", "1", "--crops", "1", "--device", "cpu", "--workers", "1"]
    results = folder / RUN / "classify"

    def begun() -> bool:
        return bool(list(results.glob("[!.]*.checkpoint")))

    ended = stop(Running(words, folder), (signal.SIGTERM, True), when=begun)
    check_stopped(ended, signal.SIGTERM)
    assert not list(results.glob("*.json"))


JOBS = """
from slic.runtime.processes import run_jobs
from slic.runtime.signals import stop_on_signals
import time

if __name__ == "__main__":
    stop_on_signals()
    print("begun", flush=True)
    try:
        for _ in run_jobs(time.sleep, [5.0, 600.0, 700.0, 800.0, 900.0], workers=2):
            print("one", flush=True)
    except KeyboardInterrupt:
        print("stopped", flush=True)
"""


@slow
@pytest.mark.parametrize("group", [False, True])
def test_only_jobs_that_end_within_the_grace_are_waited_for(tmp_path: Path, group: bool) -> None:
    running = Running([], tmp_path, entry=("-c", JOBS))
    time.sleep(4.0)  # so that the short job ends within the grace
    ended = stop(running, (signal.SIGTERM, group), when=lambda: True)
    assert ended.out.splitlines() == ["begun", "one", "stopped"]
    assert (ended.code, ended.err, ended.left) == (0, "", False)


@slow
def test_signals_that_the_shell_ignores_are_ignored(material: Material) -> None:
    """Shells have the background jobs of a script ignore Ctrl-C."""
    folder = material.folder()
    ignoring = (
        "-c",
        "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN);"
        " from slic.cli import main; main()",
    )
    running = Running(material.prep_frames("1"), folder, entry=ignoring)
    assert running.wait_until(lambda: stored(folder) > 0)
    running.send(signal.SIGINT, group=True)
    assert running.ended().code == 0
    assert stored(folder) == len(ClipStore(material.frames_store).ids)
