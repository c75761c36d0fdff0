"""Random generators seeded by names, and items shared evenly among batches."""

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


def seeded(*parts: object) -> np.random.Generator:
    """Make a random generator that depends on the text of the given parts alone."""
    text = "\x1f".join(str(part) for part in parts).encode()
    return np.random.default_rng(int.from_bytes(hashlib.blake2b(text, digest_size=16).digest()))


def even_batches(items: Sequence[Item], batch_size: int) -> list[list[Item]]:
    """Split items into consecutive batches of nearly equal size, of at most `batch_size`."""
    count = -(-len(items) // batch_size)
    edges = [len(items) * i // count for i in range(count + 1)]
    return [list(items[a:b]) for a, b in pairwise(edges)]
