"""Where a training's time goes: sums of phases, and what a user sees of them."""

from pathlib import Path

import pytest
import torch

from slic.engine.profile import CLUSTERING, PHASES, Profile
from slic.train.run import train
from tests.conftest import TINY

CPU = torch.device("cpu")


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Moments that the clock will show, in order."""
    moments: list[float] = []
    monkeypatch.setattr("slic.engine.profile.time.perf_counter", lambda: moments.pop(0))
    return moments


def test_phases_add_up(ticks: list[float]) -> None:
    profile = Profile(CPU)
    # Two batches, waited for 1 and 2 seconds, then the end, after 4; each in forward for 8.
    ticks.extend([0, 1, 10, 18, 20, 22, 30, 38, 40, 44, 50, 80])
    for _ in profile.waiting(iter("ab")):
        with profile.phase("forward"):
            pass
    with profile.phase(CLUSTERING):
        pass
    assert profile.steps == 2
    # The end of the batches is no wait for one.
    assert profile.seconds["waiting for data"] == 3
    assert profile.seconds["forward"] == 16
    rows = {name: (seconds, each, share) for name, seconds, each, share in profile.rows()}
    assert rows["waiting for data"] == (3, 1500, 3 / rows_total(profile))
    assert rows["forward"][1] == 8000
    assert rows[CLUSTERING][1] is None
    assert sum(share for *_, share in rows.values()) == pytest.approx(1)


def rows_total(profile: Profile) -> float:
    return sum(profile.seconds.values())


def test_a_profile_that_nobody_wants_reads_no_clock(ticks: list[float]) -> None:
    profile = Profile(CPU, enabled=False)
    assert list(profile.waiting(iter("ab"))) == ["a", "b"]
    with profile.phase("forward"):
        pass
    assert rows_total(profile) == 0


def test_training_says_where_its_time_went(work: Path) -> None:
    said: list[str] = []
    result = train(
        "ucf101.zarr",
        preset="cpu-small",
        options={**TINY, "seed": 9, "objective": "triplet"},
        device="cpu",
        workers=0,
        profile=True,
        say=said.append,
    )
    begin = next(i for i, line in enumerate(said) if line.startswith("time spent in"))
    assert said[begin] == f"time spent in {result['steps']} steps:"
    lines = {line[2:20].strip(): line[20:].split() for line in said[begin + 1 :]}
    assert tuple(lines) == (*PHASES, CLUSTERING)
    assert all(float(words[0]) >= 0 for words in lines.values())
    assert float(lines["backward"][0]) + float(lines[CLUSTERING][0]) > 0
    assert all(
        words[-3:] == ["ms", "per", "step"] for name, words in lines.items() if name in PHASES
    )
    assert max(map(len, said[begin:])) <= 80
