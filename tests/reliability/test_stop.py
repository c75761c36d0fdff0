"""SIGTERM and Ctrl-C: what is under way is finished, and all processes leave within seconds."""

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cases import RUN, STORE, Material
from harness import SLIC, Ended, Running, run
from states import steps_done, store_faults, store_state

from slic.cache import ClipStore
from slic.encoders.checkpoints import load_checkpoint

STOPPED = "slic: stopped; the same command goes on from there"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
LEAVES_S = 15.0  # on a busy machine; with the grace it is 3 s and a little on an idle one


def stop(
    running: Running, number: signal.Signals, *, group: bool, when: Callable[[], bool]
) -> tuple[Ended, float]:
    """Send a signal once a condition holds; how it ended, and the seconds that it took."""
    assert running.wait_until(when), running.said
    begin = time.monotonic()
    running.send(number, group=group)
    ended = running.ended(timeout_s=60)
    return ended, time.monotonic() - begin


def says_no_more(ended: Ended, number: signal.Signals) -> None:
    """One line that it was stopped, the code that shells know, nobody left, nothing else said."""
    assert ended.code == CODES[number], ended.err
    lines = ended.err.splitlines()
    assert lines[-1] == STOPPED, ended.err
    assert lines.count(STOPPED) == 1
    assert not any("Traceback" in line or "died" in line or "rror" in line for line in lines)
    assert not ended.left


def stored(folder: Path) -> int:
    # The root of a store is made last.
    made = (folder / STORE / "zarr.json").exists()
    return len(ClipStore(folder / STORE).ids) if made else 0


WAYS = [
    (signal.SIGINT, True),
    (signal.SIGTERM, True),
    (signal.SIGTERM, False),
]


@pytest.mark.parametrize(("number", "group"), WAYS, ids=str)
def test_prep_stops_between_two_videos(
    material: Material, number: signal.Signals, group: bool
) -> None:
    """What was begun is finished and entered; what is not entered is not begun."""
    folder = material.folder()
    # Of one worker, so that the stop finds it with much to do.
    running = Running(material.prep_frames("1"), folder)
    ended, took = stop(running, number, group=group, when=lambda: stored(folder) > 0)
    says_no_more(ended, number)
    assert took < LEAVES_S
    assert not store_faults(folder / STORE, material.pictures)
    done = stored(folder)
    keys = ClipStore(folder / STORE).keys("frames")
    assert 0 < done == len(keys)
    assert not list((folder / STORE / "index" / "writing").iterdir())
    again = run(material.prep_frames("2"), folder)
    assert again.result["written"] == again.result["videos"] - done
    assert store_state(folder / STORE) == material.uninterrupted("prep frames").state


@pytest.mark.parametrize(
    ("number", "workers"), [(signal.SIGINT, "1"), (signal.SIGTERM, "0")], ids=str
)
def test_train_stops_after_a_step_and_goes_on_from_it(
    material: Material, number: signal.Signals, workers: str
) -> None:
    """No checkpoint is due but by the stop, and it is of the last step that was done."""
    folder = material.folder()
    material.with_store(folder)
    words = (*material.train(workers), "--set", "epochs=2000", "--set", "cluster_every=2000")
    running = Running(words, folder)
    group = workers == "1"
    begun = folder / RUN / "metrics.jsonl"
    ended, took = stop(
        running,
        number,
        group=group,
        when=lambda: begun.exists() and '"epoch": 3,' in begun.read_text(),
    )
    says_no_more(ended, number)
    assert took < LEAVES_S
    progress = load_checkpoint(folder / RUN / "checkpoints" / "latest")["progress"]
    assert progress["total_steps"] == progress["epoch"] * 3 + progress["step"]
    again = Running(words, folder)
    after = f"continuing after epoch {progress['epoch']}, step {progress['total_steps']}\n"
    ended, _ = stop(again, number, group=group, when=lambda: "steps left" in again.said)
    assert after in ended.err
    assert steps_done(folder / RUN) >= progress["total_steps"]
    says_no_more(ended, number)


TWO_DEVICES = (
    "-c",
    "import slic.prep.flow_device as on; on.devices_for = lambda engine, device: ['cpu'] * 2;"
    " from slic.cli import main; main()",
)


@pytest.mark.parametrize("entry", [SLIC, TWO_DEVICES], ids=["one device", "two"])
def test_flow_on_devices_stops(material: Material, entry: tuple[str, ...]) -> None:
    """Threads, or processes, solve what they have begun, or leave it to the next run."""
    folder = material.folder()
    material.with_frames(folder)
    words = ("prep", "flow", STORE, "--engine", "torch", "--device", "cpu", "--workers", "1")

    def some() -> bool:
        return any(e.flow for e in ClipStore(folder / STORE).entries())

    ended, took = stop(Running(words, folder, entry=entry), signal.SIGTERM, group=True, when=some)
    says_no_more(ended, signal.SIGTERM)
    assert took < LEAVES_S
    entries = ClipStore(folder / STORE).entries()
    done = [entry for entry in entries if entry.flow]
    assert 0 < len(done) < len(entries)
    for entry in done:
        flow = ClipStore(folder / STORE).read(entry.id, 0, 9, view="flow").astype(int)
        # By another engine it is the same but for rounding.
        assert abs(flow - material.pictures["flow", entry.key]).mean() < 1


def test_evaluation_stops(material: Material) -> None:
    folder = material.folder()
    material.with_run(folder)
    words = ["eval", "classify", "--run", "r", "--mode", "finetune", "--epochs", "5000"]
    words += ["--clips", "1", "--crops", "1", "--device", "cpu", "--workers", "1"]
    running = Running(words, folder)
    checkpoints = folder / RUN / "classify"
    ended, took = stop(
        running,
        signal.SIGTERM,
        group=True,
        when=lambda: bool(list(checkpoints.glob("[!.]*.checkpoint"))),
    )
    says_no_more(ended, signal.SIGTERM)
    assert took < LEAVES_S
    assert not list(checkpoints.glob("*.json"))


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


@pytest.mark.parametrize("group", [False, True])
def test_only_what_is_done_within_the_grace_is_waited_for(tmp_path: Path, group: bool) -> None:
    running = Running([], tmp_path, entry=("-c", JOBS))
    time.sleep(4.0)  # so that the short job ends within the grace
    ended, took = stop(running, signal.SIGTERM, group=group, when=lambda: True)
    assert ended.out.splitlines() == ["begun", "one", "stopped"]
    assert (ended.code, ended.err, ended.left) == (0, "", False)
    assert took < LEAVES_S


def test_signals_sent_twice_at_once_are_one_stop(material: Material) -> None:
    """`timeout` signals the process, and then the group that it is in."""
    folder = material.folder()
    running = Running(material.prep_frames("1"), folder)
    assert running.wait_until(lambda: stored(folder) > 0)
    running.send(signal.SIGTERM, group=False)
    running.send(signal.SIGTERM, group=True)
    says_no_more(running.ended(timeout_s=60), signal.SIGTERM)
    assert not store_faults(folder / STORE, material.pictures)


def test_what_the_shell_lets_ignore_is_ignored(material: Material) -> None:
    """Of a script's background jobs, a shell lets Ctrl-C be ignored."""
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
    assert stored(folder) == len(material.pictures) // 2
