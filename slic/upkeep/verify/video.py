"""One video's row and arrays against each other: what is wrong, and what would mend it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from slic.cache import Entry, View
from slic.cache.array_attributes import entry_of, guessed_entry
from slic.cache.clipstore import fingerprint
from slic.cache.index import COLUMNS
from slic.cache.untrusted import is_sound_row
from slic.upkeep.verify.arrays import ArrayState, VideoState
from slic.upkeep.verify.parameters import Settings, codec_in, flow_bound, flow_fingerprint

# What is mended: the video's row and arrays go, its arrays, its flow; or its row is made.
Cure = Literal["video", "arrays", "flow", "row"]


@dataclass(frozen=True)
class Finding:
    """A fault of one video.

    Attributes:
        where: the video, or its arrays' key where it is unknown.
        view: the array concerned.
        what: what is wrong.
        cure: what is to be dropped or made.
        row: the row to enter, of the cure `row`.
    """

    where: str
    view: View
    what: str
    cure: Cure
    row: Entry | None = None


@dataclass(frozen=True)
class Judge:
    """Compares rows and arrays, given a store's parameters (None where none are recorded)."""

    frames: Settings | None = None
    flow: Settings | None = None
    present: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.frames is not None:
            object.__setattr__(self, "present", fingerprint(self.frames))

    def findings(self, entry: Entry | None, state: VideoState) -> Iterator[Finding]:
        """All faults of a video: by its row, or None if the index has none, and its arrays."""
        if entry is None:
            yield from self._unknown(state)
        elif entry.reason is not None:
            if state.frames or state.flow:
                yield Finding(entry.id, "frames", "arrays of a video that failed", "arrays")
        elif why := self._frames_fault(entry, state.frames):
            yield Finding(entry.id, "frames", why, "video")
        elif why := self._flow_fault(entry, state.flow):
            yield Finding(entry.id, "flow", why, "flow")

    def _frames_fault(self, entry: Entry, array: ArrayState | None) -> str | None:
        size = entry.frames, entry.height, entry.width
        if why := _common_fault(entry, array, (*size, 3)):
            return why
        assert array is not None
        told = entry_of(array.attributes or {}, array.shape)
        if (array.attributes or {}).get("source") != entry.source_digest:
            return "of another video file than the index says"
        if told and (names := _differing(told, entry)):
            return f"array and index differ in {', '.join(names)}"
        if self.frames is None:
            return None
        if entry.settings != self.present:
            return "of other parameters than the store's"
        return None if array.codec == codec_in(self.frames) else "of another codec than the store's"

    def _flow_fault(self, entry: Entry, array: ArrayState | None) -> str | None:
        if entry.flow is None and array is None:
            return None
        size = (max(0, (entry.frames or 0) - 1), entry.height, entry.width)
        if why := _common_fault(entry, array, (*size, 2)):
            return why
        assert array is not None
        attributes = array.attributes or {}
        if entry.flow is None:
            # What older flow was computed from is not known: `prep flow` replaces it.
            return "not noted in the index" if "fingerprint" in attributes else None
        if attributes.get("fingerprint", entry.flow) != entry.flow:
            return "of other frames or parameters than the index says"
        if self.flow is None:
            return None
        if flow_fingerprint(entry, self.flow) not in (None, entry.flow):
            return "of other parameters than the store's"
        if (bound := flow_bound(entry, self.flow)) not in (None, attributes.get("bound")):
            return f"bound {attributes.get('bound')} where the store's parameters say {bound}"
        if not _has_parameters(attributes.get("parameters"), self.flow):
            return "its parameters are not the store's"
        return None if array.codec == codec_in(self.flow) else "of another codec than the store's"

    def _unknown(self, state: VideoState) -> Iterator[Finding]:
        """Arrays without a row: entered again if they are sound, else dropped."""
        frames, flow = state.frames, state.flow
        if frames is None:
            yield Finding(state.key, "flow", "flow without frames", "arrays")
            return
        if frames.fault is not None:
            what = f"unknown to the index, and {frames.fault}"
            yield Finding(state.key, "frames", what, "arrays")
            return
        told = self._told(frames)
        if told is None or told.key != state.key or not is_sound_row(COLUMNS, _cells(told)):
            yield Finding(state.key, "frames", "unknown to the index", "arrays")
            return
        noted = (flow.attributes or {}).get("fingerprint") if flow else None
        if isinstance(noted, str) and not Judge()._flow_fault(replace(told, flow=noted), flow):
            told = replace(told, flow=noted)
        yield Finding(told.id, "frames", "unknown to the index", "row", told)
        if told.flow is None and (why := self._flow_fault(told, flow)):
            yield Finding(told.id, "flow", why, "flow")

    def _told(self, frames: ArrayState) -> Entry | None:
        """The row that an array of frames tells, or lets guess."""
        attributes = frames.attributes or {}
        settings = self.present if self.frames and _may_be_of(frames, self.frames) else None
        return entry_of(attributes, frames.shape) or guessed_entry(
            attributes, frames.shape, settings=settings
        )


def _common_fault(entry: Entry, array: ArrayState | None, shape: tuple) -> str | None:
    if array is None:
        return "array is missing"
    if array.fault is not None:
        return array.fault
    if array.shape != shape:
        return f"array of {array.shape} where the index says {shape}"
    found = (array.attributes or {}).get("id")
    return None if found == entry.id else f"array of another video, {str(found)[:80]!a}"


def _differing(told: Entry, entry: Entry) -> list[str]:
    names = ("path", "fps", "settings", "source_bytes", "remark")
    return [name for name in names if getattr(told, name) != getattr(entry, name)]


def _has_parameters(found: Any, settings: Settings) -> bool:
    if settings.get("method") != "tvl1":
        return isinstance(found, dict) and found.get("bound") == settings.get("bound")
    return isinstance(found, dict) and all(settings.get(k) == v for k, v in found.items())


def _may_be_of(frames: ArrayState, settings: Settings) -> bool:
    """Whether an array may be of these parameters: smaller videos keep their size."""
    _, height, width, _ = frames.shape
    side = settings.get("short_side")
    return (
        frames.codec == codec_in(settings) and isinstance(side, int) and min(height, width) <= side
    )


def _cells(entry: Entry) -> list[Any]:
    return [getattr(entry, name) for name in COLUMNS]
