"""Run commands with a time limit that also ends the processes they start."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from common import Row


def run_in_time(
    command: Sequence[str], found: Path, *, limit_s: float, log: TextIO, env: dict[str, str]
) -> Row:
    """Run a command; at its time limit, kill it and all processes that it started.

    Args:
        command: writes what it has found so far, one JSON object, to `found`, and what is to be
            shown to stdout.
        found: need not come to be.
        limit_s: its time.
        log: takes what it writes to stderr.
        env: its environment.

    Returns:
        What it has found, and `status` (`ok`, `failed`, `skipped`, `timeout`), `seconds`,
        `reason` unless ok, and `shown`.
    """
    begin, start = time.monotonic(), log.tell()
    with open(found.with_suffix(".out"), "w+") as out:
        child = subprocess.Popen(
            command,
            stdout=out,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
        try:
            code = _wait(child, limit_s)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        row = {**_read(found), "seconds": time.monotonic() - begin, "shown": out.read()}
    log.flush()
    log.seek(0, os.SEEK_END)
    return {**row, **_outcome(code, row, limit_s, _last_line(Path(log.name), start))}


def _wait(child: subprocess.Popen, limit_s: float) -> int | None:
    """Return the exit code; None if the time limit was reached."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return child.wait(limit_s)
    return None


def _read(path: Path) -> Row:
    return json.loads(path.read_text()) if path.is_file() else {}


def _last_line(log: Path, start: int) -> str:
    with open(log, "rb") as file:
        file.seek(start)
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _outcome(code: int | None, row: Row, limit_s: float, last: str) -> Row:
    if code is None:
        return {"status": "timeout", "reason": f"not done after {limit_s:.0f} s"}
    if code:
        how = f"exit code {code}" if code > 0 else f"ended by signal {-code}"
        return {"status": "failed", "reason": f"{how}: {last}"}
    if "skipped" in row:
        return {"status": "skipped", "reason": row["skipped"]}
    return {"status": "ok"}
