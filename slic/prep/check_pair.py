"""One pair of a store's flow against OpenCV's on the same stored frames."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Codec, dequantise, quantise
from slic.errors import DamagedChunk, SettingsError, WorkError
from slic.prep.flow_video import to_gray
from slic.prep.tvl1 import Tvl1Parameters, tvl1_flow

LOOSER = 2  # times epsilon, for the yardstick


@dataclass(frozen=True)
class Agreement:
    """How the levels of a pair agree with OpenCV's flow.

    Attributes:
        error_px: mean end-point error against the flow itself, clipped at the bound.
        equal, within_1: share of the levels that are the flow's own levels, or within 1 of them.
    """

    error_px: float
    equal: float
    within_1: float


@dataclass(frozen=True)
class PairJob:
    """One pair to compare: frame `pair`, counted from 0, and the next."""

    store: Path
    id: str
    pair: int


@dataclass(frozen=True)
class PairCheck:
    """One pair's figures.

    Attributes:
        id, pair: video, and number of the pair's first frame.
        engine: what computed the stored flow.
        stored: the stored levels against OpenCV's flow.
        storing: OpenCV's flow, stored the same way, against itself: the cost of storing.
        looser: OpenCV's flow at twice the epsilon, stored the same way: a yardstick.
    """

    id: str
    pair: int
    engine: str
    stored: Agreement
    storing: Agreement
    looser: Agreement

    @property
    def excess_px(self) -> float:
        """End-point error beyond the cost of storing."""
        return self.stored.error_px - self.storing.error_px

    @property
    def yardstick_px(self) -> float:
        """What twice the epsilon adds to the cost of storing: more where flow is ill-defined."""
        return self.looser.error_px - self.storing.error_px


@dataclass(frozen=True)
class DamagedPair:
    """A pair that cannot be compared, and why."""

    id: str
    pair: int
    reason: str


def check_pair(job: PairJob) -> PairCheck | DamagedPair:
    """Compare one stored pair with OpenCV's flow by the parameters recorded with it."""
    store = ClipStore(job.store)
    try:
        return _checked(store, job)
    except (WorkError, SettingsError) as error:
        return DamagedPair(job.id, job.pair, str(error))
    finally:
        store.index.close()


def _checked(store: ClipStore, job: PairJob) -> PairCheck:
    levels = store.read(job.id, job.pair, 1, view="flow")[0]
    gray = to_gray(store.read(job.id, job.pair, 2))
    bound, codec = store.flow_bound(job.id), store.flow_codec(job.id)
    parameters = _parameters(store, job.id)
    looser = replace(parameters, epsilon=parameters.epsilon * LOOSER)
    flow, other = _opencv(gray, parameters, bound), _opencv(gray, looser, bound)
    return PairCheck(
        job.id,
        job.pair,
        engine=str(store.flow_attributes(job.id).get("engine")),
        stored=_agreement(levels, flow, bound),
        storing=_agreement(_coded(quantise(flow, bound), codec), flow, bound),
        looser=_agreement(_coded(quantise(other, bound), codec), flow, bound),
    )


def _parameters(store: ClipStore, video: str) -> Tvl1Parameters:
    recorded = store.flow_attributes(video).get("parameters")
    if not isinstance(recorded, dict):
        raise DamagedChunk(f"{store.path}: {video}: flow without its parameters")
    return Tvl1Parameters.named(**recorded)


def _opencv(gray: NDArray[np.uint8], parameters: Tvl1Parameters, bound: float) -> np.ndarray:
    """OpenCV's flow of two frames; what lies beyond the bound is stored as the bound."""
    flow = tvl1_flow(gray, engine="opencv", **asdict(parameters))[0]
    return np.clip(flow, -bound, bound)


def _agreement(levels: NDArray[np.uint8], flow: np.ndarray, bound: float) -> Agreement:
    error = np.linalg.norm(dequantise(levels, bound) - flow, axis=-1)
    apart = np.abs(levels.astype(np.int16) - quantise(flow, bound))
    return Agreement(float(error.mean()), float((apart == 0).mean()), float((apart <= 1).mean()))


def _coded(levels: NDArray[np.uint8], codec: Codec) -> NDArray[np.uint8]:
    """Levels as they come back from a store."""
    back = np.empty_like(levels)
    codec.decode(codec.encode(levels), back)
    return back
