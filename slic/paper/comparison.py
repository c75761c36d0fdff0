"""Our figures beside published ones: statistics, and the table as lines and as Markdown."""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slic.published import Row
from slic.runtime.disk import atomic_write


def compared(
    row: Row, ours: Mapping[str, Sequence[float]], *, ours_by: str, needs: str | None
) -> dict[str, Any]:
    """Compare our figures with a row of the paper.

    Args:
        row: The row.
        ours: For each column the fractions of all seeds; empty if there are none.
        ours_by: Our network, objective and data.
        needs: Why the row is missing or incomplete, or None.

    Returns:
        method, network, published (percent by column); of ours ours_by, ours (for each column
        mean, spread and values in percent) and difference of the means in points, or None, None
        and {}; and needs.
    """
    figures = {column: summary(fractions) for column, fractions in ours.items()}
    return {
        "method": row.method,
        "network": row.network,
        "published": row.published,
        "ours_by": ours_by if figures else None,
        "ours": figures or None,
        "difference": {
            column: figures[column]["mean"] - published
            for column, published in row.published.items()
            if column in figures
        },
        "needs": needs,
    }


def summary(fractions: Sequence[float]) -> dict[str, Any]:
    """Return mean, sample standard deviation (None for one value) and values, in percent."""
    values = [100 * value for value in fractions]
    spread = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": sum(values) / len(values), "spread": spread, "values": values}


def lines(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yield the cells of each line; rows of ours have three: published, ours and difference."""
    columns = result["columns"]
    for row in result["rows"]:
        published = [_figure(row["published"].get(column)) for column in columns]
        yield [f"{row['method']}, {row['network']}", *published]
        if row["ours"]:
            ours = [row["ours"].get(column) for column in columns]
            yield [f"  ours: {row['ours_by']}", *map(_with_spread, ours)]
            changes = [row["difference"].get(column) for column in columns]
            yield ["  difference", *(_figure(change, sign="+") for change in changes)]


def markdown(result: Mapping[str, Any]) -> str:
    """Format the lines as a Markdown table, with title and note."""
    rows = [["percent", *result["columns"]], ["---"] * (1 + len(result["columns"]))]
    rows += [[cell.strip() for cell in line] for line in lines(result)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    seeds = ", ".join(map(str, result["seeds"]))
    return f"{result['title']}\n\n{result['note']}; seeds {seeds}\n\n{table}\n"


def _figure(value: float | None, *, sign: str = "") -> str:
    return "-" if value is None else format(value, f"{sign}.1f")


def _with_spread(ours: Mapping[str, Any] | None) -> str:
    if ours is None:
        return "-"
    spread = "" if ours["spread"] is None else f"±{ours['spread']:.1f}"
    return f"{ours['mean']:.1f}{spread}"


def write_comparison(result: Mapping[str, Any]) -> list[str]:
    """Write a result to this folder as JSON and as Markdown, and return the files' names."""
    stem = f"reproduce-{result['table']}-{result['scale']}"
    texts = {f"{stem}.json": json.dumps(result, indent=2) + "\n", f"{stem}.md": markdown(result)}
    for name, text in texts.items():
        with atomic_write(Path(name)) as file:
            file.write(text.encode())
    return list(texts)
