"""Ctrl-C and SIGTERM stop work between two items, not within one."""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)
# `timeout` and schedulers signal the process and then its group: that is one stop, not two.
SAME_STOP_S = 1.0
_received: list[int] = []
_received_at = 0.0


def stop_on_signals() -> None:
    """Let SIGTERM raise KeyboardInterrupt as Ctrl-C does; for the main thread of a command.

    Another one, more than a second later, ends the process at once, as a SIGKILL would. What the
    shell has told this process to ignore stays ignored.
    """
    if threading.current_thread() is threading.main_thread():
        for number in _heeded():
            signal.signal(number, _interrupt)


def exit_code_of_stop() -> int:
    """What a stopped command exits with: 128 and the number of the signal, as shells do."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _heeded() -> dict[int, Any]:
    """How this process answers to each signal that is to stop it, but for those it ignores."""
    found = {number: signal.getsignal(number) for number in STOPPING}
    return {n: handler for n, handler in found.items() if handler not in (signal.SIG_IGN, None)}


def _interrupt(number: int, _frame: FrameType | None) -> None:
    global _received_at
    now = time.monotonic()
    if not _received:
        _received.append(number)
        _received_at = now
        raise KeyboardInterrupt
    if now - _received_at > SAME_STOP_S:
        os._exit(exit_code_of_stop())


@contextmanager
def defer_stops() -> Iterator[Callable[[], bool]]:
    """Hold Ctrl-C and SIGTERM back until the block is done; a second one, later, is not held.

    Only the main thread receives signals: in other threads nothing is held.

    Yields:
        A function that says whether the block has been asked to stop.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked: list[tuple[int, float]] = []
    before = _heeded()

    def release() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        asked.append((number, now))
        if now - asked[0][1] > SAME_STOP_S:
            release()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(asked)
    finally:
        release()
    if asked:
        signal.raise_signal(asked[0][0])


PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent, so that a killed run leaves no children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
