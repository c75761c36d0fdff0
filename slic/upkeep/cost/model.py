"""The model of cost: amounts over rates, stage by stage.

A stage takes as long as the slowest of what works in it side by side, its limit, once its
processes have started. Stages follow one another. Work spreads evenly over cores, GPUs and
machines; compiling, the choice of negatives and the optimiser are left out. docs/scale.md tells
how far that holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from slic.neighbours.lists import APPROXIMATE_FROM, LISTS_PER_ROOT, ROUNDS, TRAINED_ON
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import Data
from slic.upkeep.cost.rates import Rate

VIEWS = 3  # clips of a sample
TRAIN_PASSES = 3  # forward, and twice as much back
GREY = 2 / 3  # a field's two planes, of a frame's three
READERS_A_GPU = 16  # slic.runtime.devices.MOST_READERS
QUERIES = 1 / 4  # of the training videos: slic.train.recluster.QUERY_SHARE
FLOAT = 4
STARTING = "starting"
PROJECTION = 128
INDEX_ROW = 286  # bytes: 68.6 MB of 240,000 videos (benchmarks/README.md)
FILES_A_VIDEO, FOLDERS_A_VIDEO = 4, 2  # of its frames and flow
ARRAY_BYTES = 12_000  # of folder, metadata and half-filled blocks, as slic.prep.space counts
# Memory of a clustering for each byte of embeddings: 68.5 MB of 10,000 videos of 1 kB (same place).
COPIES = 6.7


@dataclass(frozen=True)
class Fleet:
    """What there is to work with.

    Attributes:
        machines: how many.
        cores: of each.
        gpus: in all.
    """

    machines: int
    cores: int
    gpus: int

    @property
    def all_cores(self) -> int:
        """Cores in all."""
        return self.machines * self.cores


@dataclass(frozen=True)
class Net:
    """What an encoder takes.

    Attributes:
        flops: floating-point operations of a clip going forward.
        parameters: numbers in it.
        features: length of the backbone embedding.
    """

    flops: float
    parameters: int
    features: int


@dataclass(frozen=True)
class Stage:
    """One stage of the work.

    Attributes:
        name: of the stage.
        amount, unit: how much there is to do.
        seconds: by what works side by side, the time that it needs.
        rates: names of the rates that these follow from, by the same keys.
        fleet: what it works with, or holds.
        starting: seconds before any of it begins.
    """

    name: str
    amount: float
    unit: str
    seconds: Mapping[str, float]
    rates: Mapping[str, tuple[str, ...]]
    fleet: Fleet
    starting: float = 0.0

    @property
    def limit(self) -> str:
        """What takes longest, which may be that processes start."""
        found = max(self.seconds, key=lambda name: self.seconds[name])
        return found if self.seconds[found] >= self.starting else STARTING

    @property
    def time(self) -> float:
        """Seconds that the stage takes; none where there is nothing to do."""
        return (max(self.seconds.values()) + self.starting) * (self.amount > 0)

    def assumes(self, rates: Mapping[str, Rate]) -> bool:
        """Whether its time follows from a rate that is assumed."""
        names = self.rates.get(self.limit, ("start",))
        return any(rates[name].how == "assumed" for name in names)


class Model:
    """Stages of the work on a data set.

    Args:
        data: amounts.
        settings: of training.
        net: its encoder.
        fleet: to work with.
        rates: all that `needed` names.
        clusterings: of a whole training.
    """

    def __init__(
        self,
        data: Data,
        settings: SlicSettings,
        net: Net,
        fleet: Fleet,
        rates: Mapping[str, Rate],
        *,
        clusterings: int,
    ) -> None:
        self.data, self.settings, self.net, self.fleet = data, settings, net, fleet
        self.clusterings = clusterings
        self._rate = {name: rate.value for name, rate in rates.items()}

    def stages(self) -> list[Stage]:
        """All of them, in order; those without work take no time."""
        found = [self.frames(), self.flow(), self.train()]
        if self.clusterings:
            found += [self.embed(), self.cluster()]
        return [*found, self.evaluate()]

    def frames(self) -> Stage:
        """Decode, make smaller, code, store."""
        d, r = self.data, self._rate
        pixels = d.frames_left * d.pixels
        a_core = d.frames_left * d.weight / r["decode"] + pixels / r["encode"]
        a_core += d.videos_left * r["video"]
        written = d.frames_left * d.frame_bytes + d.videos_left * ARRAY_BYTES
        return Stage(
            "frames",
            d.frames_left,
            "frames",
            {"decoding": a_core / self.fleet.all_cores, "disk": written / r["disk"]},
            {"decoding": ("decode", "encode", "video"), "disk": ("disk",)},
            replace(self.fleet, gpus=0),
            self._starting,
        )

    def flow(self) -> Stage:
        """TV-L1 of each pair; on GPUs cores read the frames and code the fields."""
        d, r, fleet = self.data, self._rate, self.fleet
        pixels = d.pairs_left * d.pixels if self.settings.flow_probability > 0 else 0.0
        share = pixels / d.pixels if d.pixels else 0.0
        moved = share * (d.frame_bytes + d.flow_bytes)
        seconds = {"disk": moved / r["disk"]}
        of: dict[str, tuple[str, ...]] = {"disk": ("disk",)}
        if fleet.gpus:
            seconds["GPU"] = pixels / r["flow_gpu"] / fleet.gpus
            of["GPU"] = ("flow_gpu",)
            a_core = pixels / r["read"] + GREY * pixels / r["encode"]
            seconds["reading"] = a_core / fleet.all_cores
            of["reading"] = ("read", "encode")
        else:
            seconds["flow"] = pixels / r["flow_cpu"] / fleet.all_cores
            of["flow"] = ("flow_cpu",)
        return Stage("flow", share, "pairs", seconds, of, fleet, self._starting)

    def train(self) -> Stage:
        """Steps, while readers read; gradients are summed over machines at each step."""
        s, r = self.settings, self._rate
        samples = s.epochs * self.data.train
        clips = VIEWS * samples
        how = {"flops": TRAIN_PASSES * self.net.flops, "size": self._sample}
        stage = self._computed("train", clips, self.fleet, rate="augment", **how)
        stage = replace(stage, starting=self._starting)
        if self.fleet.machines < 2:
            return stage
        steps = s.epochs * -(-self.data.train // s.batch_size)
        moved = 2 * FLOAT * self.net.parameters * (self.fleet.machines - 1) / self.fleet.machines
        return replace(
            stage,
            seconds={**stage.seconds, "network": steps * moved / r["network"]},
            rates={**stage.rates, "network": ("network",)},
        )

    def embed(self) -> Stage:
        """The centre clip of each training and labelled test video, at each clustering."""
        clips = self.clusterings * (self.data.train + self.data.test)
        return self._forward("embed", clips, self.fleet)

    def cluster(self) -> Stage:
        """First neighbours of each clustering, and its recalls, on the cores of one machine."""
        rows, s = self.data.train, self.settings
        compared, of = float(rows * rows), tuple[str, ...](("neighbours",))
        if rows >= APPROXIMATE_FROM:
            lists = LISTS_PER_ROOT * rows**0.5
            # Rows are listed, and asked about, by the centres, which k-means has found.
            compared = self._rate["lists"] * rows * rows + 2 * rows * lists
            compared += ROUNDS * TRAINED_ON * lists * lists
            of = ("neighbours", "lists")
        width = PROJECTION if s.retrieval_feature == "projection" else self.net.features
        recalled = QUERIES * (1 - QUERIES) * rows * rows if self.data.labelled else 0.0
        recalled += float(rows) * self.data.test
        flops = 2.0 * (compared * PROJECTION + recalled * width) * self.clusterings
        seconds = flops / self._rate["neighbours"] / self.fleet.cores
        rows *= self.clusterings
        of_it = {"neighbours": seconds}, {"neighbours": of}
        return Stage("cluster", rows, "rows", *of_it, self.fleet)

    def evaluate(self) -> Stage:
        """Some clips of every video, for retrieval, the linear probe and search, on one GPU."""
        alone = Fleet(1, self.fleet.cores, min(1, self.fleet.gpus))
        clips = self.settings.retrieval_clips * self.data.videos
        return replace(self._forward("evaluate", clips, alone), starting=self._starting)

    @property
    def _starting(self) -> float:
        """Seconds to start a command, and then what decodes or reads for it, side by side."""
        return 2 * self._rate["start"]

    def _forward(self, name: str, clips: float, fleet: Fleet) -> Stage:
        size = self.settings.frames * self.data.frame_bytes
        how = {"flops": self.net.flops, "size": size}
        return self._computed(name, clips, fleet, rate="read", **how)

    @property
    def _sample(self) -> float:
        """Bytes read for a view of a sample, on average: the anchor's frames are read once."""
        p, d = self.settings.flow_probability, self.data
        frames, fields = 2 - p, 2 * p
        return self.settings.frames * (frames * d.frame_bytes + fields * d.flow_bytes) / VIEWS

    def _computed(
        self, name: str, clips: float, fleet: Fleet, *, flops: float, rate: str, size: float
    ) -> Stage:
        """Clips that are read and passed through the encoder; on CPUs by the same cores."""
        r = self._rate
        pixels = clips * self.settings.frames * self.data.pixels
        seconds = {"disk": clips * size / r["disk"]}
        of: dict[str, tuple[str, ...]] = {"disk": ("disk",)}
        if fleet.gpus:
            readers = min(fleet.all_cores, READERS_A_GPU * fleet.gpus)
            seconds["GPU"] = clips * flops / r["compute_gpu"] / fleet.gpus
            seconds["reading"] = pixels / r["read"] / readers
            of |= {"GPU": ("compute_gpu",), "reading": ("read",)}
        else:
            a_core = clips * flops / r["compute_cpu"] + pixels / r[rate]
            seconds["cores"] = a_core / fleet.all_cores
            of["cores"] = ("compute_cpu", rate)
        return Stage(name, clips, "clips", seconds, of, fleet)

    def sizes(self) -> dict[str, float]:
        """What the finished work holds on disk, and the memory of a clustering."""
        d, row = self.data, FLOAT * (self.net.features + PROJECTION)
        moments = 2 if self.settings.optimiser == "sgd" else 3
        with_flow = self.settings.flow_probability > 0
        return {
            "frames": d.frames * d.frame_bytes + d.videos * ARRAY_BYTES,
            "flow": (d.pairs * d.flow_bytes + d.videos * ARRAY_BYTES) * with_flow,
            "index": d.videos * INDEX_ROW,
            "embeddings": d.videos * row,
            "checkpoint": moments * FLOAT * self.net.parameters,
            "memory": COPIES * (d.train + d.test) * row,
        }


def needed(fleet: Fleet) -> list[str]:
    """Names of the rates that the model takes."""
    common = ["decode", "encode", "video", "read", "neighbours", "lists", "start"]
    common += ["disk", "network"]
    return [*common, *(ON_GPUS if fleet.gpus else _ON_CPUS)]


ON_GPUS = ["flow_gpu", "compute_gpu"]
_ON_CPUS = ["flow_cpu", "compute_cpu", "augment"]
