"""What the fuzz tests share: mutations, documented outcomes, and loops over random cases."""

import contextlib
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slic.errors import SlicError

Case = Callable[[Path, random.Random], str]
Make = Callable[[Path], None]

MEMORY = 24 << 30  # bytes of address space of a fuzzing process; torch alone takes several GiB
CASE_SECONDS = 60
LONGEST_LINE = 6000  # characters: the paths of a test are long
NASTY: list[Any] = [
    *(None, True, -1, 0, 2**63, 10**30, 0.5, "@inf@", "@nan@", "@deep@", "", "x", "../../x"),
    *("/etc/passwd", "a\nb", "\x1b[31m\x00", "long " * 5000, [], {}, [[]], {"a": {"b": [None]}}),
]


def outcome(call: Callable[[], object]) -> str:
    """Return `accepted`, or `refused` for a documented error of one line; raise other errors."""
    try:
        call()
    except SlicError as error:
        said = str(error)
    else:
        return "accepted"
    assert said.isprintable(), f"not one printable line: {said!a}"
    assert len(said) < LONGEST_LINE, f"a message of {len(said)} characters: {said[:200]!a}"
    return "refused"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Flip bits, or cut, overwrite, repeat or insert a part."""
    changed = bytearray(data)
    size = len(changed)
    begin = rng.randrange(size + 1)
    end = min(size, begin + rng.choice([1, 2, 4, 8, 64, 1000]))
    kind = rng.choice(["flip", "flip", "truncate", "fill", "random", "cut", "repeat"])
    if kind == "flip" and size:
        for _ in range(rng.choice([1, 1, 2, 8])):
            changed[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif kind == "truncate":
        del changed[begin:]
    elif kind == "fill":
        changed[begin:end] = rng.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * (end - begin)
    elif kind == "random":
        changed[begin:end] = rng.randbytes(end - begin)
    elif kind == "cut":
        del changed[begin:end]
    else:
        changed[begin:begin] = changed[begin:end] or rng.randbytes(5)
    return bytes(changed)


def changed_somewhere(value: Any, rng: random.Random) -> Any:
    """Replace, remove or add one value somewhere in a document."""
    inner: list[Any] = []
    if isinstance(value, (dict, list)):
        inner = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not inner or rng.random() < 0.15:
        return rng.choice(NASTY)
    key, copy = rng.choice(inner), value.copy()
    if rng.random() < 0.15:
        del copy[key]
    elif isinstance(value, dict) and rng.random() < 0.1:
        copy[rng.choice(["x", "", "a\nb"])] = rng.choice(NASTY)
    else:
        copy[key] = changed_somewhere(value[key], rng)
    return copy


def as_json(document: Any) -> bytes:
    """Encode a document in which marks stand for what Python would not write."""
    text = json.dumps(document)
    text = text.replace('"@inf@"', "1e999").replace('"@nan@"', "NaN")
    return text.replace('"@deep@"', "[" * 100_000).encode()


def fuzz(make: Make, case: Case, *, examples: int) -> Callable[[], None]:
    """Return a test of that many cases, the same each time."""

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
    """Run cases until the time is over, in a child of bounded memory that a case may kill.

    Returns:
        cases, refused, accepted, and unexpected: a line for each that ended otherwise.
    """
    counts: dict[str, Any] = {"cases": 0, "refused": 0, "accepted": 0, "unexpected": []}
    end = time.monotonic() + 60 * minutes
    numbers = iter(range(seed * 10_000_000, (seed + 1) * 10_000_000))
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        while time.monotonic() < end:
            with _child() as child:
                for number in numbers:
                    found = _outcome_in(child, case, Path(folder), number)
                    counts["cases"] += 1
                    if found in counts:
                        counts[found] += 1
                    else:
                        counts["unexpected"].append(f"case {number}: {found}")
                        break  # the child may be dead or stuck
                    if time.monotonic() > end:
                        break
    return counts


@contextlib.contextmanager
def _child() -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _limit_memory)
    processes = pool._processes
    try:
        yield pool
    finally:
        for process in list(processes.values()):
            process.kill()
        pool.shutdown(cancel_futures=True)


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _outcome_in(child: ProcessPoolExecutor, case: Case, folder: Path, number: int) -> str:
    try:
        return child.submit(_guarded, case, folder, number).result(timeout=CASE_SECONDS)
    except TimeoutError:
        return f"took over {CASE_SECONDS} s"
    except BrokenProcessPool:
        return "its process died"


def _guarded(case: Case, folder: Path, number: int) -> str:
    try:
        return case(folder, random.Random(number))
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:300]!a}"
