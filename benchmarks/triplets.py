"""Choice of negatives and the triplet losses of a batch: slic against plain loops over pairs.

    python benchmarks/triplets.py [--quick] [--json]

From drawn embeddings (B, 128) of anchors, positives and second views to the loss, on a CPU with
one thread, forward only. One loop holds PyTorch's tensors and records gradients, as slic does
beside it; the other holds NumPy's rows, and slic beside it records none. Both normalise rows
beforehand. Sides in turn; medians of CPU time a call. Exits if a loss differs by more than 1e-5.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from common import Column, Row, machine, show, show_json
from torch import Tensor
from torch.nn.functional import normalize

from slic.train.losses import instance_triplet_loss, temporal_discrimination_loss
from slic.train.negatives import candidates, select_negatives

BATCHES = (32, 128)
WIDTH, CLUSTERS = 128, 20
MARGIN, TEMPORAL_MARGIN = 0.2, 0.04
LARGEST_DIFFERENCE = 1e-5
ROUNDS, QUICK_ROUNDS = 25, 1
CALLS_A_ROUND = {"slic": 40, "slic, no gradient": 40, "PyTorch loop": 1, "NumPy loop": 4}
COLUMNS = (
    Column("side", "side"),
    Column("batch", "batch"),
    Column("ms a call", "ms", ".3f"),
    Column("slic's ms", "slic_ms", ".3f"),
    Column("ratio", "ratio", ".1f"),
    Column("loss differs by", "difference", ".1e"),
    Column("fallbacks", "fallbacks"),
)


class Batch(NamedTuple):
    """What a training step hands to selection and loss."""

    anchor: Tensor
    positive: Tensor
    second: Tensor
    labels: Tensor
    uniforms: Tensor


def drawn(batch: int) -> Batch:
    """Clusters so near each other that some anchors have negatives within the margin."""
    generator = torch.Generator().manual_seed(batch)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, WIDTH, generator=generator)

    labels = torch.randint(CLUSTERS, (batch,), generator=generator)
    anchor = normal(1) + 0.5 * normal(CLUSTERS)[labels] + 0.5 * normal(batch)
    positive, second = anchor + 0.5 * normal(batch), anchor + 0.5 * normal(batch)
    for view in (anchor, positive, second):
        view.requires_grad_()
    return Batch(anchor, positive, second, labels, torch.rand(batch, generator=generator))


def by_slic(batch: Batch) -> Tensor:
    """As the training step calls it."""
    anchor, positive, second, labels, uniforms = batch
    chosen = select_negatives(anchor, positive, labels, margin=MARGIN, uniforms=uniforms)
    negative = candidates(anchor, positive)[chosen.index]
    instance = instance_triplet_loss(anchor, positive, negative, margin=MARGIN, valid=chosen.valid)
    return instance + temporal_discrimination_loss(anchor, second, positive, margin=TEMPORAL_MARGIN)


def by_pytorch_loop(batch: Batch) -> Tensor:
    """Rows are tensors; as in slic, the choice records no gradient."""
    anchor, positive, second = (normalize(view, dim=1) for view in batch[:3])
    pool = [list(view.detach()) for view in (anchor, positive)]
    chosen = looped_choice(pool[0], pool[1], batch.labels.tolist(), batch.uniforms.tolist())
    return looped_loss(list(anchor), list(positive), list(second), chosen)


def by_numpy_loop(batch: Batch) -> float:
    """Rows are NumPy's; there is no gradient."""
    views = [view.detach().numpy() for view in batch[:3]]
    anchor, positive, second = (
        list(view / np.linalg.norm(view, axis=1, keepdims=True)) for view in views
    )
    chosen = looped_choice(anchor, positive, batch.labels.tolist(), batch.uniforms.tolist())
    return looped_loss(anchor, positive, second, chosen)


def looped_choice(
    anchor: Sequence[Any],
    positive: Sequence[Any],
    labels: Sequence[int],
    uniforms: Sequence[float],
) -> list[int | None]:
    """A negative of each anchor among all anchors and positives, if any is of another cluster."""
    pool, chosen = [*anchor, *positive], []
    for i, x in enumerate(anchor):
        limit = 1 - float(x @ positive[i]) + MARGIN
        others, near = [], []
        for j, candidate in enumerate(pool):
            if labels[j % len(labels)] != labels[i]:
                distance = 1 - float(x @ candidate)
                others.append((distance, j))
                if distance <= limit:
                    near.append(j)
        nearest = min(others)[1] if others else None
        chosen.append(near[int(uniforms[i] * len(near))] if near else nearest)
    return chosen


def looped_loss(
    anchor: Sequence[Any],
    positive: Sequence[Any],
    second: Sequence[Any],
    chosen: Sequence[int | None],
) -> Any:
    """Both losses, one anchor after the other, in the type of its rows."""
    pool = [*anchor, *positive]
    instance, temporal = [], []
    for x, near, view, j in zip(anchor, positive, second, chosen, strict=True):
        likeness = x @ near
        if j is not None:
            instance.append(max(x @ pool[j] - likeness + MARGIN, 0))
        temporal.append(max(likeness - x @ view + TEMPORAL_MARGIN, 0))
    return sum(instance) / max(len(instance), 1) + sum(temporal) / len(temporal)


SIDES: dict[str, Callable[[Batch], Any]] = {
    "slic": by_slic,
    "slic, no gradient": torch.no_grad()(by_slic),
    "PyTorch loop": by_pytorch_loop,
    "NumPy loop": by_numpy_loop,
}
COMPARED = {"PyTorch loop": "slic", "NumPy loop": "slic, no gradient"}


def milliseconds(name: str, batch: Batch) -> float:
    """CPU time of a call."""
    calls = CALLS_A_ROUND[name]
    begin = time.process_time()
    for _ in range(calls):
        SIDES[name](batch)
    return 1000 * (time.process_time() - begin) / calls


def measure(size: int, rounds: int) -> list[Row]:
    """Every side on one batch, in turn."""
    batch = drawn(size)
    with torch.no_grad():
        losses = {name: float(side(batch)) for name, side in SIDES.items()}
    took: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(rounds):
        for name, times in took.items():
            times.append(milliseconds(name, batch))
    ms = {name: statistics.median(times) for name, times in took.items()}
    chosen = select_negatives(*batch[:2], batch.labels, margin=MARGIN, uniforms=batch.uniforms)
    return [
        {
            "side": theirs,
            "batch": size,
            "ms": ms[theirs],
            "slic_ms": ms[ours],
            "ratio": ms[theirs] / ms[ours],
            "difference": abs(losses[theirs] - losses[ours]),
            "fallbacks": int(chosen.fallback.sum()),
        }
        for theirs, ours in COMPARED.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one round; check agreement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rounds = QUICK_ROUNDS if options.quick else ROUNDS
    rows = [row for size in BATCHES for row in measure(size, rounds)]
    facts = machine(threads=1, width=WIDTH, torch=torch.__version__, numpy=np.__version__)
    if options.json:
        show_json(facts, sides=rows, ratio=min(row["ratio"] for row in rows))
    else:
        show(rows, COLUMNS, facts)
    if max(row["difference"] for row in rows) > LARGEST_DIFFERENCE:
        sys.exit(f"losses differ by more than {LARGEST_DIFFERENCE}")


if __name__ == "__main__":
    main()
