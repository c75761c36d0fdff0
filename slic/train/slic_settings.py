"""The settings of SLIC beside those that all methods have."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slic.config import DEFAULT_METHOD, Settings, probability, setting
from slic.runtime.text import counted

Objective = Literal["triplet", "infonce"]
PseudoLabels = Literal["finch", "kmeans", "none", "labels"]
Pairs = Literal["one", "all"]
CLUSTERINGS = ("finch", "kmeans")
_IN_WORDS = {
    "finch": "FINCH clusters",
    "kmeans": "k-means clusters",
    "none": "no clusters",
    "labels": "true labels as clusters",
}


@dataclass(frozen=True, kw_only=True)
class SlicSettings(Settings):
    """What decides a run of SLIC (paper, sections 3 and 4.1).

    Attributes:
        objective: the paper's `triplet` losses, or `infonce` over the same samples.
        margin, temporal_margin, temporal_weight: m1, m2 and the weight of the second loss.
        temperature: of InfoNCE.
        pairs: `one` positive an anchor, or `all` pairs of a cluster in the batch.
        same_video: p_alpha, the probability that a positive is of the anchor's own video.
        flow_probability: 1 - p_beta, the probability that a view is optical flow.
        cluster: pseudo-labels by FINCH or k-means, none (each video alone), or the true labels.
        partition: of FINCH's, 0 the finest.
        kmeans_clusters: of k-means.
        cluster_every: epochs between clusterings.
        warmup_epochs: epochs before the first clustering.
    """

    method: ClassVar[str] = DEFAULT_METHOD

    objective: Objective
    margin: float = setting(at_least=0)
    temporal_margin: float = setting(at_least=0)
    temporal_weight: float = setting(at_least=0)
    temperature: float = setting(above=0)
    pairs: Pairs = "one"
    same_video: float = probability()
    flow_probability: float = probability()
    cluster: PseudoLabels
    partition: int = setting(0, at_least=0)
    kmeans_clusters: int = setting(1000, at_least=2)
    cluster_every: int = setting(at_least=1)
    warmup_epochs: int = setting(at_least=0)

    @property
    def uses_flow(self) -> bool:
        """Whether training reads optical flow."""
        return self.flow_probability > 0

    def objective_in_words(self) -> str:
        """What is trained for, as a report says it: `triplet losses, no clusters`."""
        name = {"triplet": "triplet losses", "infonce": "InfoNCE"}[self.objective]
        clusters = _IN_WORDS[self.cluster]
        if self.cluster in CLUSTERINGS:
            clusters += f" every {counted(self.cluster_every, 'epoch')}"
            clusters += f" from epoch {self.warmup_epochs}" if self.warmup_epochs else ""
        return f"{name}, {clusters}"

    def contradiction(self) -> str | None:
        """What is wrong with settings that are each possible, but not together; None if nothing."""
        if self.temporal_margin > self.margin:
            return f"temporal_margin {self.temporal_margin} must not exceed margin {self.margin}"
        if self.pairs == "all" and self.objective != "triplet":
            return "pairs = 'all' is of objective = 'triplet' alone"
        return None
