"""The tables of the SLIC paper (CVPR 2022, and its poster): figures, and settings of its rows."""

from dataclasses import dataclass
from typing import Any, Literal

TableName = Literal["table1", "table2", "ablation"]
UCF1, UCF5 = "UCF101 R@1", "UCF101 R@5"
HMDB1, HMDB5 = "HMDB51 R@1", "HMDB51 R@5"
UCF_TOP, HMDB_TOP = "UCF101 top-1", "HMDB51 top-1"


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        method: Name of the method, as printed.
        network: Encoder, and what else distinguishes the row.
        published: Percent by column, without the columns that the paper leaves out.
        training: Settings that differ from the preset's; None for other authors' methods.
        preset: Preset of the training.
        mode: Mode of `slic eval classify`; None for retrieval.
    """

    method: str
    network: str
    published: dict[str, float]
    training: dict[str, Any] | None = None
    preset: str = "ucf101-32f"
    mode: Literal["linear-augmented", "finetune"] | None = None

    @property
    def source(self) -> str:
        """Name of the data set to pretrain on."""
        return "K400" if self.preset.startswith("kinetics") else "UCF101"


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        title: What the table compares.
        columns: Names of the columns of figures.
        rows: Rows in the paper's order.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def _retrieval(*figures: float) -> dict[str, float]:
    return dict(zip((UCF1, UCF5, HMDB1, HMDB5), figures, strict=False))


def _top1(ucf: float, hmdb: float | None = None) -> dict[str, float]:
    return {UCF_TOP: ucf} if hmdb is None else {UCF_TOP: ucf, HMDB_TOP: hmdb}


S3D: dict[str, Any] = {"encoder": "s3d"}
R3D: dict[str, Any] = {"encoder": "r3d18"}
SUPERVISED: dict[str, Any] = {"cluster": "labels"}

RETRIEVAL = Table(
    "Nearest-neighbour retrieval, pretrained on UCF101, split 1",
    (UCF1, UCF5, HMDB1, HMDB5),
    (
        Row("random init", "R3D", _retrieval(9.9, 18.9)),
        Row("CoCLR-RGB", "S3D", _retrieval(53.3, 69.4, 23.2, 43.2)),
        Row("TCLR", "R3D-18", _retrieval(56.2, 72.2, 22.8, 45.4)),
        Row("ViCC RGB", "S3D", _retrieval(62.1)),
        Row("ViCC RGB+flow", "S3D", _retrieval(65.1)),
        Row("MVCGC RGB+MV", "S3D", _retrieval(66.1, 79.1, 25.6, 49.2)),
        Row("SLIC", "S3D", _retrieval(69.8, 79.2, 26.8, 52.9), S3D),
        Row("SLIC", "R3D-18", _retrieval(71.6, 82.4, 28.9, 52.8), R3D),
        Row("true labels", "S3D", _retrieval(72.5, 79.1, 19.1, 45.1), S3D | SUPERVISED),
        Row("true labels", "R3D-18", _retrieval(81.0, 84.9, 33.0, 57.4), R3D | SUPERVISED),
    ),
)

CLASSIFICATION = Table(
    "Classification, top-1",
    (UCF_TOP, HMDB_TOP),
    (
        Row("TCLR", "R3D-18, UCF101, frozen", _top1(69.9)),
        Row("CoCLR", "S3D, UCF101, frozen", _top1(70.2, 39.1)),
        Row("SLIC", "R3D-18, UCF101, frozen", _top1(77.7, 48.3), R3D, mode="linear-augmented"),
        Row("CoCLR", "S3D, UCF101", _top1(81.4, 52.1)),
        Row("TCLR", "R3D-18, UCF101", _top1(82.4, 52.9)),
        Row("SLIC", "R3D-18, UCF101", _top1(83.2, 54.5), R3D, mode="finetune"),
        Row("TCLR", "R3D-18, K400", _top1(84.1, 53.6)),
        Row("CoCLR", "S3D, K400", _top1(87.9, 54.6)),
        Row("SLIC", "R3D-18, K400", _top1(83.1, 52.0), R3D, "kinetics400-32f", "finetune"),
    ),
)


def _ablation(without: str, training: dict[str, Any], *figures: float) -> Row:
    method = f"SLIC without {without}" if without else "SLIC"
    return Row(method, "R3D-18", _retrieval(*figures), R3D | training, "ucf101-16f")


NO_FLOW, NO_TEMPORAL = {"flow_probability": 0.0}, {"temporal_weight": 0.0}
ABLATION = Table(
    "Ablation, retrieval, clips of 16 frames",
    (UCF1, UCF5, HMDB1, HMDB5),
    (
        _ablation("clusters", {"cluster": "none"}, 45.0, 62.3, 19.5, 45.1),
        _ablation("flow, temporal loss", NO_FLOW | NO_TEMPORAL, 54.7, 65.6, 18.2, 41.5),
        _ablation("temporal loss", NO_TEMPORAL, 59.9, 69.8, 19.1, 41.1),
        _ablation("flow", NO_FLOW, 59.2, 69.8, 20.1, 43.6),
        _ablation("", {}, 66.7, 77.3, 25.3, 49.8),
    ),
)

TABLES: dict[TableName, Table] = {
    "table1": RETRIEVAL,
    "table2": CLASSIFICATION,
    "ablation": ABLATION,
}
