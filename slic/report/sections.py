"""All sections of a run's report, from the inputs that are available."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from slic import __version__
from slic.page import room_for_images
from slic.page.thumbnails import STILLS, STILLS_BYTES, STRIPS, STRIPS_BYTES, Scene, thumbnails
from slic.page.videos import Videos
from slic.report import summary
from slic.report.clusters import clusters
from slic.report.confusion import confusions
from slic.report.curves import curves
from slic.report.embedding_map import embedding_map
from slic.report.gallery import Neighbours, embeddings, gallery, split_neighbours
from slic.report.inputs import ReportInputs
from slic.report.paper import paper
from slic.runtime.progress import progress
from slic.runtime.text import counted

Section = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """A report before it is written: its sections, WebP images, and the scene of each video."""

    report: Section
    images: dict[str, bytes]
    scenes: list[Scene | None]


def build(
    inputs: ReportInputs,
    *,
    sample: int,
    seed: int,
    names: Mapping[int, str],
    say: Callable[[str], None],
) -> Page:
    """Build all sections, with remarks on those that are missing.

    Args:
        inputs: what the report is made from.
        sample: largest number of videos on the map.
        seed: random seed of all samples and of the map.
        names: names of the last clustering's clusters.
        say: called with each progress message.
    """
    own = inputs.clusterings if inputs.own else None
    last = {} if own is None else own.last[1]
    videos = Videos(
        inputs.store, inputs.entries, split=inputs.split, clusters=last, cache=inputs.cache
    )
    # In the order in which a reader sees them: pictures of the first videos come first.
    found, shown = _of_embeddings(inputs, videos, sample, seed, say)
    of_clusters = _clusters(inputs, videos, seed)
    settings = summary.settings(inputs)
    report = {
        "kind": "report",
        "title": inputs.run.path.resolve().name,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "slic": __version__,
        "remarks": inputs.remarks,
        "facts": summary.facts(inputs, videos.labels),
        "figures": summary.figures(
            inputs, found, confusion=shown["confusion"], clusters=of_clusters
        ),
        "settings": settings,
        "curves": curves(inputs.lines("epoch"), inputs.lines("clustering")),
        "paper": paper(
            inputs.run,
            store=inputs.store_path.name.removesuffix(".zarr"),
            recall=summary.recall(inputs, found),
            top1=summary.top1(shown["confusion"]),
            changed=summary.changed(settings),
            trained=summary.epochs_done(inputs),
        ),
        **shown,
        "clusters": of_clusters,
        "names": {str(cluster): name for cluster, name in names.items()},
        "failed": summary.failed(inputs.failures, inputs.entries),
    }
    return _with_pictures(report, videos)


def _of_embeddings(
    inputs: ReportInputs, videos: Videos, sample: int, seed: int, say: Callable[[str], None]
) -> tuple[Neighbours | None, Section]:
    """Build the sections that need embeddings, and return the retrieval behind several of them."""
    cache, feature, split = inputs.cache, inputs.feature, inputs.split
    if cache is None:
        return None, {"gallery": None, "classes": [], "confusion": [], "map": None}
    broken = int((~embeddings(cache, feature)[1]).sum())
    if broken:
        inputs.remarks.append(
            f"{counted(broken, 'embedding')} of {len(cache.ids):,} contain NaN or infinity; these"
            " videos are left out of all sections."
        )
    found = split_neighbours(cache, split=split, feature=feature)
    clips = int(cache.attributes["clips"])
    shown, classes = gallery(cache, videos, found=found, feature=feature, clips=clips, seed=seed)
    confusion, remarks = confusions(inputs.run, cache, found=found, split=split)
    inputs.remarks.extend(remarks)
    say(f"map of {counted(min(sample, len(cache.ids)), 'video')}")
    points = embedding_map(cache, videos, sample=sample, seed=seed, feature=feature)
    return found, {"gallery": shown, "classes": classes, "confusion": confusion, "map": points}


def _clusters(inputs: ReportInputs, videos: Videos, seed: int) -> Section | None:
    if inputs.clusterings is None:
        return None
    if not inputs.own:
        inputs.remarks.append(
            "The clusters are those of the run's own store, whose videos are not in this report."
        )
    known = videos.labels if inputs.own else {}
    shown = videos if inputs.own else None
    section, remarks = clusters(inputs.clusterings, shown, known=known, seed=seed)
    inputs.remarks.extend(remarks)
    return section


def _with_pictures(report: Section, videos: Videos) -> Page:
    scenes = videos.scenes
    rows = [
        row
        for view in (report["gallery"] or {"views": []})["views"]
        for group in view["groups"]
        for row in group["rows"]
    ]
    moving = dict.fromkeys(
        video for row in rows for video in (row["query"], *(n["video"] for n in row["neighbours"]))
    )
    report["stills"], report["strips"] = STILLS, STRIPS
    report["videos"] = {**videos.table(), "still": list(range(len(scenes)))}
    room = room_for_images(report)
    if not room:
        report["remarks"].append(
            "The text alone makes this file larger than 25 MB; lower --sample to shrink it."
        )
    with progress(len(scenes) + len(moving), "pictures", unit="pictures") as advance:
        images, stills, remarks = thumbnails(
            scenes,
            strips=list(moving),
            stills_bytes=min(STILLS_BYTES, room // 2),
            strips_bytes=min(STRIPS_BYTES, room // 2),
            advance=advance,
        )
    report["remarks"].extend(remarks)
    report["videos"]["still"] = stills
    return Page(report, images, scenes)
