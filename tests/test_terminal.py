"""Commands in a real terminal of 80 columns, in a pipe, and under a shell's completion."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

COLUMNS, LINES = 80, 40
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
SLIC = (sys.executable, "-m", "slic.cli")


def terminal(*words: str, program: tuple[str, ...] = SLIC, **environment: str) -> tuple[int, str]:
    """Run a command on a terminal of 80 columns: exit code, and all that it was sent."""
    surroundings = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    surroundings |= {"TERM": "xterm-256color", **environment}
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    child = subprocess.Popen(
        [*program, *words], stdin=its, stdout=its, stderr=its, env=surroundings, close_fds=True
    )
    os.close(its)
    sent = b""
    try:
        while part := os.read(ours, 1 << 16):
            sent += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    return child.wait(timeout=60), sent.decode()


def on_screen(sent: str) -> list[str]:
    """All that stood on a line at some time; `[2K` empties a line."""
    return CONTROL.sub("", re.sub(r"\r|\n|\x1b\[2K", "\n", sent)).split("\n")


def piped(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    surroundings = {key: value for key, value in os.environ.items() if key != "COLUMNS"}
    return subprocess.run(
        [*SLIC, *words],
        capture_output=True,
        text=True,
        timeout=120,
        env=surroundings | environment,
    )


BAR = """
from slic.runtime.console import say
from slic.runtime.progress import progress
with progress({total}, "{what}", unit="{unit}") as advance:
    for part in range(4):
        advance({total} // 4, {units})
        say("a note that is longer than a line, word by word, and names " + "x/" * 50 + "end.h5")
"""


@pytest.mark.parametrize(
    ("total", "what", "unit", "units"),
    [(240_000, "linear-augmented", "clips", 9e4), (4, "flow", "MB", 0)],
)
def test_progress_fits_a_line_with_rate_and_time(
    total: int, what: str, unit: str, units: float
) -> None:
    script = BAR.format(total=total, what=what, unit=unit, units=units)
    code, sent = terminal(program=(sys.executable, "-c", script))
    assert code == 0, sent
    lines = on_screen(sent)
    bars = [line for line in lines if line.startswith(f"{what} ")]
    assert max(map(cell_len, bars)) <= COLUMNS
    assert f"{total}/{total}" in bars[-1]
    assert re.search(rf"[\d,]+ {unit}/s +\d+:\d\d:\d\d *$", bars[-1])
    # Notes are broken between words alone.
    assert "x/" * 50 + "end.h5" in lines
    assert max(cell_len(line) for line in lines if "x/" not in line) <= COLUMNS


@pytest.mark.parametrize("kind", [{"TERM": "dumb"}, {"TERM": "unknown"}])
def test_a_terminal_that_knows_no_control_codes_gets_none(kind: dict[str, str]) -> None:
    script = BAR.format(total=4, what="embed", unit="clips", units=1)
    code, sent = terminal(program=(sys.executable, "-c", script), **kind)
    assert code == 0
    assert "\x1b" not in sent
    assert "embed: 4/4" in sent


COMMANDS = (
    ("eval", "retrieve", "--per-class", "--split", "all", "--workers", "0"),
    ("cache", "list"),
    ("cache", "export", "--overwrite", "--workers", "0"),
)


def test_commands_fit_a_terminal(work: Path) -> None:
    for words in COMMANDS:
        code, sent = terminal(*words)
        assert code == 0, sent
        # Paths longer than a line are not broken.
        short = [line for line in on_screen(sent) if max(map(len, line.split()), default=0) < 60]
        assert max(map(cell_len, short)) <= COLUMNS
        assert "…" not in sent


def test_pipes_get_plain_lines_and_json_alone(work: Path) -> None:
    words = ("cache", "export", "--overwrite", "--workers", "0")
    for more in ((), ("--json",)):
        done = piped(*words, *more)
        assert done.returncode == 0
        assert not {"\x1b", "\r"} & set(done.stdout + done.stderr)
    assert json.loads(done.stdout)["videos"] == 24
    assert done.stdout.count("\n") == 1


def test_no_colour(work: Path) -> None:
    words = ("eval", "retrieve", "--per-class", "--workers", "0")
    assert COLOUR.search(terminal(*words)[1])  # of the progress bar
    for command in (words, ("prep", "flow", "--help"), ("eval", "retrieve", "--kk")):
        _, sent = terminal(*command, NO_COLOR="1")
        assert not COLOUR.search(sent)


@pytest.mark.parametrize(
    "words",
    [("train",), ("search",)],
    ids=" ".join,
)
def test_help_fits_80_columns(words: tuple[str, ...]) -> None:
    code, sent = terminal(*words, "--help")
    assert code == 0
    assert max(map(cell_len, on_screen(sent))) <= COLUMNS


# Completion, as the shells' scripts ask for it.

COMPLETED = {
    "slic ev": ["eval"],
    "slic cache ": ["verify", "list", "export", "clean"],
    "slic eval classify --mode ": ["linear", "linear-augmented", "finetune"],
    "slic prep flow --eng": ["--engine"],
    "slic eval retrieve --run ": ["one-1", "two-1"],
    "slic eval retrieve --run t": ["two-1"],
    "slic eval retrieve --store ": ["a.zarr", "b.zarr"],
    "slic train ": ["a.zarr", "b.zarr"],
    "slic train sub/": ["sub/c.zarr"],
    "slic train --preset cpu": ["cpu-small"],
    "slic cache verify ": ["a.zarr", "b.zarr", "one-1", "two-1"],
    "slic cache export ": ["runs/two-1/embeddings/a.h5"],
    "slic eval retrieve --device cu": ["cuda", "cuda:0"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for run in ("one-1", "two-1", "line\nbreak"):
        (tmp_path / "runs" / run / "embeddings").mkdir(parents=True)
        (tmp_path / "runs" / run / "config.toml").touch()
    (tmp_path / "runs/two-1/embeddings/a.h5").touch()
    (tmp_path / "runs/no-run").mkdir()
    for store in ("a.zarr", "b.zarr", "sub/c.zarr"):
        (tmp_path / store).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMPLETE = """
import contextlib, io, json, os, sys
import slic.cli
found = {}
for line in json.loads(sys.argv.pop()):
    words = len(line.split(" ")) - 1
    os.environ |= {"COMP_WORDS": line, "COMP_CWORD": str(words), "_TYPER_COMPLETE_ARGS": line}
    sys.argv, out = ["slic"], io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        slic.cli.main()
    found[line] = [text for text in out.getvalue().splitlines() if text]
assert not {"torch", "numpy", "h5py"} & sys.modules.keys()
print(json.dumps(found))
"""


def completed(*lines: str, shell: str = "bash") -> dict[str, list[str]]:
    """What a shell is offered for each line, from one process that may not import torch."""
    variables = {"_SLIC_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE, json.dumps(lines)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | variables,
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_bash_and_zsh_complete(folder: Path) -> None:
    assert completed(*COMPLETED) == COMPLETED
    (found,) = completed("slic eval retrieve --run ", shell="zsh").values()
    assert "one-1" in "".join(found)
