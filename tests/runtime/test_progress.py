"""Progress lines, in a pipe and on a terminal."""

import io
import sys

import pytest

from slic.runtime.progress import format_duration, progress, stderr_console


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (42.4, "42 s"),
        (59.6, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (5 * 3600 + 150, "5 h 02 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_clock(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("slic.runtime.progress.time.monotonic", fake)
    return fake


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    stderr_console().print("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_plain_lines_every_half_minute_and_at_the_end(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(10, "frames", unit="frames") as advance:
        said = []
        for _ in range(10):
            time.now += 10
            advance(1, 200)
            said.append(capsys.readouterr().err)
    # 3 of 10 after 30 s: 20 frames a second, and 70 s to go.
    assert said[:3] == ["", "", "frames: 3/10, 20 frames/s, 1 min 10 s left\n"]
    assert said[3:6] == ["", "", "frames: 6/10, 20 frames/s, 40 s left\n"]
    assert said[6:] == [
        "",
        "",
        "frames: 9/10, 20 frames/s, 10 s left\n",
        "frames: 10/10, 20 frames/s\n",
    ]


def test_where_units_are_known_the_time_left_goes_by_them(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(2, "flow", unit="pairs", units=1000) as advance:
        said = []
        for videos, pairs in ((0, 0), (0, 100), (0, 100), (1, 0), (0, 600), (1, 0)):
            time.now += 30
            advance(videos, pairs)
            said.append(capsys.readouterr().err)
    # Nothing is done after 30 s; then 100 of 1,000 after 60 s, 200 after 90 s; the last video
    # fails before its end, and nothing is left.
    assert said == [
        "flow: 0/2, 0 pairs/s\n",
        "flow: 0/2, 2 pairs/s, 9 min 00 s left\n",
        "flow: 0/2, 2 pairs/s, 6 min 00 s left\n",
        "flow: 1/2, 2 pairs/s, 8 min 00 s left\n",
        "flow: 1/2, 5 pairs/s, 37 s left\n",
        "flow: 2/2, 4 pairs/s\n",
    ]


def test_several_videos_at_once_and_no_time_at_all(
    time: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress(3, "embed") as advance:
        advance(3, 0)
    assert capsys.readouterr().err == "embed: 3/3, 0 videos/s\n"


def test_nothing_to_do_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(0, "frames"):
        pass
    assert capsys.readouterr() == ("", "")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with progress(4, "frames", unit="frames") as advance:
        for _ in range(4):
            advance(1, 50)
    text = terminal.getvalue()
    assert "frames" in text
    assert "4/4" in text
    assert "100%" in text
    assert "frames/s" in text
    assert capsys.readouterr().out == ""
