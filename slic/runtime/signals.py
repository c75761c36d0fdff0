"""Ctrl-C and SIGTERM: work stops between two items, not within one."""

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
PR_SET_PDEATHSIG = 1  # of Linux's prctl
_received: list[int] = []
_received_at = 0.0


def stop_on_signals() -> None:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does; call it in a command's main thread.

    A second signal, more than a second later, ends the process at once. Signals that the shell has
    told this process to ignore stay ignored.
    """
    if _in_main_thread():
        for number in _handlers():
            signal.signal(number, _interrupt)


def exit_code_of_stop() -> int:
    """Return the exit code of a stopped command: 128 plus the signal's number, as in shells."""
    return 128 + (_received[0] if _received else signal.SIGINT)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _handlers() -> dict[int, Any]:
    """Return this process's handlers of the signals that it does not ignore."""
    handlers = {number: signal.getsignal(number) for number in STOPPING}
    return {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}


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
    if not _in_main_thread():
        yield lambda: False
        return
    received: list[tuple[int, float]] = []
    before = _handlers()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def remember(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        received.append((number, now))
        if now - received[0][1] > SAME_STOP_S:
            restore()
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: bool(received)
    finally:
        restore()
    if received:
        signal.raise_signal(received[0][0])


def die_with_parent() -> None:
    """Have Linux kill this process when its parent ends: a killed run leaves no children."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
