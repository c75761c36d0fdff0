"""Networks of minima and maxima that sort or find the median, shared by the engines of TV-L1.

Such a network has no branches, so it works on vectors of any kind. The columns under a 5x5 window
are sorted first and then each rank across; in a matrix sorted along both axes only 13 of the 25
values can be the median. A short network, found by a search over their 162 cases of zeros and
ones, selects it.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any

low: Callable[..., Any] = min
high: Callable[..., Any] = max


def sort3(a, b, c):  # type: ignore[no-untyped-def]
    """Return three values in ascending order."""
    a, b = low(a, b), high(a, b)
    b, c = low(b, c), high(b, c)
    return low(a, b), high(a, b), c


def sort5(a, b, c, d, e):  # type: ignore[no-untyped-def]
    """Return five values in ascending order."""
    a, b = low(a, b), high(a, b)
    d, e = low(d, e), high(d, e)
    c, e = low(c, e), high(c, e)
    c, d = low(c, d), high(c, d)
    b, e = low(b, e), high(b, e)
    a, d = low(a, d), high(a, d)
    a, c = low(a, c), high(a, c)
    b, d = low(b, d), high(b, d)
    return a, low(b, c), high(b, c), d, e


def middle_of_13(a3, a4, b2, b3, b4, c1, c2, c3, d0, d1, d2, e0, e1):  # type: ignore[no-untyped-def]
    """Return the median of a 5x5 matrix that is sorted along both axes, rows a to e."""
    a4, e0 = low(a4, e0), high(a4, e0)
    d0 = high(a3, d0)
    b4 = low(b4, e1)
    b3, d1 = low(b3, d1), high(b3, d1)
    c1 = high(b2, c1)
    d2 = low(d2, c3)
    b4, e0 = low(b4, e0), high(b4, e0)
    a4, d0 = low(a4, d0), high(a4, d0)
    b3 = high(d0, b3)
    b4 = low(b4, d1)
    b4, b3 = low(b4, b3), high(b4, b3)
    d0 = high(high(c1, a4), low(d2, b3))
    return low(low(high(b4, c2), e0), d0)


def over(function: Callable[..., Any], **names: Any) -> Callable[..., Any]:
    """Return a copy of a network with other functions for `low` and `high`.

    They are globals of the copy, because compilers look names up there.
    """
    assert isinstance(function, FunctionType)
    scope = {**function.__globals__, **names}
    return FunctionType(function.__code__, scope, function.__name__)
