"""Commands that are killed with SIGKILL, and run again, end as if they had never been killed."""

import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cases import Material
from kills import Survived, kill_and_compare

SEED = 20261121
# Kills in one folder; `scripts/soak` kills at length.
SLOW = {"prep flow": 3, "train": 2, "eval retrieve": 1, "eval classify finetune": 2}


@pytest.mark.parametrize(
    ("name", "kills"),
    [
        ("prep frames", 2),
        *(pytest.param(name, kills, marks=pytest.mark.slow) for name, kills in SLOW.items()),
    ],
)
def test_killed_and_run_again_nothing_is_lost(material: Material, name: str, kills: int) -> None:
    found = kill_and_compare(material, name, seed=f"{SEED} {name}", kills=kills)
    assert not found.lost
    assert found.counts["compared"] == 1
    assert found.counts["kills"] >= 1


def soak_kills(seed: int, minutes: float) -> dict[str, Any]:
    """Kill every command in turn, up to six times in a folder, until the time is over.

    Returns:
        {command: {attempts, kills, compared}}, and `lost`: a line each.
    """
    rng, until = Random(seed), time.monotonic() + 60 * minutes
    found: dict[str, Survived] = {}
    with TemporaryDirectory(prefix="slic-soak-") as root:
        material = Material(Path(root))
        while time.monotonic() < until:
            for name in material.cases():
                one = kill_and_compare(
                    material, name, seed=str(rng.random()), kills=rng.randint(1, 6)
                )
                found[name] = found.get(name, Survived()) + one
                if time.monotonic() > until:
                    break
    counts: dict[str, Any] = {name: dict(one.counts) for name, one in found.items()}
    return {**counts, "lost": [line for one in found.values() for line in one.lost]}
