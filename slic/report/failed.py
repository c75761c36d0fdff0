"""Videos of a store that could not be stored, or only oddly, with the reasons."""

from collections.abc import Sequence
from typing import Any

from slic.cache import Entry

LISTED = 1000
LONGEST = 400  # characters of a reason


def failed(failures: Sequence[Entry], entries: Sequence[Entry]) -> dict[str, Any] | None:
    """The section `failed` of a report: `count, listed, damaged`; None where nothing failed.

    Args:
        failures: videos that could not be stored, of which at most 1,000 are listed.
        entries: stored videos; those with a remark count as damaged, at most 1,000 likewise.
    """
    odd = [entry for entry in entries if entry.remark]
    if not failures and not odd:
        return None
    return {
        "count": len(failures),
        "listed": [_line(entry.id, entry.reason) for entry in failures[:LISTED]],
        "damaged": [_line(entry.id, entry.remark) for entry in odd[:LISTED]],
    }


def _line(video: str, reason: str | None) -> dict[str, str]:
    text = reason or ""
    return {"id": video, "reason": text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."}
