"""Parameters of TV-L1, with the names and defaults of OpenCV."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from slic.errors import SettingsError

SMALLEST_SIDE = 16  # pixels: no scale is coarser
_SMALLEST, _LARGEST = 1e-9, 1e6  # products of three stay finite in float32


@dataclass(frozen=True)
class Tvl1Parameters:
    """Parameters of TV-L1, with the names and defaults of OpenCV's DualTVL1OpticalFlow.

    Attributes:
        tau: step of the dual update.
        lambda_: weight of the data term; smaller is smoother.
        theta: tightness of the coupling between data term and smoothness.
        nscales: number of scales; fewer if a side would be below 16 pixels.
        warps: number of linearisations per scale.
        epsilon: threshold to stop on: root mean square change of the flow, in pixels.
        inner_iterations: maximum number of iterations between median filters.
        outer_iterations: maximum number of median filters per warp.
        scale_step: size of a scale relative to the next finer one.
        median_filtering: side of the median filter in pixels: 3, 5, or 1 for no filter.

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
            _check_number(field.name, value, integer=field.type is int)
            # So that equal values have equal fingerprints: 1, 1.0 and NumPy's 1.
            object.__setattr__(self, field.name, int(value) if field.type is int else float(value))
        if not self.scale_step < 1:
            raise SettingsError(f"TV-L1 parameter scale_step is {self.scale_step}: use 0 < x < 1")
        if self.median_filtering not in (1, 3, 5):
            size = self.median_filtering
            raise SettingsError(f"TV-L1 parameter median_filtering is {size}: use 1, 3 or 5")

    @classmethod
    def named(cls, **parameters: Any) -> "Tvl1Parameters":
        """Create parameters from keywords; the SettingsError of an unknown one suggests another."""
        names = [field.name for field in fields(cls)]
        for name in parameters:
            if name not in names:
                nearest = difflib.get_close_matches(name, names, n=1, cutoff=0)[0]
                raise SettingsError(f"unknown TV-L1 parameter {name!r}: did you mean {nearest!r}?")
        return cls(**parameters)


def parse_parameters(texts: Iterable[str]) -> dict[str, Any]:
    """Parse parameters of the command line: `["epsilon=0.02"]` becomes `{"epsilon": 0.02}`.

    Raises:
        SettingsError: a text is not `name=number`, or a name is given twice.
    """
    integers = {field.name for field in fields(Tvl1Parameters) if field.type is int}
    parameters: dict[str, Any] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        try:
            number = int(value) if name in integers and value.isdecimal() else float(value)
        except ValueError:
            raise SettingsError(f"--param {text}: give NAME=NUMBER, as in epsilon=0.02") from None
        if name in parameters:
            raise SettingsError(f"--param {text}: {name!r} is given twice: omit one")
        parameters[name] = number
    return parameters


def _check_number(name: str, value: object, *, integer: bool) -> None:
    lowest = 1 if integer else _SMALLEST
    kind = f"{'an integer' if integer else 'a number'} from {lowest:g} to {_LARGEST:g}"
    types = (int, np.integer) if integer else (int, float, np.integer, np.floating)
    right_type = isinstance(value, types) and not isinstance(value, bool)
    if not right_type or not lowest <= value <= _LARGEST:  # type: ignore[operator]
        raise SettingsError(f"TV-L1 parameter {name} is {value!r}: use {kind}")
