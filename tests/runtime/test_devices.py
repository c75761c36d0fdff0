import pytest
import torch

from slic.encoders.precision import autocast, resolve_precision, tune
from slic.errors import InputError
from slic.runtime.devices import MOST_READERS, default_readers, pick_device


def test_auto_takes_a_gpu_where_there_is_one():
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "meta", "mps", "cuda:9999"])
def test_an_impossible_device_is_one_line(name):
    with pytest.raises(InputError) as caught:
        pick_device(name)
    assert str(caught.value).startswith(f"--device {name}: ")
    assert "\n" not in str(caught.value)


def test_a_cpu_has_one_reader_and_a_gpu_some():
    assert default_readers(torch.device("cpu")) == 1
    assert 1 <= default_readers(torch.device("cuda")) <= MOST_READERS


CPU = torch.device("cpu")


def test_a_cpu_computes_in_fp32():
    assert [resolve_precision(p, CPU) for p in ("auto", "fp32")] == ["fp32", "fp32"]
    for precision in ("bf16", "tf32"):
        with pytest.raises(InputError, match="choose fp32 on cpu"):
            resolve_precision(precision, CPU)
    with autocast(CPU, "auto"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_computes_in_what_it_has(monkeypatch, able):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0) if able else (7, 5))
    cuda = torch.device("cuda")
    assert resolve_precision("auto", cuda) == ("bf16" if able else "fp32")
    assert resolve_precision("fp32", cuda) == "fp32"
    for asked in ("bf16", "tf32"):
        if able:
            assert resolve_precision(asked, cuda) == asked
        else:
            with pytest.raises(InputError, match="choose fp32"):
                resolve_precision(asked, cuda)


def test_tuning_a_gpu_decides_on_tf32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    for name in ("benchmark", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, getattr(torch.backends.cudnn, name))
    for precision, allowed in (("fp32", False), ("tf32", True), ("auto", True)):
        tune(torch.device("cuda"), precision)
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.backends.cudnn.benchmark
    tune(CPU, "auto")
    with pytest.raises(InputError):
        tune(CPU, "tf32")
