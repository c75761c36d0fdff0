"""Adjusted mutual information of two clusterings of many clusters.

scikit-learn's takes a step for every pair of clusters: hours for two clusterings of 50,000. Its
expectation depends on the clusters' sizes alone, of which there are few, so that here it takes
one for every pair of sizes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def agreement(cells: Counts, rows: Counts, columns: Counts) -> float:
    """Adjusted mutual information (arithmetic mean) of two clusterings of N items.

    1 for the same clusters, about 0 for unrelated ones. Vinh et al., "Information Theoretic
    Measures for Clusterings Comparison", JMLR 2010.

    Args:
        cells: `(K, 3)`: row, column, and the items that the two clusters share, one or more.
        rows: `(R,)` sizes of one clustering's clusters.
        columns: `(C,)` sizes of the other's.
    """
    shared = cells[:, 2]
    if len(cells) == len(rows) == len(columns):
        return 1.0  # the same clusters
    total = int(rows.sum())
    expected_by_chance = rows[cells[:, 0]].astype(float) * columns[cells[:, 1]]
    information = float((shared / total * np.log(shared * total / expected_by_chance)).sum())
    expected = _expected_information(rows, columns, total)
    mean = (_entropy(rows, total) + _entropy(columns, total)) / 2
    # Of clusterings that leave nothing to chance, such as one cluster of all.
    if mean - expected <= np.finfo(float).eps:
        return 0.0
    return (information - expected) / (mean - expected)


def _entropy(sizes: Counts, total: int) -> float:
    share = sizes / total
    return float(-(share * np.log(share)).sum())


def _expected_information(rows: Counts, columns: Counts, total: int) -> float:
    """Mean mutual information of clusterings with these sizes, all else being chance."""
    sizes, times = np.unique(rows, return_counts=True)
    others, other_times = np.unique(columns, return_counts=True)
    pairs = zip(sizes.tolist(), times.tolist(), strict=True)
    return sum(time * _expected_of(size, others, other_times, total) for size, time in pairs)


def _expected_of(size: int, others: Counts, times: Counts, total: int) -> float:
    """Expected information that one cluster shares with clusters of other sizes, so many each."""
    least = np.maximum(1, size + others - total)
    count = np.minimum(size, others) - least + 1
    other = np.repeat(others, count)
    begin = np.repeat(np.cumsum(count) - count - least, count)
    shared = np.arange(len(other)) - begin
    chance = np.exp(
        _log_choose(other, shared)
        + _log_choose(total - other, size - shared)
        - _log_choose(total, size)
    )
    gain = shared / total * np.log(shared * (total / (size * other.astype(float))))
    return float((np.repeat(times, count) * gain * chance).sum())


def _log_choose(whole: Any, part: Any) -> Any:
    from scipy.special import gammaln

    return gammaln(whole + 1) - gammaln(part + 1) - gammaln(whole - part + 1)
