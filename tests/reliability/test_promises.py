"""docs/reliability.md names tests that exist, and for each promise one that `make test` runs."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions_of(file: Path) -> dict[str, bool]:
    """Return the tests of a file, and whether each is slow."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found: dict[str, bool] = {}
    all_slow = False
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            marks = [ast.unparse(mark).partition("(")[0] for mark in node.decorator_list]
            found[node.name] = any(mark.split(".")[-1] == "slow" for mark in marks)
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            found |= dict.fromkeys(names, False)
            all_slow |= "pytestmark" in names and "slow" in ast.unparse(node.value)
    return {name: slow or all_slow for name, slow in found.items()}


def problems(page: str, folder: Path) -> Iterator[str]:
    """Yield what is wrong with the tables of a page of promises."""
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    for promise, tests in (row for row in rows if row[0].strip() != "promise"):
        named = NAME.findall(tests)
        slow = []
        for file, name in named:
            known = functions_of(folder / file) if (folder / file).exists() else {}
            if name not in known:
                yield f"{file}::{name} does not exist"
            slow.append(known.get(name, True))
        if all(slow):
            yield f"no fast test for: {promise.strip()}"


def test_every_promise_has_tests() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert len(NAME.findall(page)) > 40
    assert list(problems(page, TESTS)) == []
