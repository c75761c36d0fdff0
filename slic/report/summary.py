"""Facts, main figures and settings of a run, and the videos of its store that failed."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slic.cache import Entry
from slic.config import make_settings
from slic.errors import SettingsError
from slic.metrics import recall_at_k
from slic.report.gallery import Neighbours
from slic.report.inputs import ReportInputs
from slic.runtime.text import counted

KS = (1, 5, 10)
CLASSIFIED = {
    "linear": "Linear layer, top-1",
    "linear-augmented": "Linear layer on augmented clips, top-1",
    "finetune": "Finetuned, top-1",
}
LISTED = 1000  # failed videos at most
LONGEST_REASON = 400  # characters
Section = dict[str, Any]


def facts(inputs: ReportInputs, labels: Mapping[str, str | None]) -> list[list[str]]:
    """Build the section `facts`: pairs of name and text; labels are by video id."""
    run, settings = inputs.run, inputs.run.settings
    clips = counted(settings.retrieval_clips, "clip")
    rows = {"run": run.path.resolve().name, "store": inputs.store_path.name}
    rows |= _of_store(inputs, labels)
    rows |= {"preset": run.preset, "encoder": settings.encoder}
    rows["clip"] = f"{settings.frames} frames, stride {settings.stride}, {settings.size} px"
    rows["compared by"] = f"{inputs.feature} embeddings, mean of {clips} per video"
    if settings.init:
        rows["weights from"] = settings.init.partition("@")[0]
    if not run.imported:
        finished = inputs.records is None or inputs.lines("done")
        rows["objective"] = settings.objective_in_words()
        rows["trained on"] = f"split {settings.split}"
        rows["trained"] = epochs_done(inputs) + ("" if finished else ", unfinished")
    return [[name, text] for name, text in rows.items()]


def _of_store(inputs: ReportInputs, labels: Mapping[str, str | None]) -> dict[str, str]:
    if not labels:
        ids = [] if inputs.clusterings is None else inputs.clusterings.ids
        return {"videos": f"{len(ids):,}, as clustered"} if ids else {}
    names = {label for label in labels.values() if label}
    without = sum(not label for label in labels.values())
    some = f", {without:,} videos without a label" if names and without else ""
    return {
        "videos": f"{len(labels):,}",
        "classes": f"{len(names):,}{some}" if names else "no labels",
    }


def epochs_done(inputs: ReportInputs) -> str:
    """Say how far a run is trained, such as `15 of 600 epochs`."""
    done = "an unknown number" if inputs.records is None else len(inputs.lines("epoch"))
    return f"{done} of {counted(inputs.run.settings.epochs, 'epoch')}"


def recall(inputs: ReportInputs, found: Neighbours | None) -> dict[int, float]:
    """Compute recall at 1, 5 and 10 as fractions of the queries; empty without labels."""
    if found is None or inputs.cache is None or inputs.cache.labels is None:
        return {}
    labels = inputs.cache.labels
    return recall_at_k(labels[found.queries], labels[found.neighbours], KS)


def top1(confusion: Sequence[Section]) -> dict[str, float]:
    """Compute the top-1 accuracy of each classifier in the section `confusion`, by mode."""
    shares = {}
    for section in confusion:
        cells = np.array(section["cells"], dtype=np.int64).reshape(-1, 3)
        right = cells[cells[:, 0] == cells[:, 1], 2]
        if section["key"] in CLASSIFIED and len(cells):
            shares[section["key"]] = float(right.sum() / cells[:, 2].sum())
    return shares


def figures(
    inputs: ReportInputs,
    found: Neighbours | None,
    *,
    confusion: Sequence[Section],
    clusters: Section | None,
) -> list[dict[str, str]]:
    """Build the section `figures`: name, text and note of the main results."""
    rows = []
    if found is not None:
        queries, gallery = len(found.queries), found.gallery_size
        note = (
            f"{counted(queries, 'test video')} among {counted(gallery, 'training video')},"
            f" split {inputs.split}; one video is {100 / queries:.2g} points"
        )
        for k, value in recall(inputs, found).items():
            rows.append((f"Recall at {k}", f"{100 * value:.1f} %", note))
    notes = {section["key"]: section["note"] for section in confusion}
    for mode, share in top1(confusion).items():
        rows.append((CLASSIFIED[mode], f"{100 * share:.1f} %", notes[mode]))
    last = (inputs.lines("clustering") or [{}])[-1]
    if is_number(last.get("nmi")):
        note = f"after epoch {last.get('epoch')}"
        rows.append(("NMI of clusters and labels", f"{last['nmi']:.3f}", note))
    if clusters is not None:
        note = f"of {counted(clusters['videos'], 'video')}, after epoch {clusters['epoch']}"
        rows.append(("Clusters", f"{clusters['count']:,}", note))
    return [{"name": name, "text": text, "note": note} for name, text, note in rows]


def is_number(value: Any) -> bool:
    """Whether a value from metrics.jsonl is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def settings(inputs: ReportInputs) -> list[dict[str, str]]:
    """Build the section `settings`: name, value, and the preset's value.

    Without a preset, or with one that this version doesn't know, no setting differs.
    """
    own = inputs.run.settings.as_dict()
    try:
        preset: Mapping[str, Any] = make_settings(inputs.run.preset).as_dict()
    except SettingsError:
        preset = own
    rows = own.items()
    return [{"name": k, "value": str(v), "preset": str(preset[k])} for k, v in rows]


def changed(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the names of the settings that differ from the preset's."""
    return [row["name"] for row in rows if row["value"] != row["preset"]]


def failed(failures: Sequence[Entry], entries: Sequence[Entry]) -> Section | None:
    """Build the section `failed`: count, listed and damaged; None if nothing failed.

    Args:
        failures: videos that could not be stored; the first 1,000 are listed.
        entries: stored videos; the first 1,000 that have a remark are listed as damaged.
    """
    damaged = [entry for entry in entries if entry.remark]
    if not failures and not damaged:
        return None
    return {
        "count": len(failures),
        "listed": [_reason(entry.id, entry.reason) for entry in failures[:LISTED]],
        "damaged": [_reason(entry.id, entry.remark) for entry in damaged[:LISTED]],
    }


def _reason(video: str, reason: str | None) -> dict[str, str]:
    text = reason or ""
    short = text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 3]}..."
    return {"id": video, "reason": short}
