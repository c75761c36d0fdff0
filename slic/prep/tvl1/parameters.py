"""Parameters of TV-L1, named and defaulted as OpenCV's."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from slic.errors import SettingsError

SMALLEST_SIDE = 16  # a coarser scale would have fewer pixels than this along a side
_SMALLEST, _LARGEST = 1e-9, 1e6  # products of three stay finite in float32


@dataclass(frozen=True)
class Tvl1Parameters:
    """Parameters of TV-L1, named and defaulted as in OpenCV's DualTVL1OpticalFlow.

    Attributes:
        tau: step of the dual update.
        lambda_: weight of the data term; smaller is smoother.
        theta: tightness of the coupling of data term and smoothness.
        nscales: scales at most; fewer where a side would fall under 16 pixels.
        warps: linearisations a scale.
        epsilon: stop where the root mean square change of the flow is not above it, in pixels.
        inner_iterations: iterations between median filters, at most.
        outer_iterations: median filters a warp, at most.
        scale_step: size of a scale relative to the next finer one.
        median_filtering: side of the median filter in pixels, 3 or 5; 1 for none.

    Raises:
        SettingsError: a value is of the wrong type or out of range.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    nscales: int = 5
    warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    scale_step: float = 0.8
    median_filtering: int = 5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            _check_number(field.name, value, whole=field.type is int)
            # Equal parameters shall have equal fingerprints, 1 and 1.0 and NumPy's 1 too.
            object.__setattr__(self, field.name, int(value) if field.type is int else float(value))
        if not self.scale_step < 1:
            raise SettingsError(f"TV-L1 parameter scale_step is {self.scale_step}: use 0 < x < 1")
        if self.median_filtering not in (1, 3, 5):
            size = self.median_filtering
            raise SettingsError(f"TV-L1 parameter median_filtering is {size}: use 1, 3 or 5")

    @classmethod
    def named(cls, **parameters: Any) -> "Tvl1Parameters":
        """Parameters from keywords; a `SettingsError` names what an unknown one may mean."""
        names = [field.name for field in fields(cls)]
        for name in parameters:
            if name not in names:
                nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
                raise SettingsError(f"unknown TV-L1 parameter {name!r}: did you mean {nearest!r}?")
        return cls(**parameters)


def parse_parameters(texts: Iterable[str]) -> dict[str, Any]:
    """Parameters as typed: `["epsilon=0.02"]` -> `{"epsilon": 0.02}`.

    Raises:
        SettingsError: no `name=number`, or twice the same name.
    """
    whole = {field.name for field in fields(Tvl1Parameters) if field.type is int}
    parameters: dict[str, Any] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            number = int(value) if name in whole and value.isdecimal() else float(value)
        except ValueError:
            raise SettingsError(f"--param {text}: give NAME=NUMBER, as in epsilon=0.02") from None
        if name in parameters:
            raise SettingsError(f"--param {text}: {name!r} is given twice; leave one out")
        parameters[name] = number
    return parameters


def _check_number(name: str, value: object, *, whole: bool) -> None:
    lowest = 1 if whole else _SMALLEST
    kind = f"{'an integer' if whole else 'a number'} from {lowest:g} to {_LARGEST:g}"
    types = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    right_type = isinstance(value, types) and not isinstance(value, bool)
    if not right_type or not lowest <= value <= _LARGEST:  # type: ignore[operator]
        raise SettingsError(f"TV-L1 parameter {name} is {value!r}: use {kind}")
