"""Optimiser and learning rate, as the settings say."""

import math

import torch
from torch import nn

from slic.config import Settings


def make_optimiser(encoder: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """SGD as in the paper (section 4.1), or Adam with decoupled weight decay."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            encoder.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        encoder.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True
    )


def learning_rate(step: int, steps: int, *, settings: Settings) -> float:
    """The rate of a step, of so many in all.

    Constant, half a cosine from `lr` to 0, or a tenth every so many epochs; at first it rises
    from 0 in a straight line, if the settings say so.
    """
    s, rate = settings, settings.lr
    warmup = steps * s.lr_warmup_epochs / s.epochs
    if step + 1 < warmup:
        rate *= (step + 1) / warmup
    if s.schedule == "cosine":
        rate *= 0.5 * (1 + math.cos(math.pi * step / steps))
    if s.schedule == "step":
        rate *= 0.1 ** (step * s.epochs // (steps * s.drop_every))
    return rate
