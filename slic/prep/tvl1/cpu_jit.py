"""How the loops of TV-L1 are compiled by Numba.

A cached function is compiled anew when its own file changes, not when a file that it calls
does: after a change in `cpu_warp` or `cpu_median`, touch `cpu_kernels`.
"""

import contextlib
from collections.abc import Callable
from typing import Any

from numba import njit

# Results differ from strict arithmetic by less than OpenCV's versions differ from each other.
# The NumPy error model, as a division that may raise keeps a loop from being vectorised.
_OPTIONS: dict[str, Any] = {"fastmath": True, "error_model": "numpy"}


def helper(function: Callable) -> Callable:
    """Compile a function that only compiled functions call."""
    return njit(**_OPTIONS)(function)


def compiled(function: Callable) -> Callable:
    """Compile an entry point, without the interpreter lock, and keep it on disk if possible."""
    try:
        done = njit(cache=True, nogil=True, **_OPTIONS)(function)
    except RuntimeError:  # Numba found no folder that it may write to
        return njit(nogil=True, **_OPTIONS)(function)
    save = done._cache.save_overload

    def save_if_possible(*what: Any) -> None:
        with contextlib.suppress(OSError):  # such as of a full disk
            save(*what)

    done._cache.save_overload = save_if_possible
    return done
