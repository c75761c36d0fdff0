"""All sections of a run's report, one after another, from what there is of the run."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from slic import __version__
from slic.cache.clusterings import Clusterings
from slic.page import room_for_images
from slic.page.thumbnails import STILLS, STILLS_BYTES, STRIPS, STRIPS_BYTES, Scene, thumbnails
from slic.page.videos import Videos
from slic.report import summary
from slic.report.clusters import clusters, last_clustering
from slic.report.confusion import confusions
from slic.report.curves import curves
from slic.report.embedding_map import embedding_map
from slic.report.failed import failed
from slic.report.gallery import Found, embeddings, gallery, split_neighbours
from slic.report.material import Material
from slic.report.paper import paper
from slic.runtime.progress import progress
from slic.runtime.text import counted

Section = dict[str, Any]


@dataclass(frozen=True)
class Built:
    """A report before it is written: its sections, WebP images, and where pictures are read."""

    report: Section
    images: dict[str, bytes]
    scenes: list[Scene | None]


def build(
    material: Material,
    *,
    sample: int,
    seed: int,
    names: Mapping[int, str],
    say: Callable[[str], None],
) -> Built:
    """All sections, with remarks on those that are not there.

    Args:
        material: what there is.
        sample: videos of the map at most.
        seed: of all that is drawn.
        names: of clusters of the last clustering.
        say: takes lines meant for the user.
    """
    videos = _videos(material)
    # What a reader sees first gets its pictures first.
    found, shown = _of_embeddings(material, videos, sample=sample, seed=seed, say=say)
    of_clusters = _clusters(material, videos, seed)
    return _with_pictures(
        {
            **_of_run(material),
            "figures": summary.figures(
                material, found, confusion=shown["confusion"], clusters=of_clusters
            ),
            "paper": _paper(material, found, shown["confusion"]),
            **shown,
            "clusters": of_clusters,
            "names": {str(cluster): name for cluster, name in names.items()},
        },
        videos,
    )


def _videos(material: Material) -> Videos:
    of = _shown_clusterings(material)
    return Videos(
        material.store,
        material.entries,
        split=material.split,
        clusters={} if of is None else last_clustering(of),
        cache=material.cache,
    )


def _shown_clusterings(material: Material) -> Clusterings | None:
    """The clusterings, if they are of the videos that the report is of."""
    return material.clusterings if material.own else None


def _of_run(material: Material) -> Section:
    return {
        "kind": "report",
        "title": material.run.path.resolve().name,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "slic": __version__,
        "remarks": material.remarks,
        "facts": summary.facts(material),
        "settings": summary.settings(material),
        "curves": curves(material.lines("epoch"), material.lines("clustering")),
        "failed": failed(material.failures, material.entries),
    }


def _of_embeddings(
    material: Material,
    videos: Videos,
    *,
    sample: int,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Found | None, Section]:
    """The sections that need embeddings, and the retrieval that several of them are of."""
    cache, feature, split = material.cache, material.feature, material.split
    if cache is None:
        return None, {"gallery": None, "classes": [], "confusion": [], "map": None}
    broken = int((~embeddings(cache, feature)[1]).sum())
    if broken:
        what = f"{counted(broken, 'embedding')} of {len(cache.ids):,}"
        material.remarks.append(f"{what} hold NaN or infinity and are left out of everything.")
    found = split_neighbours(cache, split=split, feature=feature)
    clips = int(cache.attributes["clips"])
    shown, classes = gallery(cache, videos, found=found, feature=feature, clips=clips, seed=seed)
    confusion, remarks = confusions(material.run, cache, found=found, split=split)
    material.remarks.extend(remarks)
    say(f"map of {counted(min(sample, len(cache.ids)), 'video')}")
    drawn = embedding_map(cache, videos, sample=sample, seed=seed, feature=feature)
    return found, {"gallery": shown, "classes": classes, "confusion": confusion, "map": drawn}


def _clusters(material: Material, videos: Videos, seed: int) -> Section | None:
    if material.clusterings is None:
        return None
    if not material.own:
        what = "The clusters are of the run's own store, whose videos this report does not show."
        material.remarks.append(what)
    known = material.labels if material.own else {}
    shown = videos if material.own else None
    section, remarks = clusters(material.clusterings, shown, known=known, seed=seed)
    material.remarks.extend(remarks)
    return section


def _paper(material: Material, found: Found | None, confusion: list[Section]) -> Section | None:
    return paper(
        material.run,
        store=material.name,
        recall=summary.recall(material, found),
        top1=summary.top1(confusion),
        changed=summary.changed(summary.settings(material)),
        trained=summary.epochs_done(material),
    )


def _with_pictures(report: Section, videos: Videos) -> Built:
    scenes, moving = videos.scenes(), list(dict.fromkeys(_gallery_rows(report["gallery"])))
    report["stills"], report["strips"] = STILLS, STRIPS
    report["videos"] = {**videos.table(), "still": list(range(len(scenes)))}
    room = room_for_images(report)
    if not room:
        what = "The text of this file takes 25 MB alone: a smaller --sample makes it smaller."
        report["remarks"].append(what)
    with progress(len(scenes) + len(moving), "pictures", unit="pictures") as advance:
        pictures = thumbnails(
            scenes,
            strips=moving,
            stills_bytes=min(STILLS_BYTES, room // 2),
            strips_bytes=min(STRIPS_BYTES, room // 2),
            advance=advance,
        )
    report["remarks"].extend(pictures.remarks)
    report["videos"]["still"] = pictures.stills
    return Built(report, pictures.images, scenes)


def _gallery_rows(gallery: Section | None) -> Iterator[int]:
    """Rows of all videos of the gallery, view by view."""
    for view in (gallery or {}).get("views", []):
        for group in view["groups"]:
            for row in group["rows"]:
                yield row["query"]
                yield from (neighbour["video"] for neighbour in row["neighbours"])
