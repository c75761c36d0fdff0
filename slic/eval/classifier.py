"""A run's encoder with a linear layer on its backbone embedding."""

import copy

import torch
from torch import Tensor, nn

from slic.config import Precision
from slic.encoders.encoder import ARCHITECTURES, Encoder, normalise
from slic.encoders.precision import autocast
from slic.eval.recipe import BACKBONE_SHARE, WEIGHT_DECAY


class Classifier(nn.Module):
    """Map clips to class logits.

    Args:
        encoder: Copied, without its projection head.
        classes: Number of classes.
        frozen: Leave the backbone unchanged, its batch statistics included.
        precision: Precision of the backbone; the linear layer computes in float32.
        seed: Seed of the linear layer's initial weights.
    """

    def __init__(
        self, encoder: Encoder, classes: int, *, frozen: bool, precision: Precision, seed: int
    ) -> None:
        super().__init__()
        self.frozen, self.precision = frozen, precision
        self.width = ARCHITECTURES[encoder.name].features
        self.backbone = copy.deepcopy(encoder)
        self.backbone.head = nn.Sequential()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.linear = nn.Linear(self.width, classes)

    @property
    def trained(self) -> nn.Module:
        """The module that training changes."""
        return self.linear if self.frozen else self

    def train(self, mode: bool = True) -> "Classifier":
        """Set training mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, clips: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compute logits `(N, C)` float32.

        Args:
            clips: `(N, T, size, size, 3)` uint8.
            mask: `(N, D)` factors of the features, for dropout; default: none.
        """
        device = self.linear.weight.device
        learns = torch.is_grad_enabled() and not self.frozen
        with torch.set_grad_enabled(learns), autocast(device, self.precision):
            values = normalise(clips, device=device, statistics=self.backbone.statistics)
            features = self.backbone(values)[0]
        features = features.float()
        return self.linear(features if mask is None else features * mask)


def make_optimiser(network: Classifier) -> torch.optim.Adam:
    """Make Adam for the trained weights; the loop multiplies each group's rate by its `share`."""
    groups = [{"params": list(network.linear.parameters()), "share": 1.0}]
    if not network.frozen:
        groups.append({"params": list(network.backbone.parameters()), "share": BACKBONE_SHARE})
    return torch.optim.Adam(groups, weight_decay=WEIGHT_DECAY, fused=True)
