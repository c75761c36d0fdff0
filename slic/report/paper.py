"""The paper's figures and a run's, if the run's preset is one of the paper's."""

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
# In the table of classification, the first of these that was measured.
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
    """Build the section `paper`: the table that belongs to the preset, with a row for this run.

    Args:
        run: the run.
        store: name of the store that was evaluated.
        recall: recall by k, as fractions.
        top1: accuracy by mode of `slic eval classify`, as fractions.
        changed: names of the settings that differ from the preset's.
        trained: how far the run is trained, for the note.

    Returns:
        title, columns, note and rows (method, network, own, published, ours; in percent by
        column); None with another preset, or if nothing was measured.
    """
    table = TABLE_OF.get(run.preset)
    ours = {} if table is None else _ours(table, store, recall, top1)
    if table is None or not ours:
        return None
    nothing = [None] * len(table.columns)
    rows: list[dict[str, Any]] = [
        {
            "method": row.method,
            "network": row.network,
            "own": False,
            "published": [row.published.get(column) for column in table.columns],
            "ours": nothing,
        }
        for row in table.rows
    ]
    own = {"method": "this run", "network": f"{run.settings.encoder}, {store}", "own": True}
    own |= {"published": nothing, "ours": [ours.get(column) for column in table.columns]}
    other = f"; settings that differ from the preset: {', '.join(changed)}" if changed else ""
    note = (
        f"In percent; all rows but the last are as published. This run: {trained}{other}. It was"
        f" evaluated on the store {store}: compare its row with the paper's only if that store"
        " holds the data set and the split named by the column."
    )
    columns = list(table.columns)
    return {"title": table.title, "columns": columns, "note": note, "rows": [*rows, own]}


def _ours(
    table: Table, store: str, recall: Mapping[int, float], top1: Mapping[str, float]
) -> dict[str, float]:
    """Return percent by column; only the name of a store says which data set it holds."""
    data = "HMDB51" if "hmdb" in store.lower() else "UCF101"
    if table is CLASSIFICATION:
        mode = next((mode for mode in CLASSIFIED if mode in top1), None)
        return {} if mode is None else {f"{data} top-1": 100 * top1[mode]}
    return {f"{data} R@{k}": 100 * recall[k] for k in (1, 5) if k in recall}
