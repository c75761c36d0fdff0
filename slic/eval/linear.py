"""`slic eval classify --mode linear`: logistic regression on cached embeddings."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.config import Feature
from slic.embed.cached import (
    Parts,
    cached_embeddings,
    check_feature,
    evaluation_protocol,
    say_seen,
    split_parts,
)
from slic.errors import LabelsMissing
from slic.eval.outcome import about_run, measure, result_file, save_outcome
from slic.runs import Run

MAX_ITERATIONS = 2000  # scikit-learn's default, 100, is too few to converge


def probe(parts: Parts) -> tuple[list[str], NDArray[np.float64]]:
    """Fit a logistic regression to the standardised embeddings of the training videos.

    Returns:
        The K class names of the training videos, sorted, and `(N, K)` class probabilities of the
        test videos.

    Raises:
        LabelsMissing: The training videos are of fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes = np.unique(parts.train_labels)
    if len(classes) < 2:
        raise LabelsMissing("a linear probe needs training videos of at least two classes")
    # In single precision the solver does not reach its tolerance.
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=MAX_ITERATIONS))
    model.fit(parts.train.astype(np.float64), parts.train_labels)
    return classes.tolist(), model.predict_proba(parts.test.astype(np.float64))


def linear_probe(
    run: Run,
    *,
    split: int,
    clips: int | None,
    feature: Feature,
    say: Callable[[str], None],
    **options: Any,
) -> dict[str, Any]:
    """Fit and measure a probe on embeddings averaged over each video's clips.

    Args and result are those of `classify`; `options` are store, device and workers.
    """
    check_feature(run, feature)
    protocol = evaluation_protocol(run.settings, clips)
    cache, path = cached_embeddings(run, protocol=protocol, split=split, say=say, **options)
    say_seen(run, path, split, say)
    parts = split_parts(cache, split=split, feature=feature, where=path)
    classes, probabilities = probe(parts)
    outcome = measure(probabilities, classes, parts.test_labels)
    key = {name: str(cache.attributes[name]) for name in ("store_digest", "checkpoint", "protocol")}
    file = result_file(run, path, mode="linear", split=split, key={**key, "feature": feature})
    about = {
        **about_run(run, path, split),
        "mode": "linear",
        "train": len(parts.train),
        "validation": 0,
        "test": len(parts.test),
        "feature": feature,
        "clips": protocol.clips,
        "crops": 1,
        "cache": str(cache.path),
    }
    assert cache.labels is not None
    tested = cache.ids[(cache.labels != "") & (cache.splits[split] == "test")]
    return save_outcome(file, about, outcome, tested.tolist())
