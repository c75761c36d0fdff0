"""`slic prep info`: summarise a clip store."""

from collections import Counter
from pathlib import Path
from typing import Any

from slic.cache import ClipStore
from slic.cache.entries import SPLITS


def store_info(path: str) -> dict[str, Any]:
    """Return the object that `slic prep info --json` prints.

    Args:
        path: of a clip store.

    Returns:
        `videos`, `frames`, `flow` (videos with flow), `labels` (classes), `splits`
        ({number: {part: videos}}), `failed` and `damaged` ([{id, reason}]), `bytes`, `outdated`
        (ids of frames with other parameters than the store records), `settings` (parameters of
        frames and flow).

    Raises:
        StoreError: there is no clip store.
    """
    store = ClipStore(Path(path))
    entries = store.entries()
    splits = {}
    for number in SPLITS:
        words = Counter(word for e in entries if (word := e.split(number)) is not None)
        if words:
            splits[str(number)] = dict(sorted(words.items()))
    return {
        "store": str(path),
        "videos": len(entries),
        "frames": sum(e.frames or 0 for e in entries),
        "flow": sum(e.flow is not None for e in entries),
        "labels": len({e.label for e in entries if e.label is not None}),
        "splits": splits,
        "failed": [{"id": e.id, "reason": e.reason} for e in store.failures()],
        "damaged": [{"id": e.id, "reason": e.remark} for e in entries if e.remark],
        "bytes": store.size_bytes(),
        "outdated": store.outdated(entries),
        "settings": {view: store.settings(view) for view in ("frames", "flow")},
    }
