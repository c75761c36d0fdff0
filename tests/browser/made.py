"""A report made by hand: every section, drawn pictures, and names that would like to be markup."""

from copy import deepcopy
from functools import cache
from typing import Any

import cv2
import numpy as np

HOSTILE = [
    "<script>document.title='owned'</script>.mp4",
    "<img src=x onerror=\"document.title='owned'\">",
    "</script><script>document.title='owned'</script>",
    "\"'><svg onload=document.title='owned'>",
    "javascript:alert(1)",
    "{{constructor.constructor('document.title=1')()}}",
    "\u202egnp.exe",
    "a" * 400,
    "ünïcödé 漢字 عربى 🏃",
    "<!--",
    "</script x ]]>",
    "&lt;b&gt;",
]
STILLS = {"width": 80, "height": 60, "columns": 10, "rows": 10}
STRIPS = {"width": 128, "height": 96, "frames": 8}


def made_report(videos: int = 60, *, labelled: bool = True) -> tuple[Any, dict[str, bytes]]:
    """A report and its images, of random content; the caller may change the report.

    Args:
        videos: rows of the table, 20 or more; the first ones have hostile names.
        labelled: whether there are labels at all.
    """
    report, images = _made(videos, labelled)
    return deepcopy(report), images


@cache
def _made(videos: int, labelled: bool) -> tuple[Any, dict[str, bytes]]:
    draw, classes = np.random.default_rng(0), 5
    ids = [HOSTILE[i] if i < len(HOSTILE) else f"class/video_{i:05d}.avi" for i in range(videos)]
    kinds = [f"action {i}" for i in range(classes - 1)] + ["<b>bold</b>"]
    labels = [kinds[i % classes] if labelled else None for i in range(videos)]
    report: dict[str, Any] = {
        "kind": "report",
        "title": "made-<i>run</i>-1",
        "made": "2026-01-01 00:00 UTC",
        "slic": "0",
        "remarks": ["A remark with <b>markup</b>."],
        "facts": [["run", "runs/made"], ["videos", str(videos)]],
        "figures": [{"name": "Recall at 1", "text": "75.0 %", "note": "of 20 test videos"}],
        "settings": [
            {"name": "lr", "value": "0.1", "preset": "0.2"},
            {"name": "epochs", "value": "20", "preset": "20"},
        ],
        "curves": _curves(draw),
        "paper": _paper(),
        "videos": {
            "id": ids,
            "label": labels,
            "cluster": [i % 7 for i in range(videos)],
            "split": [("train", "test")[i % 2] for i in range(videos)],
            "seconds": [float(i % 9) + 0.5 for i in range(videos)],
            "still": list(range(videos)),
        },
        "stills": STILLS,
        "strips": STRIPS,
        "gallery": _gallery(draw, labels, labelled=labelled),
        "clusters": _clusters(labels, labelled=labelled),
        "names": {"1": "second"},
        "map": {
            "method": "t-SNE of embeddings",
            "note": "All videos.",
            "videos": list(range(videos)),
            "x": draw.random(videos).tolist(),
            "y": draw.random(videos).tolist(),
        },
        "failed": {
            "count": 1,
            "listed": [{"id": HOSTILE[0], "reason": "holds <b>no</b> frame"}],
            "damaged": [],
        },
    }
    if labelled:
        shares = [{"label": k, "queries": 4, "recall": i / classes} for i, k in enumerate(kinds)]
        report["classes"] = shares
        report["confusion"] = [_confusion(kinds)]
    strips = {row for view in report["gallery"]["views"] for row in _rows(view)}
    return report, {**_stills(videos), **{f"m{row}": _strip(row) for row in sorted(strips)}}


def _rows(view: dict[str, Any]) -> list[int]:
    matches = [match for group in view["groups"] for match in group["rows"]]
    return [m["query"] for m in matches] + [n["video"] for m in matches for n in m["neighbours"]]


def _curves(draw: np.random.Generator) -> list[dict[str, Any]]:
    def curve(title: str, **series: list[list[float]]) -> dict[str, Any]:
        named = [{"name": name.replace("_", " "), "points": of} for name, of in series.items()]
        about = {"key": title.lower(), "title": title, "x": "epoch", "percent": title == "Recall"}
        return {**about, "series": named}

    falling = [[e, float(2 * 0.9**e + draw.random() * 0.05)] for e in range(20)]
    rising = [[e, 1 - 0.8 * 0.8**e] for e in range(0, 20, 5)]
    halved = [[x, y / 2] for x, y in falling]
    return [
        curve("Loss", instance_loss=falling, temporal_loss=halved),
        curve("Recall", Recall=rising),
        curve("Clusters", clusters=[[19, 12]]),
    ]


def _paper() -> dict[str, Any]:
    rows = [
        {"method": "CoCLR", "network": "S3D", "own": False, "published": [53.3, None], "ours": []},
        {"method": "this run", "network": "small", "own": True, "published": [], "ours": [75.0, 9]},
    ]
    return {"title": "Retrieval", "columns": ["R@1", "R@5"], "note": "In percent.", "rows": rows}


def _gallery(draw: np.random.Generator, labels: list[Any], *, labelled: bool) -> dict[str, Any]:
    def match(query: int) -> dict[str, Any]:
        others = [int(v) for v in draw.choice(len(labels), 6, replace=False)]
        near = [
            {
                "video": other,
                "similarity": 0.9 - 0.1 * rank,
                "right": labels[query] == labels[other] if labelled else None,
            }
            for rank, other in enumerate(others)
        ]
        return {"query": query, "neighbours": near}

    def view(key: str, title: str, queries: range) -> dict[str, Any]:
        group = {"title": None, "note": "A group.", "rows": [match(query) for query in queries]}
        return {"key": key, "title": title, "note": "Drawn.", "groups": [group]}

    views = [view("random", "Random", range(10)), view("worst", "Worst classes", range(4, 8))]
    about = {"feature": "backbone", "clips": 10, "labelled": labelled, "queries": 10, "among": 30}
    return {**about, "views": views}


def _clusters(labels: list[Any], *, labelled: bool) -> dict[str, Any]:
    members = [[i for i in range(len(labels)) if i % 7 == c] for c in range(7)]
    listed = [
        {
            "id": c,
            "size": len(rows),
            "purity": 0.5 if labelled else None,
            "labels": [[labels[rows[0]], 3]] if labelled else [],
            "videos": rows[:24],
        }
        for c, rows in enumerate(members)
    ]
    nodes = [
        {"name": f"cluster {c}", "size": len(members[c]), "label": labels[c], "share": 0.5}
        for c in range(3)
    ]
    rest = {"size": sum(map(len, members[3:])), "label": None, "share": None}
    nodes.append({"name": "4 others", **rest})
    flows = [[i, i, node["size"]] for i, node in enumerate(nodes)]
    columns = [
        {"clustering": f"epoch{e:05d}", "epoch": e, "count": 7, "nodes": nodes} for e in (9, 19)
    ]
    counts = {"agreement": 0.8, "merged": 1, "split": 2, "same": 4}
    changes = [{"from": "epoch00009", "to": "epoch00019", **counts, "flows": flows}]
    sizes = [[size, 1] for size in sorted({len(rows) for rows in members})]
    about = {"clustering": "epoch00019", "epoch": 19, "videos": len(labels), "count": 7}
    about |= {"singletons": 0, "purity": 0.5 if labelled else None, "sizes": sizes}
    return {**about, "listed": listed, "changes": changes, "columns": columns}


def _confusion(kinds: list[str]) -> dict[str, Any]:
    cells = [[i, i, 3] for i in range(len(kinds))] + [[0, 1, 2]]
    return {
        "key": "neighbour",
        "title": "Nearest neighbour",
        "note": "The class of the nearest training video.",
        "classes": kinds,
        "totals": [5, *[3] * (len(kinds) - 1)],
        "cells": cells,
    }


def _webp(picture: np.ndarray) -> bytes:
    written, data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, 60])
    assert written
    return data.tobytes()


def _stills(videos: int) -> dict[str, bytes]:
    sheets = {}
    for sheet in range((videos + 99) // 100):
        picture = np.zeros((600, 800, 3), np.uint8)
        for cell in range(100):
            row, column = divmod(cell, 10)
            place = picture[60 * row : 60 * row + 60, 80 * column : 80 * column + 80]
            place[:] = colour_of(100 * sheet + cell)
        sheets[f"s{sheet}"] = _webp(picture)
    return sheets


def colour_of(row: int) -> tuple[int, int, int]:
    """Blue, green, red of the picture of a row: those of neighbours differ much."""
    return (37 * row) % 256, (91 * row + 80) % 256, (151 * row + 160) % 256


def _strip(row: int) -> bytes:
    picture = np.full((96, 1024, 3), colour_of(row), np.uint8)
    for frame in range(8):
        cv2.circle(picture, (128 * frame + 12 + 14 * frame, 48), 10, (255, 255, 255), -1)
    return _webp(picture)
