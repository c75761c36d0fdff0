"""Compilation of the loops of TV-L1 by Numba.

Numba compiles a cached function again when its own file changes, but not when a file that it
calls does: after a change in `cpu_warp` or `cpu_median`, touch `cpu_kernels`.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit

# Results differ from strict arithmetic by less than OpenCV's versions differ from each other.
# NumPy's error model, because a division that may raise prevents vectorisation.
_OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy"}


def helper(function: Callable) -> Callable:
    """Compile a function that is only called by compiled functions."""
    return njit(**_OPTIONS)(function)


def compiled(function: Callable) -> Callable:
    """Compile an entry point that releases the interpreter lock; cache it on disk if possible."""
    try:
        done = njit(cache=True, nogil=True, **_OPTIONS)(function)
    except RuntimeError:  # Numba found no writable folder for its cache
        return njit(nogil=True, **_OPTIONS)(function)
    save = done._cache.save_overload

    def save_if_possible(*what: Any) -> None:
        with contextlib.suppress(OSError):  # a full disk, for example
            save(*what)

    done._cache.save_overload = save_if_possible
    return done
