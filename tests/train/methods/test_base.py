from dataclasses import replace

import pytest
import torch

from slic.config import make_settings
from slic.train.methods.base import learning_rate, make_optimiser

SMALL = make_settings("cpu-small", options={"frames": 4, "size": 16})


def test_the_paper_trains_with_sgd_and_momentum():
    layer = torch.nn.Linear(2, 2)
    optimiser = make_optimiser(layer, make_settings("ucf101-16f"))
    assert type(optimiser) is torch.optim.SGD
    group = optimiser.param_groups[0]
    values = [group[key] for key in ("lr", "momentum", "weight_decay", "nesterov", "dampening")]
    assert values == [0.1, 0.5, 0.0, False, 0]
    assert len(group["params"]) == 2


def test_adam_has_decoupled_weight_decay():
    optimiser = make_optimiser(torch.nn.Linear(2, 2), SMALL)
    assert type(optimiser) is torch.optim.AdamW
    assert optimiser.param_groups[0]["weight_decay"] == 0.0001


def test_schedules():
    constant = replace(SMALL, schedule="constant", lr=0.1)
    assert {learning_rate(step, 100, settings=constant) for step in (0, 50, 99)} == {0.1}
    cosine = replace(SMALL, schedule="cosine", lr=0.1)
    rates = [learning_rate(step, 100, settings=cosine) for step in range(101)]
    assert rates == sorted(rates, reverse=True)
    expected = [0.1, 0.1 * (1 + 0.5**0.5) / 2, 0.05, 0.0]
    assert [rates[step] for step in (0, 25, 50, 100)] == pytest.approx(expected)
    assert rates[99] > 0


def test_a_rate_that_drops_by_steps():
    step = replace(SMALL, schedule="step", lr=0.1, epochs=10, drop_every=4)
    rates = [learning_rate(s, 100, settings=step) for s in range(100)]
    assert rates[:40] == [0.1] * 40
    assert rates[40:80] == pytest.approx([0.01] * 40)
    assert rates[80:] == pytest.approx([0.001] * 20)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_rate_that_rises_first(schedule):
    plain = replace(SMALL, schedule=schedule, lr=0.1, epochs=10)
    rising = replace(plain, lr_warmup_epochs=2)
    for s in range(100):
        share = min(1, (s + 1) / 20)
        expected = share * learning_rate(s, 100, settings=plain)
        assert learning_rate(s, 100, settings=rising) == pytest.approx(expected)
