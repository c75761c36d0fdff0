from pathlib import Path

import numpy as np
import pytest

from slic.cache import Entry
from slic.errors import LabelsMissing, StoreError
from slic.eval.holdout import divide, held_groups

HERE = Path("some.zarr")


def entry(video: str, label: str | None, group: str | None, part: str | None = "train") -> Entry:
    return Entry(video, video, video, label, group, part, None, None, frames=9)


def some_entries(seed: int) -> list[Entry]:
    """Classes of different size, some videos without group, some tested or unused."""
    rng = np.random.default_rng(seed)
    entries = []
    for label in "abcde":
        for i in range(int(rng.integers(6, 60))):
            number = int(rng.integers(20))
            group = None if number == 0 else f"g{number:02d}"
            part = "test" if number % 4 == 1 else ("unused" if number == 2 else "train")
            entries.append(entry(f"{label}{i}", label, group, part))
    return entries


def scenes(entries: list[Entry]) -> set[tuple]:
    return {(e.label, e.group or e.id) for e in entries}


@pytest.mark.parametrize("seed", range(6))
def test_parts_share_no_group_and_validation_is_no_test_video(seed: int) -> None:
    entries = some_entries(seed)
    parts = divide(entries, split=1, where=HERE)
    assert not scenes(parts.train) & scenes(parts.validation)
    assert not scenes(parts.test) & scenes(parts.train + parts.validation)
    assert parts.validation
    trained = sorted(e.id for e in parts.train + parts.validation)
    assert trained == sorted(e.id for e in entries if e.split1 == "train")
    assert {e.id for e in parts.test} == {e.id for e in entries if e.split1 == "test"}


@pytest.mark.parametrize("seed", range(3))
def test_the_choice_depends_on_names_alone(seed: int) -> None:
    entries = some_entries(seed)
    first = divide(entries, split=1, where=HERE)
    shuffled = [entries[i] for i in np.random.default_rng(seed).permutation(len(entries))]
    other = divide(shuffled, split=1, where=HERE)
    assert {e.id for e in first.validation} == {e.id for e in other.validation}
    without = [e for e in entries if e.split1 != "test" or e.label == "a"]
    assert {e.id for e in divide(without, split=1, where=HERE).validation} == {
        e.id for e in first.validation
    }


@pytest.mark.parametrize(
    ("groups", "held"), [(1, 0), (3, 0), (4, 1), (8, 1), (15, 1), (16, 2), (18, 2), (200, 25)]
)
def test_an_eighth_of_the_groups_is_held(groups: int, held: int) -> None:
    names = [f"g{i:03d}" for i in range(groups)]
    assert len(held_groups("walk", names * 2)) == held
    # Classes hold different groups.
    assert groups < 200 or held_groups("walk", names) != held_groups("run", names)


WRONG = {
    "no test videos": ([entry("v", "a", None)], StoreError, "no labelled test video"),
    "no training videos": ([entry("v", "a", None, "test")], StoreError, "no labelled train video"),
    "one class": (
        [entry("v", "a", None), entry("w", "a", None, "test")],
        LabelsMissing,
        "two classes",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_divided_is_named(case: str) -> None:
    entries, error, message = WRONG[case]
    with pytest.raises(error, match=rf"some\.zarr: .*{message}"):
        divide(entries, split=1, where=HERE)
