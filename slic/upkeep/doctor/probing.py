"""Runs the probes of `slic doctor` in child processes, which may hang or die."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 90.0  # of one probe; the first import of PyTorch from a cold disk takes long


@dataclass(frozen=True)
class Answer:
    """What a probe found: its value, or in one line why it failed."""

    value: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def probe(
    names: Sequence[str], *, limit_s: float = LIMIT_S, advance: Callable[[int, float], None]
) -> dict[str, Answer]:
    """Answers of probes by name, as the module `probes` knows them; in one process while it lives.

    Args:
        names: in this order.
        limit_s: seconds for each, after which its process is killed.
        advance: called with (1, 1) after each.
    """
    answers: dict[str, Answer] = {}
    with tempfile.TemporaryDirectory(prefix="slic-doctor-") as folder:
        while left := names[len(answers) :]:
            for answer in _answers(left, folder, limit_s):
                answers[names[len(answers)]] = answer
                advance(1, 1)
    return answers


def _answers(names: Sequence[str], folder: str, limit_s: float) -> Iterator[Answer]:
    """Answers of one process, up to the probe that ends it; at least one."""
    child = subprocess.Popen(
        # The current folder may hold a file that is named like a package.
        [sys.executable, "-P", "-m", "slic.upkeep.doctor.probes", *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": folder},
    )
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reading = threading.Thread(target=_read, args=(child, lines), daemon=True)
    reading.start()
    try:
        for _ in names:
            answer, lives = _answer(child, lines, limit_s)
            yield answer
            if not lives:
                return
    finally:
        child.kill()
        child.wait()
        reading.join(timeout=1)


def _read(child: subprocess.Popen[bytes], lines: "queue.SimpleQueue[bytes]") -> None:
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put(b"")


def _answer(
    child: subprocess.Popen[bytes], lines: "queue.SimpleQueue[bytes]", limit_s: float
) -> tuple[Answer, bool]:
    try:
        line = lines.get(timeout=limit_s)
    except queue.Empty:
        return Answer(error=f"no answer in {limit_s:g} s"), False
    try:
        return Answer(**json.loads(line)), True
    except (ValueError, TypeError):
        return Answer(error=_death(child.wait())), False


def _death(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended its process (exit code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed its process ({name})"
