"""The cost model: amounts of work divided by rates, for each stage of the pipeline.

A stage takes as long as the slowest of its parts, which work in parallel, plus the start of its
processes. Stages run one after another. Work is spread evenly over cores, GPUs and machines.
docs/scale.md lists what is left out and how well the model predicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from slic.encoders.encoder import new_encoder
from slic.neighbours.ivf import APPROXIMATE_FROM, LISTS_PER_ROOT, ROUNDS, TRAINED_ON
from slic.prep.space import OVERHEAD
from slic.runtime.devices import MOST_READERS
from slic.train.recluster import QUERY_SHARE
from slic.train.slic_settings import SlicSettings
from slic.upkeep.cost.data import Data
from slic.upkeep.cost.rates import Rate

VIEWS = 3  # clips per sample
TRAIN_PASSES = 3  # a backward pass costs two forward passes
FLOW_PLANES = 2 / 3  # a flow field has two planes, an RGB frame three
FLOAT = 4  # bytes
PROJECTION = 128  # numbers per projected embedding
INDEX_ROW = 286  # bytes: 68.6 MB for 240,000 videos (benchmarks/README.md)
FILES_A_VIDEO, FOLDERS_A_VIDEO = 4, 2  # of frames and flow
# Memory of a clustering per byte of embeddings: 68.5 MB for 10,000 videos of 1 kB (same place).
COPIES = 6.7

Parts = dict[str, tuple[float, str]]  # seconds of each part of a stage, and the rate behind it


@dataclass(frozen=True)
class Fleet:
    """Machines to work with: their number, the cores of each, and the GPUs of all together."""

    machines: int
    cores: int
    gpus: int

    @property
    def all_cores(self) -> int:
        """Cores of all machines."""
        return self.machines * self.cores


@dataclass(frozen=True)
class Network:
    """An encoder: operations of one clip's forward pass, parameters, and length of its features."""

    flops: float
    parameters: int
    features: int


@cache
def network_of(settings: SlicSettings) -> Network:
    """Count an encoder's operations and parameters on the meta device, without computing."""
    encoder = new_encoder(settings.encoder, seed=0).to("meta").eval()
    clip = torch.zeros((1, 3, settings.frames, settings.size, settings.size), device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        backbone, _ = encoder(clip)
    parameters = sum(weights.numel() for weights in encoder.parameters())
    return Network(float(counter.get_total_flops()), parameters, backbone.shape[1])


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    Attributes:
        name: name of the stage.
        amount, unit: amount of work.
        parts: seconds of what works in parallel, and the name of the rate that decides it.
        fleet: the machines that the stage holds.
        starting: seconds to start its processes.
    """

    name: str
    amount: float
    unit: str
    parts: Mapping[str, tuple[float, str]]
    fleet: Fleet
    starting: float = 0.0

    @property
    def limit(self) -> str:
        """The slowest part, or `starting` where starting the processes takes longer."""
        parts = {**self.parts, "starting": (self.starting, "start")}
        return max(parts, key=lambda name: parts[name][0])

    @property
    def rate(self) -> str:
        """The rate that decides how long the stage takes."""
        return self.parts[self.limit][1] if self.limit in self.parts else "start"

    @property
    def seconds(self) -> float:
        """Seconds that the stage takes; 0 if there is nothing to do."""
        slowest = max(seconds for seconds, _ in self.parts.values())
        return (slowest + self.starting) * (self.amount > 0)


@dataclass(frozen=True)
class Model:
    """The stages for a data set.

    Args:
        data: amounts of data.
        settings: settings of training.
        network: the encoder of these settings.
        fleet: machines to work with.
        rates: every rate of `UNITS` that the fleet uses.
        clusterings: number of clusterings in the whole training.
    """

    data: Data
    settings: SlicSettings
    network: Network
    fleet: Fleet
    rates: Mapping[str, Rate]
    clusterings: int

    def stages(self) -> list[Stage]:
        """Return all stages in order."""
        first = [self.frames(), self.flow(), self.train()]
        between = [self.embed(), self.cluster()] if self.clusterings else []
        return [*first, *between, self.evaluate()]

    def frames(self) -> Stage:
        """Decode, resize, encode and store the frames that are not stored yet."""
        d, r = self.data, self._values
        core_seconds = d.frames_left * d.weight / r["decode"]
        core_seconds += d.frames_left * d.pixels / r["encode"] + d.videos_left * r["video"]
        written = d.frames_left * d.frame_bytes + d.videos_left * OVERHEAD
        parts = {
            "decoding": (core_seconds / self.fleet.all_cores, "decode"),
            "disk": (written / r["disk"], "disk"),
        }
        fleet = replace(self.fleet, gpus=0)
        return Stage("frames", d.frames_left, "frames", parts, fleet, self._starting)

    def flow(self) -> Stage:
        """Compute TV-L1 flow; beside GPUs, cores read the frames and encode the fields."""
        d, r, fleet = self.data, self._values, self.fleet
        pairs = d.pairs_left if self.settings.flow_probability > 0 else 0.0
        pixels = pairs * d.pixels
        parts: Parts = {"disk": (pairs * (d.frame_bytes + d.flow_bytes) / r["disk"], "disk")}
        if fleet.gpus:
            core_seconds = pixels / r["read"] + FLOW_PLANES * pixels / r["encode"]
            parts["GPU"] = pixels / r["flow_gpu"] / fleet.gpus, "flow_gpu"
            parts["reading"] = core_seconds / fleet.all_cores, "read"
        else:
            parts["flow"] = pixels / r["flow_cpu"] / fleet.all_cores, "flow_cpu"
        return Stage("flow", pairs, "pairs", parts, fleet, self._starting)

    def train(self) -> Stage:
        """Read clips and run training steps; sum gradients over machines after each step."""
        s, d, fleet = self.settings, self.data, self.fleet
        p = s.flow_probability
        # Of a sample's three views, two share the anchor's frames: they are read once.
        size = s.frames * ((2 - p) * d.frame_bytes + 2 * p * d.flow_bytes) / VIEWS
        clips, flops = VIEWS * s.epochs * d.train, TRAIN_PASSES * self.network.flops
        parts = self._computed(clips, fleet, flops=flops, clip_bytes=size, reading="augment")
        if fleet.machines > 1:
            steps = s.epochs * -(-d.train // s.batch_size)
            moved = 2 * FLOAT * self.network.parameters * (1 - 1 / fleet.machines)
            parts["network"] = steps * moved / self._values["network"], "network"
        return Stage("train", clips, "clips", parts, fleet, self._starting)

    def embed(self) -> Stage:
        """Embed one clip of each training and labelled test video for each clustering."""
        clips = self.clusterings * (self.data.train + self.data.test)
        return Stage("embed", clips, "clips", self._embedded(clips, self.fleet), self.fleet)

    def cluster(self) -> Stage:
        """Find first neighbours and recalls for each clustering, on one machine's cores."""
        rows, s, rate = self.data.train, self.settings, "neighbours"
        compared = float(rows * rows)
        if rows >= APPROXIMATE_FROM:
            lists, rate = LISTS_PER_ROOT * rows**0.5, "lists"
            # Rows are assigned to, and looked up by, the centres, which k-means finds.
            compared = self._values["lists"] * rows * rows + 2 * rows * lists
            compared += ROUNDS * TRAINED_ON * lists * lists
        width = PROJECTION if s.retrieval_feature == "projection" else self.network.features
        queries = rows / QUERY_SHARE * self.data.labelled
        recalled = queries * (rows - queries) + float(rows) * self.data.test
        flops = 2.0 * (compared * PROJECTION + recalled * width) * self.clusterings
        seconds = flops / self._values["neighbours"] / self.fleet.cores
        parts = {"neighbours": (seconds, rate)}
        return Stage("cluster", rows * self.clusterings, "rows", parts, self.fleet)

    def evaluate(self) -> Stage:
        """Embed `retrieval_clips` clips of every video, on one machine and at most one GPU."""
        single = Fleet(1, self.fleet.cores, min(1, self.fleet.gpus))
        clips = self.settings.retrieval_clips * self.data.videos
        parts = self._embedded(clips, single)
        return Stage("evaluate", clips, "clips", parts, single, self._starting)

    def sizes(self) -> dict[str, float]:
        """Return the bytes of the finished work on disk, and the memory of a clustering."""
        d, row = self.data, FLOAT * (self.network.features + PROJECTION)
        copies = 2 if self.settings.optimiser == "sgd" else 3  # weights and the optimiser's state
        with_flow = self.settings.flow_probability > 0
        return {
            "frames": d.frames * d.frame_bytes + d.videos * OVERHEAD,
            "flow": (d.pairs * d.flow_bytes + d.videos * OVERHEAD) * with_flow,
            "index": d.videos * INDEX_ROW,
            "embeddings": d.videos * row,
            "checkpoint": copies * FLOAT * self.network.parameters,
            "memory": COPIES * (d.train + d.test) * row,
        }

    @property
    def _values(self) -> dict[str, float]:
        return {name: rate.value for name, rate in self.rates.items()}

    @property
    def _starting(self) -> float:
        """Seconds to start a command, and then its processes in parallel."""
        return 2 * self.rates["start"].value

    def _embedded(self, clips: float, fleet: Fleet) -> Parts:
        size = self.settings.frames * self.data.frame_bytes
        return self._computed(
            clips, fleet, flops=self.network.flops, clip_bytes=size, reading="read"
        )

    def _computed(
        self, clips: float, fleet: Fleet, *, flops: float, clip_bytes: float, reading: str
    ) -> Parts:
        """Read clips and pass them through the encoder; without GPUs the same cores do both."""
        r, pixels = self._values, clips * self.settings.frames * self.data.pixels
        parts: Parts = {"disk": (clips * clip_bytes / r["disk"], "disk")}
        if fleet.gpus:
            readers = min(fleet.all_cores, MOST_READERS * fleet.gpus)
            parts["GPU"] = clips * flops / r["compute_gpu"] / fleet.gpus, "compute_gpu"
            parts["reading"] = pixels / r["read"] / readers, "read"
        else:
            core_seconds = clips * flops / r["compute_cpu"] + pixels / r[reading]
            parts["cores"] = core_seconds / fleet.all_cores, "compute_cpu"
        return parts
