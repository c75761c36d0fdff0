"""What a run is, in facts and a few large figures, and its settings beside the preset's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slic.config import make_settings
from slic.errors import SettingsError
from slic.metrics import recall_at_k
from slic.report.curves import number
from slic.report.gallery import Found
from slic.report.material import Material
from slic.runtime.text import counted

KS = (1, 5, 10)
CLASSIFIED = {
    "linear": "Linear layer, top-1",
    "linear-augmented": "Linear layer on augmented clips, top-1",
    "finetune": "Finetuned, top-1",
}
Section = dict[str, Any]


def facts(material: Material) -> list[list[str]]:
    """The section `facts` of a report: pairs of name and text."""
    run, settings = material.run, material.run.settings
    rows = [["run", run.path.resolve().name], ["store", material.path.name]]
    rows += _of_store(material)
    rows.append(["preset", run.preset])
    rows.append(["encoder", settings.encoder])
    clip = f"{settings.frames} frames, stride {settings.stride}, {settings.size} px"
    rows.append(["clip", clip])
    clips = counted(settings.retrieval_clips, "clip")
    rows.append(["compared by", f"{material.feature} embeddings, mean of {clips} a video"])
    if settings.init:
        rows.append(["weights from", settings.init.partition("@")[0]])
    if run.imported:
        return rows
    rows.append(["objective", settings.objective_in_words()])
    rows.append(["trained on", f"split {settings.split}"])
    finished = material.records is None or material.lines("done")
    rows.append(["trained", epochs_done(material) + ("" if finished else ", unfinished")])
    return rows


def _of_store(material: Material) -> list[list[str]]:
    labels = material.labels
    if not labels:
        ids = [] if material.clusterings is None else material.clusterings.ids
        return [["videos", f"{len(ids):,}, as clustered"]] if ids else []
    names = {label for label in labels.values() if label}
    without = sum(not label for label in labels.values())
    some = f", {without:,} videos without a label" if names and without else ""
    return [
        ["videos", f"{len(labels):,}"],
        ["classes", f"{len(names):,}{some}" if names else "no labels"],
    ]


def epochs_done(material: Material) -> str:
    """`15 of 600 epochs`, as far as is recorded."""
    done = "an unknown number" if material.records is None else len(material.lines("epoch"))
    return f"{done} of {counted(material.run.settings.epochs, 'epoch')}"


def recall(material: Material, found: Found | None) -> dict[int, float]:
    """Recall at 1, 5, 10 as a fraction of the queries; nothing without labels."""
    if found is None or material.cache is None or material.cache.labels is None:
        return {}
    labels = material.cache.labels
    return recall_at_k(labels[found.queries], labels[found.neighbours], KS)


def top1(confusion: Sequence[Section]) -> dict[str, float]:
    """Top-1 accuracy by mode of `slic eval classify`, of the sections `confusion`."""
    shares = {}
    for section in confusion:
        cells = np.array(section["cells"], dtype=np.int64).reshape(-1, 3)
        right = cells[cells[:, 0] == cells[:, 1], 2]
        if section["key"] in CLASSIFIED and len(cells):
            shares[section["key"]] = float(right.sum() / cells[:, 2].sum())
    return shares


def figures(
    material: Material,
    found: Found | None,
    *,
    confusion: Sequence[Section],
    clusters: Section | None,
) -> list[dict[str, str]]:
    """The section `figures` of a report: name, text and note of the few large ones."""
    rows = []
    for k, value in recall(material, found).items():
        rows.append(_figure(f"Recall at {k}", _percent(value), _note(material, found)))
    notes = {section["key"]: section["note"] for section in confusion}
    for mode, share in top1(confusion).items():
        rows.append(_figure(CLASSIFIED[mode], _percent(share), notes[mode]))
    rows += _of_clusters(material, clusters)
    return rows


def _note(material: Material, found: Found | None) -> str:
    if found is None:
        return ""
    queries, among = len(found.queries), found.among
    return (
        f"{counted(queries, 'test video')} among {counted(among, 'training video')},"
        f" split {material.split}; one is {100 / queries:.2g} points"
    )


def _of_clusters(material: Material, clusters: Section | None) -> list[dict[str, str]]:
    last = (material.lines("clustering") or [{}])[-1]
    after = f"after epoch {last['epoch']}" if number(last.get("epoch")) is not None else ""
    rows = []
    if (nmi := number(last.get("nmi"))) is not None:
        rows.append(_figure("NMI of clusters and labels", f"{nmi:.3f}", after))
    if clusters is not None:
        note = f"of {counted(clusters['videos'], 'video')}, after epoch {clusters['epoch']}"
        rows.append(_figure("Clusters", f"{clusters['count']:,}", note))
    return rows


def _figure(name: str, text: str, note: str) -> dict[str, str]:
    return {"name": name, "text": text, "note": note}


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def settings(material: Material) -> list[dict[str, str]]:
    """The section `settings` of a report: name, value, and the preset's value.

    A run of no preset, or of one that this version does not know, differs in nothing.
    """
    own = material.run.settings.as_dict()
    try:
        preset: Mapping[str, Any] = make_settings(material.run.preset).as_dict()
    except SettingsError:
        preset = own
    rows = own.items()
    return [{"name": k, "value": str(v), "preset": str(preset[k])} for k, v in rows]


def changed(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of the settings that differ from the preset's."""
    return [row["name"] for row in rows if row["value"] != row["preset"]]
