"""`slic prep flow --check`: compare stored flow with OpenCV's flow of the same stored frames.

How far correct flow is from OpenCV's depends on the frames: rounding errors grow where flow is
ill-defined, as at scene cuts. The yardstick is therefore how much OpenCV's own flow of the same
frames changes when its epsilon is doubled. The deviation is the error beyond that of storing,
divided by the yardstick.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, Entry, dequantise, quantise
from slic.errors import DamagedChunk, InputError, SettingsError, StoreError, WorkError
from slic.prep.flow_video import to_gray
from slic.prep.store import IMPORTED, LayoutChoice, resolve
from slic.prep.tvl1 import Tvl1Parameters, engine_version, tvl1_flow
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import progress

# Chosen on stores of real and drawn clips. Correct flow deviates by 0.01 to 0.33 over a store's
# pairs (0.38 from OpenCV 4.10), and by 0.8 in one pair at most; flow of the next frame by 3 to
# 11, and by more than 3 in 43 % of pairs; flow at twice the lambda by 0.8 to 1.9.
STORE_LIMIT = 1.0
PAIR_LIMIT = 3.0
ROUNDING_PX = 0.005  # added to the yardstick, which is 0 for still frames


class Agreement(NamedTuple):
    """How the stored levels of a pair agree with a flow that is clipped at the bound.

    Attributes:
        error_px: mean end-point error, pixels.
        equal, within_1: share of the levels that are equal to the flow's own, or differ by up to 1.
    """

    error_px: float
    equal: float
    within_1: float


@dataclass(frozen=True)
class PairCheck:
    """How a pair's stored flow, and two others, agree with OpenCV's flow of its frames.

    Attributes:
        id, pair: the video, and the number of the pair's first frame.
        engine: engine of the stored flow.
        stored: agreement of the stored flow.
        storing: of OpenCV's flow, stored in the same way: the error of storing.
        looser: of OpenCV's flow at twice the epsilon, stored in the same way.
    """

    id: str
    pair: int
    engine: str
    stored: Agreement
    storing: Agreement
    looser: Agreement


@dataclass(frozen=True)
class DamagedPair:
    """A pair that cannot be compared, and why."""

    id: str
    pair: int
    reason: str


@dataclass(frozen=True)
class CheckResult:
    """The result of `--check`.

    Attributes:
        store: path of the store.
        checks: the compared pairs, by id and number.
        damaged: drawn pairs that cannot be compared.
        of_pairs: number of pairs in the store that OpenCV can compute.
        left_out: number of videos with a side of 1 pixel, which OpenCV cannot compute.
        seconds: duration.
    """

    store: str
    checks: Sequence[PairCheck]
    damaged: Sequence[DamagedPair]
    of_pairs: int
    left_out: int
    seconds: float

    @property
    def problem(self) -> str | None:
        """One line on how the stored flow deviates from its frames; None if it does not."""
        if not self.checks:
            return f"{self.store}: none of the sampled pairs could be compared"
        worst = max(self.checks, key=lambda check: _deviation([check]))
        if _deviation([worst]) > PAIR_LIMIT:
            problem = "does not match its frames"
        elif _deviation(self.checks) > STORE_LIMIT:
            problem = "differs most, but all differ: was it computed with other parameters?"
        else:
            return None
        return (
            f"{self.store}: {worst.id}: flow of pair {worst.pair} {problem}"
            f" ({worst.stored.error_px:.3f} px from OpenCV's, {worst.storing.error_px:.3f} of"
            f" it due to storing); run `slic prep flow {self.store} --overwrite`"
        )

    def json(self) -> dict[str, Any]:
        """Return the object that `--json` prints; figures are None if no pair was compared."""
        worst = max(self.checks, key=lambda check: check.stored.error_px, default=None)
        return {
            "store": self.store,
            "pairs": len(self.checks),
            "of_pairs": self.of_pairs,
            "videos": len({check.id for check in self.checks}),
            "engine": ", ".join(sorted({check.engine for check in self.checks})),
            "against": engine_version("opencv"),
            **_figures([check.stored for check in self.checks]),
            "storing": _figures([check.storing for check in self.checks]),
            "deviation": _deviation(self.checks) if self.checks else None,
            "worst": {"id": worst.id, "pair": worst.pair} if worst else None,
            "damaged": [vars(pair) for pair in self.damaged],
            "left_out": self.left_out,
            "problem": self.problem,
            "seconds": self.seconds,
        }


def _deviation(checks: Sequence[PairCheck]) -> float:
    """Return the mean error beyond that of storing, in units of the yardstick."""
    yardstick = fmean(check.looser.error_px - check.storing.error_px for check in checks)
    excess = fmean(check.stored.error_px - check.storing.error_px for check in checks)
    return excess / (max(0.0, yardstick) + ROUNDING_PX)


def _figures(parts: Sequence[Agreement]) -> dict[str, float | None]:
    if not parts:
        return dict.fromkeys(("error_px", "worst_px", "equal", "within_1", "worst_within_1"))
    error, equal, within_1 = zip(*parts, strict=True)
    return {
        "error_px": fmean(error),
        "worst_px": max(error),
        "equal": fmean(equal),
        "within_1": fmean(within_1),
        "worst_within_1": min(within_1),
    }


def check_flow(
    dataset: str,
    *,
    pairs: int,
    seed: int = 0,
    store: str | None = None,
    layout: LayoutChoice = "auto",
    workers: int | None = None,
) -> CheckResult:
    """Compare random pairs of a store's flow with OpenCV's; nothing is written.

    Args:
        dataset: the store, or the data set it was made from.
        pairs: how many, drawn uniformly from the pairs of all videos. All, if there are fewer.
        seed: of the random choice.
        store, layout: as for `prep_flow`.
        workers: number of processes. None: one per core.

    Raises:
        InputError: `pairs` is below 1.
        DatasetError, StoreError: there is no store, or no flow in it that OpenCV could compute.
        WorkError: a process died.
    """
    begin = time.monotonic()
    if pairs < 1:
        raise InputError(f"--check {pairs}: must be at least 1")
    _, path = resolve(dataset, store=store, layout=layout)
    if (ClipStore(path).settings("flow") or {}).get("method") == IMPORTED:
        raise StoreError(f"{path}: its flow was imported, so it cannot be checked against TV-L1")
    entries = [entry for entry in ClipStore(path).entries() if entry.flow is not None]
    if not entries:
        raise StoreError(f"{path}: has no flow to check; run `slic prep flow {path}`")
    able = [entry for entry in entries if min(entry.height or 0, entry.width or 0) > 1]
    of_pairs = sum(_pairs(entry) for entry in able)
    if not of_pairs:
        raise StoreError(f"{path}: has no pair of frames of at least 2x2 pixels to check")
    jobs = list(_draw(able, pairs, Random(seed)))
    workers = min(workers or available_cores(), len(jobs))
    outcomes = []
    with progress(len(jobs), "check", unit="pairs") as advance:
        for outcome in run_jobs(partial(check_pair, path), jobs, workers=workers):
            outcomes.append(outcome)
            advance(1, 1)
    outcomes.sort(key=lambda outcome: (outcome.id, outcome.pair))
    return CheckResult(
        store=str(path),
        checks=[outcome for outcome in outcomes if isinstance(outcome, PairCheck)],
        damaged=[outcome for outcome in outcomes if isinstance(outcome, DamagedPair)],
        of_pairs=of_pairs,
        left_out=len(entries) - len(able),
        seconds=round(time.monotonic() - begin, 3),
    )


def _pairs(entry: Entry) -> int:
    return max(0, (entry.frames or 0) - 1)


def _draw(entries: Sequence[Entry], count: int, random: Random) -> Iterator[tuple[str, int]]:
    """Yield `count` distinct (id, pair), drawn uniformly from the pairs of all entries."""
    ends = list(accumulate(_pairs(entry) for entry in entries))
    for number in random.sample(range(ends[-1]), min(count, ends[-1])):
        place = bisect_right(ends, number)
        yield entries[place].id, number - (ends[place] - _pairs(entries[place]))


def check_pair(path: Path, drawn: tuple[str, int]) -> PairCheck | DamagedPair:
    """Compare one stored pair with OpenCV's flow, computed with the pair's recorded parameters.

    Args:
        path: of the store.
        drawn: the video's id, and the number of the pair's first frame, counted from 0.
    """
    store = ClipStore(path)
    try:
        return _check_pair(store, *drawn)
    except (WorkError, SettingsError) as error:
        return DamagedPair(*drawn, str(error))
    finally:
        store.index.close()


def _check_pair(store: ClipStore, video: str, pair: int) -> PairCheck:
    levels = store.read(video, pair, 1, view="flow")[0]
    gray = to_gray(store.read(video, pair, 2))
    bound, codec = store.flow_bound(video), store.flow_codec(video)
    recorded = store.flow_attributes(video)
    if not isinstance(recorded.get("parameters"), dict):
        raise DamagedChunk(f"{store.path}: {video}: the parameters of its flow are missing")
    parameters = Tvl1Parameters.named(**recorded["parameters"])
    looser = replace(parameters, epsilon=2 * parameters.epsilon)

    def opencv(parameters: Tvl1Parameters) -> np.ndarray:
        flow = tvl1_flow(gray, engine="opencv", **asdict(parameters))[0]
        return np.clip(flow, -bound, bound)

    flow = opencv(parameters)
    return PairCheck(
        video,
        pair,
        engine=str(recorded.get("engine")),
        stored=_agreement(levels, flow, bound),
        storing=_agreement(_coded(quantise(flow, bound), codec), flow, bound),
        looser=_agreement(_coded(quantise(opencv(looser), bound), codec), flow, bound),
    )


def _agreement(levels: NDArray[np.uint8], flow: np.ndarray, bound: float) -> Agreement:
    error = np.linalg.norm(dequantise(levels, bound) - flow, axis=-1)
    steps = np.abs(levels.astype(np.int16) - quantise(flow, bound))
    return Agreement(float(error.mean()), float((steps == 0).mean()), float((steps <= 1).mean()))


def _coded(levels: NDArray[np.uint8], codec: Codec) -> NDArray[np.uint8]:
    """Encode and decode levels, as storing does."""
    back = np.empty_like(levels)
    codec.decode(codec.encode(levels), back)
    return back
