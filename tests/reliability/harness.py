"""Runs `slic` commands as a user does, and kills or stops them at moments drawn by a seed."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

EVENTS = Path(__file__).with_name("events")
LONGEST_S = 240.0
LEAVE_S = 20.0
SLIC = ("-m", "slic.cli")
# As a user's, but that every step is followed by a checkpoint.
SLIC_SAVING_OFTEN = (
    "-c",
    "import slic.engine.saving as saving; from slic.cli import main;"
    " assert saving.CHECKPOINT_EVERY_S > 0; saving.CHECKPOINT_EVERY_S = -1.0; main()",
)


@dataclass(frozen=True)
class Kill:
    """When to kill a command: after some seconds, or before or after an event of its files.

    Attributes:
        after_s: seconds; None for an event.
        event: number of the event, from 1.
        when: the side of the event.
        whom: the command's main process, or all of its processes.
    """

    after_s: float | None = None
    event: int = 0
    when: Literal["before", "after"] = "before"
    whom: Literal["main", "all"] = "main"

    def environment(self) -> dict[str, str]:
        """What tells sitecustomize of it."""
        if self.after_s is not None:
            return {}
        return {
            "SLIC_KILL_AT": str(self.event),
            "SLIC_KILL_WHEN": self.when,
            "SLIC_KILL_WHOM": self.whom,
        }


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, or minus the signal.
        out, err: what it printed.
        seconds: how long it took.
        events: a letter for each change of a file: `.` temporary, `P` in place.
        left: whether processes were left behind; they have been killed.
    """

    code: int
    out: str
    err: str
    seconds: float
    events: str
    left: bool

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


class Running:
    """A command under way, in a session of its own.

    Args:
        words: of the command, after `slic`.
        folder: where it runs; events of files below it count.
        kill: at which event to kill it, if at any.
        entry: how Python starts it.
    """

    def __init__(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        kill: Kill | None = None,
        entry: Sequence[str] = SLIC,
    ) -> None:
        self.folder = folder
        self._aside = Path(tempfile.mkdtemp(prefix="slic-attempt-"))
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(
                [str(EVENTS), *filter(None, [os.environ.get("PYTHONPATH")])]
            ),
            "SLIC_EVENTS": str(self._aside / "events"),
            "SLIC_EVENTS_UNDER": str(folder.resolve()),
            **(kill.environment() if kill else {}),
        }
        self.begin = time.monotonic()
        with (self._aside / "out").open("wb") as out, (self._aside / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *entry, *words],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Return what it has printed on stderr so far."""
        return (self._aside / "err").read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float = LONGEST_S) -> bool:
        """Wait for a condition; return whether it came before the command's end."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.02)
        return condition()

    def send(self, number: int, *, group: bool) -> None:
        """Send a signal to the main process, or to all of the group as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)

    def ended(self, *, timeout_s: float = LONGEST_S) -> Ended:
        """Wait for the end of all processes; kill those left behind after a while."""
        try:
            code = self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGKILL, group=True)
            code = self.process.wait()
            raise AssertionError(f"not done in {timeout_s:g} s: {self.said[-2000:]}") from None
        end = time.monotonic()
        while _alive(self.process.pid) and time.monotonic() - end < LEAVE_S:
            time.sleep(0.02)
        left = _alive(self.process.pid)
        if left:
            self.send(signal.SIGKILL, group=True)
        counter = self._aside / "events"
        events = counter.read_text() if counter.exists() else ""
        out, err = ((self._aside / n).read_text(errors="replace") for n in ("out", "err"))
        for path in self._aside.iterdir():
            path.unlink()
        self._aside.rmdir()
        return Ended(code, out, err, end - self.begin, events, left)


def _alive(group: int) -> bool:
    """Return whether a process of a group is alive; zombies are not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return any(_runs(stat, group) for stat in Path("/proc").glob("[0-9]*/stat"))
    return False


def _runs(stat: Path, group: int) -> bool:
    with contextlib.suppress(OSError):
        state, _, leader = stat.read_text().rpartition(")")[2].split()[:3]
        return int(leader) == group and state != "Z"
    return False


def run(
    words: Sequence[str],
    folder: Path,
    *,
    kill: Kill | None = None,
    entry: Sequence[str] = SLIC,
) -> Ended:
    """Run a command to its end, or to where it is killed."""
    running = Running(words, folder, kill=kill, entry=entry)
    if kill is not None and kill.after_s is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.process.wait(timeout=kill.after_s)
        running.send(signal.SIGKILL, group=kill.whom == "all")
    return running.ended()
