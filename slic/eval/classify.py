"""`slic eval classify`: a linear probe on cached embeddings (paper, section 4.3)."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from slic.config import Feature
from slic.errors import LabelsMissing
from slic.eval.cached import Parts, cached_embeddings, evaluation_protocol, split_parts
from slic.metrics import topk_accuracy
from slic.runs import Run

Mode = Literal["linear"]
MOST_ITERATIONS = 2000


def probe(parts: Parts, *, ks: tuple[int, ...] = (1, 5)) -> dict[int, float]:
    """Accuracy of a logistic regression on standardised embeddings.

    Args:
        parts: it is fitted on the training side and measured on the test side. Test videos of
            a class that was never trained on count as wrong.
        ks: for top-k accuracy.

    Raises:
        LabelsMissing: fewer than two classes to tell apart.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(parts.train_labels)
    if len(classes) < 2:
        raise LabelsMissing("a linear probe needs training videos of two classes at least")
    # Double precision: single precision leaves the solver short of its tolerance.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MOST_ITERATIONS))
    model.fit(parts.train.astype(np.float64), parts.train_labels)
    scores = model.predict_proba(parts.test.astype(np.float64))
    known = np.isin(parts.test_labels, classes)
    if not known.any():
        return dict.fromkeys(ks, 0.0)
    targets = np.searchsorted(classes, parts.test_labels[known])
    share = known.mean()
    return {k: float(topk_accuracy(scores[known], targets, k) * share) for k in ks}


def classify(
    run: Run,
    *,
    mode: Mode = "linear",
    store: str | None = None,
    split: int | None = None,
    clips: int | None = None,
    feature: Feature = "backbone",
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Fit a linear probe on a split's training videos and measure it on its test videos.

    Args:
        run: whose latest checkpoint.
        mode: `linear`, on cached embeddings.
        store: another store than the run's.
        split: number; the run's if None.
        clips: clips a video; the run's setting if None.
        feature: which embedding.
        device, workers: for embeddings that are not cached yet.
        say: takes lines meant for the user.

    Returns:
        run, store, split, mode, train, test, top1, top5 (fractions), feature, clips.

    Raises:
        InputError and its kinds: unusable input.
    """
    number = run.settings.split if split is None else split
    protocol = evaluation_protocol(run.settings, clips)
    cache, path = cached_embeddings(
        run, store=store, protocol=protocol, device=device, workers=workers, say=say
    )
    parts = split_parts(cache, split=number, feature=feature, where=path)
    accuracy = probe(parts)
    return {
        "run": str(run.path),
        "store": str(path),
        "split": number,
        "mode": mode,
        "train": len(parts.train),
        "test": len(parts.test),
        "top1": accuracy[1],
        "top5": accuracy[5],
        "feature": feature,
        "clips": protocol.clips,
        "cache": str(cache.path),
    }
