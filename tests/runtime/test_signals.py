"""Ctrl-C and SIGTERM between two items."""

import signal
import subprocess
import sys
import threading

import pytest

from slic.runtime import signals as stopping
from slic.runtime.signals import STOPPING, defer_stops, exit_code_of_stop, stop_on_signals


@pytest.fixture(autouse=True)
def handlers(signals: None) -> None:
    """A command's handlers."""
    stop_on_signals()


def handled() -> None:
    """Python handles a signal no later than where it next enters a function of its own."""


def block(*numbers: signal.Signals, reached: list[int]) -> None:
    """A held block that is stopped after each of its steps."""
    with defer_stops():
        for step, number in enumerate(numbers):
            reached.append(step)
            signal.raise_signal(number)
            handled()
        reached.append(len(numbers))


@pytest.mark.parametrize("number", STOPPING)
def test_a_held_stop_comes_when_the_block_is_done(number):
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        block(number, reached=reached)
    assert reached == [0, 1]
    assert exit_code_of_stop() == 128 + number


@pytest.mark.parametrize("first", STOPPING)
@pytest.mark.parametrize("second", STOPPING)
def test_a_second_stop_is_not_held(monkeypatch, first, second):
    monkeypatch.setattr(stopping, "SAME_STOP_S", 0.0)
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        block(first, second, reached=reached)
    assert reached == [0, 1]


def test_a_stop_sent_twice_within_a_second_is_one(monkeypatch):
    monkeypatch.setattr(stopping, "SAME_STOP_S", 60.0)
    reached: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        block(signal.SIGTERM, signal.SIGTERM, reached=reached)
    assert reached == [0, 1, 2]


def test_an_error_within_is_not_hidden_by_a_stop():
    def fail() -> None:
        with defer_stops():
            signal.raise_signal(signal.SIGTERM)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()


def test_blocks_within_blocks_stop_at_the_end_of_the_outermost():
    reached: list[int] = []

    def outer() -> None:
        with defer_stops():
            block(signal.SIGINT, reached=reached)
            reached.append(7)

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert reached == [0, 1, 7]


def test_handlers_are_as_before():
    before = [signal.getsignal(number) for number in STOPPING]
    with defer_stops():
        pass
    assert [signal.getsignal(number) for number in STOPPING] == before


def test_other_threads_hold_nothing():
    done: list[bool] = []

    def work() -> None:
        with defer_stops():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_without_a_handler_of_ours_sigterm_still_ends_the_process():
    code = (
        "import signal\n"
        "from slic.runtime.signals import defer_stops\n"
        "with defer_stops():\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    print('whole', flush=True)\n"
        "print('never')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "whole\n"
    assert done.returncode == -signal.SIGTERM
