"""What a check found, and what was mended."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from slic.errors import SlicError


@dataclass
class Fault:
    """Something that is not as it was written.

    Attributes:
        where: the video or file.
        what: what is wrong with it.
        repair: what `--repair` does about it; None if it leaves that to people.
        mend: does it.
        repaired: whether that was done.
        hindrance: why it could not be done.
    """

    where: str
    what: str
    repair: str | None = None
    mend: Callable[[], None] | None = field(default=None, compare=False, repr=False)
    repaired: bool = field(default=False, compare=False)
    hindrance: str | None = field(default=None, compare=False)


@dataclass
class Report:
    """A check of one store or run.

    Attributes:
        path: of the store or run.
        kind: which of the two.
        checked: how many videos, files and bytes were looked at.
        faults: all of them, in order of where they are.
        notes: what is worth knowing and no fault.
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
        """How many faults were mended."""
        return sum(fault.repaired for fault in self.faults)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or nothing any more."""
        return self.repaired == len(self.faults)

    def mend(self) -> None:
        """Mend what can be mended; what cannot stays a fault, and tells why."""
        for fault in self.faults:
            if fault.mend is None:
                continue
            try:
                fault.mend()
            except (OSError, SlicError) as error:
                fault.hindrance = str(error)
            else:
                fault.repaired = True

    def json(self) -> dict[str, Any]:
        """The keys of `--json`."""
        names = ("path", "kind", "checked", "repaired", "seconds")
        faults = [{"what": f.what, "where": f.where, "repair": f.repair} for f in self.faults]
        left = [f"{f.where}: not repaired: {f.hindrance}" for f in self.faults if f.hindrance]
        about = {name: getattr(self, name) for name in names}
        return about | {"faults": faults, "notes": [*self.notes, *left]}
