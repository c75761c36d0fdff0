"""The settings of SLIC, beside those that all methods share."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from slic.config import DEFAULT_METHOD, Settings, Switch, setting
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
    """The settings of SLIC (paper, sections 3 and 4.1)."""

    method: ClassVar[str] = DEFAULT_METHOD

    objective: Objective = setting(
        help="Training loss: triplet (the paper's two losses), or infonce over the same samples.",
        panel="Method",
        option=True,
    )
    margin: float = setting(
        help="Margin m1 of the instance loss, in cosine distance.", panel="Method", at_least=0
    )
    temporal_margin: float = setting(
        help="Margin m2 of the temporal discrimination loss, in cosine distance; at most m1.",
        panel="Method",
        at_least=0,
    )
    temporal_weight: float = setting(
        help="Weight of the temporal discrimination loss relative to the instance loss.",
        panel="Method",
        switch=Switch("--no-temporal-loss", 0.0, "Train with the instance loss only."),
        at_least=0,
    )
    temperature: float = setting(
        help="Temperature of infonce: lower values weigh near negatives more.",
        panel="Method",
        above=0,
    )
    pairs: Pairs = setting(
        "one",
        help="Positive pairs in a batch: one per anchor, or all clips that share a cluster (triplet"
        " only).",
        panel="Method",
        switch=Switch(
            "--all-pairs",
            "all",
            "Use all positive pairs of a batch, as the authors' code does (triplet only).",
        ),
    )
    same_video: float = setting(
        help="Probability p_alpha that a positive is another clip of the anchor's own video, rather"
        " than of another video in its cluster.",
        panel="Method",
        at_least=0,
        at_most=1,
    )
    flow_probability: float = setting(
        help="Probability 1 - p_beta that a view shows optical flow instead of RGB.",
        panel="Method",
        switch=Switch("--no-flow", 0.0, "Train on RGB only; the store needs no flow."),
        at_least=0,
        at_most=1,
    )
    cluster: PseudoLabels = setting(
        help="Source of the pseudo-labels: finch, kmeans, none (every video is its own cluster), or"
        " labels (the true ones).",
        panel="Method",
        option=True,
    )
    partition: int = setting(
        0,
        help="FINCH partition used as pseudo-labels; 0 is the finest, with the most clusters.",
        panel="Method",
        option=True,
        at_least=0,
    )
    kmeans_clusters: int = setting(
        1000, help="Number of clusters for kmeans.", panel="Method", at_least=2
    )
    cluster_every: int = setting(
        help="Epochs between two clusterings of the training videos.",
        panel="Method",
        option=True,
        at_least=1,
    )
    warmup_epochs: int = setting(
        help="Epochs before the first clustering, in which every video is its own cluster.",
        panel="Method",
        option=True,
        at_least=0,
    )

    @property
    def uses_flow(self) -> bool:
        """Whether training reads optical flow."""
        return self.flow_probability > 0

    def objective_in_words(self) -> str:
        """Describe the objective for a report: `triplet losses, no clusters`."""
        name = {"triplet": "triplet losses", "infonce": "InfoNCE"}[self.objective]
        clusters = _IN_WORDS[self.cluster]
        if self.cluster in CLUSTERINGS:
            clusters += f" every {counted(self.cluster_every, 'epoch')}"
            clusters += f" from epoch {self.warmup_epochs}" if self.warmup_epochs else ""
        return f"{name}, {clusters}"

    def contradiction(self) -> str | None:
        """Name a conflict between settings that are each valid; None if there is none."""
        if self.temporal_margin > self.margin:
            return f"temporal_margin {self.temporal_margin} must not exceed margin {self.margin}"
        if self.pairs == "all" and self.objective != "triplet":
            return "pairs = 'all' needs objective = 'triplet'"
        return None
