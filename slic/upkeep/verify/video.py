"""Check one video of a store: read its arrays whole, and compare them with its index row."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from slic.cache import Entry, View
from slic.cache.clipstore import VIEWS, open_array
from slic.cache.entries import array_attributes, entry_from_array, fingerprint, flow_fingerprint
from slic.cache.shards import ArrayReader
from slic.errors import DamagedChunk

Parameters = dict[str, Any]
ENTER = "add it to the index; `slic prep frames` adds its labels"


class Problem(NamedTuple):
    """One thing wrong with a video: which array, what, and what repairs it."""

    view: View
    what: str
    repair: str


@dataclass(frozen=True)
class VideoJob:
    """One video to check.

    Attributes:
        store: folder of the store.
        key: name of the video's arrays.
        entry: its row, or None if the index has none.
        parameters: `{view: parameters}` of the store, as far as they are recorded.
    """

    store: Path
    key: str
    entry: Entry | None
    parameters: dict[str, Parameters]


@dataclass
class VideoState:
    """What is wrong with a video, and what of it is sound.

    Attributes:
        key: name of its arrays.
        where: its id, or the name of its arrays if the id is unknown.
        entry: the row that describes its sound arrays, or None if there is nothing to keep.
        problems: what is wrong.
        damaged: the arrays to remove.
        bytes: number of bytes read.
    """

    key: str
    where: str
    entry: Entry | None
    problems: list[Problem] = field(default_factory=list)
    damaged: set[View] = field(default_factory=set)
    bytes: int = 0

    def reject(self, views: Iterable[View], what: str, repair: str) -> None:
        """Add a problem for which arrays are removed; it is named after the first of them."""
        self.damaged |= set(views)
        self.problems.append(Problem(next(iter(views)), what, repair))


def check_video(job: VideoJob) -> VideoState:
    """Check one video.

    Raises:
        DiskError: the system refuses to read it.
    """
    present = [view for view in VIEWS if (job.store / view / job.key).is_dir()]
    entry = job.entry or _described(job)
    state = VideoState(job.key, entry.id if entry else job.key, entry)
    if entry is not None and entry.reason is None:
        _check_frames(job, state, entry)
        if state.entry and ("flow" in present or entry.flow is not None):
            _check_flow(job, state, entry)
    elif present:
        what = "not in the index" if entry is None else "array of a video that failed"
        state.reject(present, what, "remove it")
    return state


def _described(job: VideoJob) -> Entry | None:
    """Return the row that an array of frames describes, if it belongs to an array of this key."""
    try:
        array = ArrayReader(job.store / "frames" / job.key)
    except DamagedChunk:
        return None
    entry = entry_from_array(array.attributes, array.shape)
    return entry if entry and entry.key == job.key else None


def _check_frames(job: VideoJob, state: VideoState, entry: Entry) -> None:
    try:
        state.bytes += _read(job, entry, "frames")
    except DamagedChunk as error:
        state.entry = None
        state.reject(VIEWS, _reason(job, error), "remove it; `slic prep frames` stores it again")
    else:
        if job.entry is None:
            state.problems.append(Problem("frames", "not in the index", ENTER))


def _check_flow(job: VideoJob, state: VideoState, entry: Entry) -> None:
    try:
        if entry.flow is None:  # its writer was killed before it could enter the flow
            attributes = ArrayReader(job.store / "flow" / job.key).attributes
            entry = replace(entry, flow=attributes.get("fingerprint"))
            if entry.flow is None:
                raise DamagedChunk("not in the index")
            if job.entry is not None:
                state.problems.append(Problem("flow", "not in the index", ENTER))
        state.bytes += _read(job, entry, "flow")
        state.entry = entry
    except DamagedChunk as error:
        state.entry = replace(entry, flow=None)
        state.reject(["flow"], _reason(job, error), "remove it; `slic prep flow` computes it again")


def _read(job: VideoJob, entry: Entry, view: View) -> int:
    """Read an array whole; return its number of bytes.

    Raises:
        DamagedChunk: it is damaged, or does not belong to the row and the store's parameters.
    """
    array = open_array(job.store, entry, view)
    expected = array_attributes(entry) if view == "frames" else {"id": entry.id}
    differing = [n for n, value in expected.items() if array.attributes.get(n, value) != value]
    if differing:
        raise DamagedChunk(f"array and index differ in {', '.join(differing)}")
    if view in job.parameters and not matches(entry, view, job.parameters[view]):
        raise DamagedChunk("its parameters differ from the store's")
    return array.check()


def _reason(job: VideoJob, error: DamagedChunk) -> str:
    return str(error).removeprefix(f"{job.key}: ")


def matches(entry: Entry, view: str, parameters: Parameters) -> bool:
    """Return whether a video's array has these parameters; of imported flow it is assumed."""
    if view == "frames":
        return entry.settings == fingerprint(parameters)
    return parameters.get("method") != "tvl1" or entry.flow == flow_fingerprint(entry, parameters)
