"""Our figures beside published ones: summaries, and the table as lines and as Markdown."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slic.published import Row
from slic.runtime.disk import atomic_write


def compared(
    row: Row, ours: Mapping[str, Sequence[float]], *, ours_by: str, needs: str | None
) -> dict[str, Any]:
    """One row of a result.

    Args:
        row: of the paper's table.
        ours: fractions of each seed, by column; empty where there are none.
        ours_by: network, objective and data of ours.
        needs: what was missing to make the row, or None.

    Returns:
        method, network, published (percent by column), and of ours: ours_by, ours (mean, spread
        and values in percent by column) and difference of the means (points), or None and {};
        and needs.
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
    """Mean, standard deviation (of a sample; None of a single one) and values, in percent."""
    values = [100 * value for value in fractions]
    mean = sum(values) / len(values)
    spread = None
    if len(values) > 1:
        spread = (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
    return {"mean": mean, "spread": spread, "values": values}


def lines(result: Mapping[str, Any]) -> Iterator[list[str]]:
    """The table to print, three lines for a row of ours: published, ours, and the difference."""
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
    """The same as a Markdown table."""
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
    """Write a result here as JSON and as Markdown, each whole; the files' names."""
    stem = f"reproduce-{result['table']}-{result['scale']}"
    texts = {f"{stem}.json": json.dumps(result, indent=2) + "\n", f"{stem}.md": markdown(result)}
    for name, text in texts.items():
        with atomic_write(Path(name)) as file:
            file.write(text.encode())
    return list(texts)
