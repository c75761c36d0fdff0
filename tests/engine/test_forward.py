"""One step computed in several ways: the same weights and statistics come out."""

import copy

import pytest
import torch

from slic.config import Precision
from slic.encoders.encoder import Encoder, new_encoder, normalise
from slic.engine.forward import ComputeOptions, make_forward
from slic.errors import InputError, WorkError

CPU = torch.device("cpu")


def clips(count: int, *, seed: int = 0, frames: int = 4, size: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (count, frames, size, size, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def trained(
    encoder: Encoder, compute: ComputeOptions, precision: Precision = "fp32"
) -> tuple[dict, list]:
    """State and losses after three steps, the last of another batch size."""
    encoder = copy.deepcopy(encoder).train()
    forward = make_forward(encoder, compute, precision)
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.05, momentum=0.5)
    losses = []
    for step, count in enumerate((6, 6, 5)):
        projection = forward(clips(count, seed=step))
        assert (projection.shape, projection.dtype) == ((count, 128), torch.float32)
        loss = (projection - torch.arange(128) / 128).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return encoder.state_dict(), losses


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return new_encoder("small", seed=0).to(memory_format=torch.channels_last_3d)


def test_the_forward_is_the_encoders(encoder: Encoder) -> None:
    mine, other = copy.deepcopy(encoder).train(), copy.deepcopy(encoder).train()
    with torch.no_grad():
        found = make_forward(mine, ComputeOptions(CPU), "auto")(clips(5))
        assert torch.equal(found, other(normalise(clips(5), device=CPU))[1])
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in mine.state_dict().items())


def test_recomputing_changes_neither_weights_nor_statistics(encoder: Encoder) -> None:
    kept, losses = trained(encoder, ComputeOptions(CPU))
    again, others = trained(encoder, ComputeOptions(CPU, recompute=True))
    assert losses == others
    assert losses[2] < losses[0]
    for name, value in kept.items():
        assert torch.equal(value, again[name]), name


def saved_bytes(encoder: Encoder, *, recompute: bool) -> int:
    """Bytes of the activations that live from forward to backward, each storage once."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    forward = make_forward(encoder, ComputeOptions(CPU, recompute=recompute), "fp32")
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(clips(4, size=32)).sum().backward()
    return sum(kept.values())


def test_recomputing_keeps_fewer_activations(encoder: Encoder) -> None:
    encoder = copy.deepcopy(encoder).train()
    assert saved_bytes(encoder, recompute=True) < saved_bytes(encoder, recompute=False) / 2


@pytest.mark.slow
def test_a_compiled_step_is_near_the_eager_one(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Captured and differentiated as for the compiler, without its slow last step."""
    real = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **how: real(f, backend="aot_eager", fullgraph=True, **how)
    )
    eager, losses = trained(encoder, ComputeOptions(CPU))
    compiled, others = trained(encoder, ComputeOptions(CPU, compile=True))
    assert others == pytest.approx(losses, rel=1e-4)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_what_the_compiler_makes_is_near_the_eager_forward(encoder: Encoder) -> None:
    with torch.no_grad():
        compiled = make_forward(copy.deepcopy(encoder), ComputeOptions(CPU, compile=True), "fp32")
        found = compiled(clips(6))
        expected = make_forward(copy.deepcopy(encoder), ComputeOptions(CPU), "fp32")(clips(6))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_compiler_that_fails_is_one_line(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    # An odd size, as what has been compiled before is kept on disk.
    forward = make_forward(copy.deepcopy(encoder), ComputeOptions(CPU, compile=True), "fp32")
    with pytest.raises(WorkError, match=r"omit it$") as caught:
        forward(clips(3, frames=3, size=17))
    assert "\n" not in str(caught.value)


def test_compiling_and_recomputing_exclude_each_other() -> None:
    with pytest.raises(InputError, match="omit one"):
        ComputeOptions(CPU, compile=True, recompute=True)
