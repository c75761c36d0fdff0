"""Estimates of a training's time leave what is estimated as it was."""

import pytest
import torch

from slic.config import make_settings
from slic.encoders.encoder import new_encoder, weights_digest
from slic.engine.estimate import estimate_seconds
from slic.engine.forward import ComputeOptions
from slic.train.sampling import VideoTriplet

SMALL = make_settings("cpu-small", options={"frames": 4, "size": 16})


@pytest.mark.parametrize("workers", [0, 2])
def test_an_estimate_grows_with_the_steps_and_changes_no_weight(store, workers):
    encoder = new_encoder("small", seed=0)
    before = weights_digest(encoder.state_dict())
    samples = [VideoTriplet(video, 0, video, 8, True, False, seed=1) for video in store.ids[:2]]

    def seconds(steps, embeddings=0):
        return estimate_seconds(
            encoder,
            store,
            samples,
            settings=SMALL,
            compute=ComputeOptions(torch.device("cpu"), workers=workers),
            steps=steps,
            embeddings=embeddings,
        )

    assert seconds(10) > 0
    assert seconds(0) == 0
    assert seconds(0, embeddings=100) > 0
    assert weights_digest(encoder.state_dict()) == before
    assert all(weight.grad is None for weight in encoder.parameters())
