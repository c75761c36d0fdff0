"""The result of a check: its faults, and how each is repaired."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from slic.errors import SlicError


@dataclass
class Fault:
    """One fault of a store or run.

    Attributes:
        where: the video or file.
        what: what is wrong with it.
        repair: what `--repair` does about it; None if that is left to the user.
        action: does it; None if `repair` is None.
        repaired: whether it has been done.
        error: why it could not be done, or None.
    """

    where: str
    what: str
    repair: str | None = None
    action: Callable[[], object] | None = field(default=None, compare=False, repr=False)
    repaired: bool = field(default=False, compare=False)
    error: str | None = field(default=None, compare=False)


@dataclass
class Report:
    """The result of checking one store or run.

    Attributes:
        path: the folder of the store or run.
        kind: `store` or `run`.
        checked: number of videos, files and bytes that were checked, by their name.
        faults: all faults.
        notes: what is worth knowing but no fault.
        seconds: time taken.
    """

    path: str
    kind: Literal["store", "run"]
    checked: dict[str, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def repaired(self) -> int:
        """Number of faults that have been repaired."""
        return sum(fault.repaired for fault in self.faults)

    @property
    def sound(self) -> bool:
        """Whether there is no fault left."""
        return self.repaired == len(self.faults)

    def repair(self) -> None:
        """Repair what can be repaired; note the error of a repair that fails, and carry on."""
        for fault in self.faults:
            if fault.action is None:
                continue
            try:
                fault.action()
            except (OSError, SlicError) as error:
                fault.error = str(error)
            else:
                fault.repaired = True

    def json(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        names = ("path", "kind", "checked", "repaired", "seconds")
        faults = [{"what": f.what, "where": f.where, "repair": f.repair} for f in self.faults]
        failed = [f"{f.where}: not repaired: {f.error}" for f in self.faults if f.error]
        about = {name: getattr(self, name) for name in names}
        return about | {"faults": faults, "notes": [*self.notes, *failed]}
