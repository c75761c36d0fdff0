"""Training steps to compare, and the usual ones: fp32, eager, NCDHW, a folder of JPEGs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from peer_clips import JpegFolder, augmented, stacked
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from slic.clips.augmentation import draw_augmentation
from slic.config import Settings
from slic.encoders.encoder import MEAN, STD, Encoder, new_encoder
from slic.encoders.precision import tune
from slic.engine.forward import ComputeOptions, Forward, make_forward
from slic.train.methods.base import make_optimiser
from slic.train.methods.slic import batch_loss
from slic.train.negatives import BatchLabels
from slic.train.sampling import VideoTriplet


@dataclass
class Side:
    """One way to compute training steps, with its own weights and optimiser.

    Attributes:
        encoder: in training mode.
        forward: of the encoder.
        optimiser: of its weights.
        prepare: makes PyTorch's global switches this side's.
        settings, device: of its steps.
    """

    encoder: Encoder
    forward: Forward
    optimiser: torch.optim.Optimizer
    prepare: Callable[[], None]
    settings: Settings
    device: torch.device

    def step(self, clips: Tensor, labels: BatchLabels, *, seed: int) -> Tensor:
        """One step as `slic train` does it; its loss, not waited for.

        Args:
            clips: `(3, B, T, size, size, 3)` uint8.
            labels: of the batch.
            seed: of the choice of negatives.
        """
        anchor, positive, second = self.forward(clips.flatten(0, 1)).chunk(len(clips))
        loss, _ = batch_loss(
            (anchor, positive, second),
            labels,
            settings=self.settings,
            generator=torch.Generator().manual_seed(seed),
        )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def held_bytes(self) -> int:
        """Return what persists between steps: weights, gradients and the optimiser's state."""
        kept = [*self.encoder.parameters(), *self.encoder.buffers()]
        kept += [p.grad for p in self.encoder.parameters() if p.grad is not None]
        kept += [v for s in self.optimiser.state.values() for v in s.values() if v is not None]
        return sum(t.numel() * t.element_size() for t in kept if isinstance(t, Tensor))


def slic_side(settings: Settings, compute: ComputeOptions) -> Side:
    """Training steps as `slic train` computes them."""
    encoder = new_encoder(settings.encoder, seed=0).train()
    encoder = encoder.to(compute.device, memory_format=torch.channels_last_3d)
    return Side(
        encoder,
        make_forward(encoder, compute, settings.precision),
        make_optimiser(encoder, settings),
        lambda: tune(compute.device, settings.precision),
        settings,
        compute.device,
    )


def plain_side(settings: Settings, device: torch.device) -> Side:
    """The same weights and losses in fp32, eager, NCDHW, with PyTorch's own optimiser."""
    encoder = new_encoder(settings.encoder, seed=0).train().to(device)
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1, 1) for v in (MEAN, STD))

    def forward(clips: Tensor) -> Tensor:
        values = clips.permute(0, 4, 1, 2, 3).contiguous().float().div_(255)
        return encoder(values.sub_(mean).div_(std))[1]

    optimiser = plain_optimiser(encoder, settings)
    return Side(encoder, forward, optimiser, _plain_arithmetic, settings, device)


def plain_optimiser(encoder: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Make PyTorch's optimiser with the settings' values and defaults otherwise."""
    weights, decay = encoder.parameters(), settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.AdamW(weights, lr=settings.lr, weight_decay=decay)
    momentum = settings.momentum
    return torch.optim.SGD(weights, lr=settings.lr, momentum=momentum, weight_decay=decay)


def _plain_arithmetic() -> None:
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class JpegSamples(Dataset):
    """Samples read and augmented by PIL and torchvision, with slic's random parameters.

    An item is `(3, T, size, size, 3)` uint8: anchor, positive, second view, all RGB.
    """

    def __init__(
        self, jpegs: JpegFolder, samples: Sequence[VideoTriplet], settings: Settings
    ) -> None:
        self.jpegs, self.samples, self.settings = jpegs, samples, settings

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        sample = self.samples[index]
        rng = np.random.default_rng(sample.seed)
        anchor = self._read(sample.anchor, sample.start)
        positive = self._read(sample.positive, sample.positive_start)
        views = []
        for images in (anchor, positive, anchor):
            width, height = images[0].size
            params = draw_augmentation(height, width, rng, settings=self.settings)
            views.append(stacked([augmented(i, params, self.settings.size) for i in images]))
        return torch.from_numpy(np.stack(views))

    def _read(self, video: str, start: int) -> list:
        frames, stride = self.settings.frames, self.settings.stride
        places = range(start, start + frames * stride, stride)
        return [self.jpegs.images(video, place, 1)[0] for place in places]


def jpeg_loader(samples: JpegSamples, *, workers: int, pin: bool) -> DataLoader:
    """Make the usual DataLoader over samples; batches are `(B, 3, T, size, size, 3)` uint8."""
    return DataLoader(
        samples,
        batch_size=samples.settings.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin,
        multiprocessing_context="spawn" if workers else None,
    )
