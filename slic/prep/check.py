"""`slic prep flow --check`: stored flow against OpenCV's on the same stored frames.

How far right flow lies from OpenCV's depends on the frames: rounding grows where flow is
ill-defined, such as at scene cuts. So the yardstick is what OpenCV's own flow changes by on the
same frames when it stops at twice the epsilon. A deviation is the error beyond the cost of
storing, in units of that yardstick.
"""

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from statistics import fmean
from typing import Any

from slic.cache import ClipStore, Entry
from slic.errors import InputError, StoreError
from slic.prep.check_pair import Agreement, DamagedPair, PairCheck, PairJob, check_pair
from slic.prep.store import IMPORTED, LayoutChoice, resolve
from slic.prep.tvl1 import engine_version
from slic.runtime.processes import available_cores, run_jobs
from slic.runtime.progress import progress

# Chosen on stores of real and drawn clips. Right flow deviates by 0.01 to 0.33 over a store's
# pairs (0.38 from OpenCV 4.10), and by 0.8 in one pair at most; flow of the next frame by 3 to
# 11, and by more than 3 in 43 % of pairs; flow at twice the lambda by 0.8 to 1.9.
STORE_LIMIT = 1.0
PAIR_LIMIT = 3.0
ROUNDING_PX = 0.005  # added to the yardstick, which is 0 on still frames


@dataclass(frozen=True)
class CheckResult:
    """What `--check` found.

    Attributes:
        store: the store's path.
        checks: the pairs compared, by id and number.
        damaged: the pairs drawn that cannot be compared.
        of_pairs: pairs that the store holds and OpenCV can do.
        left_out: videos with a side of 1 pixel, which OpenCV cannot do.
        seconds: time taken.
    """

    store: str
    checks: Sequence[PairCheck]
    damaged: Sequence[DamagedPair]
    of_pairs: int
    left_out: int
    seconds: float

    @property
    def worst(self) -> PairCheck | None:
        """The pair of the largest end-point error."""
        return max(self.checks, key=lambda check: check.stored.error_px, default=None)

    @property
    def problem(self) -> str | None:
        """One line if the stored flow is not the flow of its frames; None if all is well."""
        if not self.checks:
            return f"{self.store}: none of the pairs drawn could be compared"
        furthest = max(self.checks, key=lambda check: _deviation([check]))
        if _deviation([furthest]) > PAIR_LIMIT:
            found = "does not belong to its frames"
        elif _deviation(self.checks) > STORE_LIMIT:
            found = "is the furthest, but all are far: computed with other parameters?"
        else:
            return None
        return (
            f"{self.store}: {furthest.id}: flow of pair {furthest.pair} {found}"
            f" ({furthest.stored.error_px:.3f} px from OpenCV's, {furthest.storing.error_px:.3f}"
            f" of it by storing); run `slic prep flow {self.store} --overwrite`"
        )

    def json(self) -> dict[str, Any]:
        """The keys of `--json`; figures are null where no pair could be compared."""
        worst = self.worst
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
    """Mean error beyond the cost of storing, in units of what twice the epsilon makes."""
    yardstick = fmean(check.yardstick_px for check in checks)
    return fmean(check.excess_px for check in checks) / (max(0.0, yardstick) + ROUNDING_PX)


def _figures(parts: Sequence[Agreement]) -> dict[str, float | None]:
    if not parts:
        return dict.fromkeys(("error_px", "worst_px", "equal", "within_1", "worst_within_1"))
    return {
        "error_px": fmean(part.error_px for part in parts),
        "worst_px": max(part.error_px for part in parts),
        "equal": fmean(part.equal for part in parts),
        "within_1": fmean(part.within_1 for part in parts),
        "worst_within_1": min(part.within_1 for part in parts),
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
        dataset: folder or csv whose store is meant, or the store.
        pairs: how many; each pair of all videos is as likely as another. All, if there are fewer.
        seed: of the draw.
        store, layout: as of `prep_flow`.
        workers: processes; all cores if None.

    Raises:
        InputError: `pairs` is below 1.
        DatasetError, StoreError: no store, or no flow in it that OpenCV could compute.
        WorkError: a process died.
    """
    begin = time.monotonic()
    if pairs < 1:
        raise InputError(f"--check {pairs}: must be at least 1")
    _, path = resolve(dataset, store=store, layout=layout)
    if (ClipStore(path).settings("flow") or {}).get("method") == IMPORTED:
        raise StoreError(f"{path}: its flow was imported: TV-L1 does not tell whether it is right")
    entries = [entry for entry in ClipStore(path).entries() if entry.flow is not None]
    if not entries:
        raise StoreError(f"{path}: has no flow to check; run `slic prep flow {path}`")
    able = [entry for entry in entries if min(entry.height or 0, entry.width or 0) > 1]
    of_pairs = sum(_pairs(entry) for entry in able)
    if not of_pairs:
        raise StoreError(f"{path}: holds no pair of frames of 2x2 pixels or more to check")
    jobs = [PairJob(path, video, pair) for video, pair in _drawn(able, pairs, Random(seed))]
    found = _compared(jobs, min(workers or available_cores(), len(jobs)))
    return CheckResult(
        store=str(path),
        checks=[check for check in found if isinstance(check, PairCheck)],
        damaged=[check for check in found if isinstance(check, DamagedPair)],
        of_pairs=of_pairs,
        left_out=len(entries) - len(able),
        seconds=round(time.monotonic() - begin, 3),
    )


def _pairs(entry: Entry) -> int:
    return max(0, (entry.frames or 0) - 1)


def _drawn(entries: Sequence[Entry], count: int, random: Random) -> Iterator[tuple[str, int]]:
    """`count` distinct (id, pair), uniform over the pairs of all entries."""
    ends = list(accumulate(_pairs(entry) for entry in entries))
    for number in random.sample(range(ends[-1]), min(count, ends[-1])):
        place = bisect_right(ends, number)
        yield entries[place].id, number - (ends[place] - _pairs(entries[place]))


def _compared(jobs: Sequence[PairJob], workers: int) -> list[PairCheck | DamagedPair]:
    """Outcomes by id and number, in whatever order they came."""
    found = []
    with progress(len(jobs), "check", unit="pairs") as advance:
        for check in run_jobs(check_pair, jobs, workers=workers):
            found.append(check)
            advance(1, 1)
    return sorted(found, key=lambda check: (check.id, check.pair))
