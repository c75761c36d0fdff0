"""What the fuzz tests share: mutations, what counts as documented, and loops that count."""

import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slic.errors import SlicError

Case = Callable[[Path, random.Random], str]
Make = Callable[[Path], None]

MEMORY = 24 << 30  # bytes of addresses of a process that fuzzes: torch alone takes some
CASE_SECONDS = 60
LONGEST_LINE = 6000  # characters: the paths of a test are long
NASTY: list[Any] = [
    None,
    True,
    -1,
    0,
    2**31,
    2**63,
    10**30,
    -(10**400),
    0.5,
    "@inf@",
    "@nan@",
    "@deep@",
    "",
    "x",
    "../../x",
    "/etc/passwd",
    "a\nb",
    "\x1b[31m\x00",
    "long " * 5000,
    [],
    {},
    [[], {}],
    [1, 2, 3, 4],
    {"a": {"b": [None]}},
]


def outcome(call: Callable[[], object]) -> str:
    """`accepted`, or `refused` by a documented error of one line; others are raised."""
    try:
        call()
    except SlicError as error:
        said = str(error)
    else:
        return "accepted"
    assert said.splitlines() == [said], f"several lines: {said!a}"
    assert said.isprintable(), f"not printable: {said!a}"
    assert len(said) < LONGEST_LINE, f"a message of {len(said)} characters: {said[:200]!a}"
    return "refused"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes with bits flipped, or a piece cut, overwritten, repeated or put in."""
    changed = bytearray(data)
    kind = rng.randrange(7)
    size = len(changed)
    begin = rng.randrange(size + 1)
    end = min(size, begin + rng.choice([1, 2, 4, 8, 64, 1000]))
    if kind <= 1 and size:
        for _ in range(rng.choice([1, 1, 2, 8])):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        del changed[begin:]
    elif kind == 3:
        changed[begin:end] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * (end - begin)
    elif kind == 4:
        changed[begin:end] = rng.randbytes(end - begin)
    elif kind == 5:
        del changed[begin:end]
    else:
        changed[begin:begin] = changed[begin:end] or rng.randbytes(5)
    return bytes(changed)


def changed_somewhere(value: Any, rng: random.Random, nasty: list[Any] = NASTY) -> Any:
    """A document with one value in it replaced, left out or added."""
    inner = list(value) if isinstance(value, dict) else None
    if isinstance(value, list):
        inner = list(range(len(value)))
    if not inner or rng.random() < 0.15:
        return rng.choice(nasty)
    key = rng.choice(inner)
    copy = value.copy()
    if rng.random() < 0.15:
        del copy[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        copy[rng.choice(["x", "", "a\nb"])] = rng.choice(nasty)
    else:
        copy[key] = changed_somewhere(value[key], rng, nasty)
    return copy


def as_json(document: Any) -> bytes:
    """JSON of a document in which marks stand for what Python would not write."""
    text = json.dumps(document)
    text = text.replace('"@inf@"', "1e999").replace('"@nan@"', "NaN")
    return text.replace('"@deep@"', "[" * 100_000).encode()


def fuzz(make: Make, case: Case, *, examples: int) -> Callable[[], None]:
    """A test of so many cases, which are the same each time."""

    def test() -> None:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))

            @settings(
                max_examples=examples,
                derandomize=True,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.integers(0, 2**32))
            def run(seed: int) -> None:
                assert case(Path(folder), random.Random(seed)) in ("accepted", "refused")

            run()

    return test


def soak(make: Make, case: Case, *, seed: int, minutes: float) -> dict[str, Any]:
    """Cases for so many minutes, in a child of bounded memory that may die of one.

    Returns:
        cases, refused, accepted, and unexpected: a line for each that ended otherwise.
    """
    counts: dict[str, Any] = {"cases": 0, "refused": 0, "accepted": 0, "unexpected": []}
    context = multiprocessing.get_context("spawn")
    end = time.monotonic() + 60 * minutes
    number = seed * 10_000_000
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        while time.monotonic() < end:
            mine, theirs = context.Pipe()
            args = (theirs, case, folder, number, end)
            child = context.Process(target=_cases, args=args)
            child.start()
            theirs.close()
            number = _count(mine, child, counts, number)
    return counts


def _count(mine: Any, child: Any, counts: dict[str, Any], number: int) -> int:
    """Take a child's outcomes until it ends; the number of the next case."""
    try:
        while mine.poll(CASE_SECONDS):
            number, found = mine.recv()
            if found is None:
                break
            counts["cases"] += 1
            if found in ("refused", "accepted"):
                counts[found] += 1
            else:
                counts["unexpected"].append(f"case {number}: {found}")
            number += 1
        else:
            counts["unexpected"].append(f"case {number}: took over {CASE_SECONDS} s")
            child.kill()
            number += 1
    except EOFError:
        child.join()
        counts["unexpected"].append(f"case {number}: the process ended with {child.exitcode}")
        number += 1
    child.join()
    return number


def _cases(pipe: Any, case: Case, folder: str, number: int, end: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while time.monotonic() < end:
        try:
            found = case(Path(folder), random.Random(number))
        except BaseException as error:
            found = f"{type(error).__name__}: {str(error)[:300]!a}"
        pipe.send((number, found))
        number += 1
    pipe.send((number, None))
