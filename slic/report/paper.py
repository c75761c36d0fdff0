"""The paper's figures beside a run's, where the run's preset is one of the paper's."""

from collections.abc import Mapping
from typing import Any

from slic.published import ABLATION, CLASSIFICATION, RETRIEVAL, Table
from slic.runs import Run

TABLE_OF = {
    "ucf101-16f": ABLATION,
    "ucf101-32f": RETRIEVAL,
    "kinetics400-16f": CLASSIFICATION,
    "kinetics400-32f": CLASSIFICATION,
}
# In the table of classification: whichever there is, the better one.
CLASSIFIED = ("finetune", "linear-augmented", "linear")


def paper(
    run: Run,
    *,
    store: str,
    recall: Mapping[int, float],
    top1: Mapping[str, float],
    changed: list[str],
    trained: str,
) -> dict[str, Any] | None:
    """The section `paper` of a report: the table that fits the preset, and this run in its own row.

    Args:
        run: whose preset counts.
        store: name of the store that was evaluated.
        recall: fractions by k.
        top1: fractions by mode of `slic eval classify`.
        changed: names of the settings that differ from the preset's.
        trained: how far, for the note.

    Returns:
        title, columns, note, rows (method, network, own, published, ours; in percent by column);
        None where the preset is another, or nothing was measured.
    """
    table = TABLE_OF.get(run.preset)
    if table is None:
        return None
    ours = _ours(table, store, recall, top1)
    if not ours:
        return None
    rows = [
        _row(row.method, row.network, own=False, columns=table.columns, figures=row.published)
        for row in table.rows
    ]
    own = _row("this run", f"{run.settings.encoder}, {store}", own=True, columns=table.columns)
    own["ours"] = [ours.get(column) for column in table.columns]
    return {
        "title": table.title,
        "columns": list(table.columns),
        "note": _note(store, changed, trained),
        "rows": [*rows, own],
    }


def _ours(
    table: Table, store: str, recall: Mapping[int, float], top1: Mapping[str, float]
) -> dict[str, float]:
    """Percent by column; which data set a store holds, only its name can say."""
    data = "HMDB51" if "hmdb" in store.lower() else "UCF101"
    if table is CLASSIFICATION:
        mode = next((mode for mode in CLASSIFIED if mode in top1), None)
        return {} if mode is None else {f"{data} top-1": 100 * top1[mode]}
    return {f"{data} R@{k}": 100 * recall[k] for k in (1, 5) if k in recall}


def _row(
    method: str,
    network: str,
    *,
    own: bool,
    columns: tuple[str, ...],
    figures: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    published = [(figures or {}).get(column) for column in columns]
    nothing = [None] * len(columns)
    return {
        "method": method,
        "network": network,
        "own": own,
        "published": published,
        "ours": nothing,
    }


def _note(store: str, changed: list[str], trained: str) -> str:
    other = f"; other settings than the preset's: {', '.join(changed)}" if changed else ""
    return (
        f"In percent; rows but the last are as published. This run: {trained}{other}. Its figures"
        f" are of the store {store}: they compare with the paper's only if that holds the data set"
        " and the split that the column names."
    )
