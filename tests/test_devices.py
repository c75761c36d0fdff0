import pytest
import torch

from slic.devices import MOST_READERS, pick_device, reading_workers
from slic.errors import InputError


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
    assert reading_workers(torch.device("cpu")) == 1
    assert 1 <= reading_workers(torch.device("cuda")) <= MOST_READERS
