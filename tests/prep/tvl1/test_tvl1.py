"""TV-L1: parameters, choice of engine, bad input, and the median filter of the CPU engine."""

import itertools
import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest
import torch

from slic.errors import InputError, SettingsError
from slic.prep.tvl1 import Tvl1Parameters, engine_version, resolve_engine, tvl1_flow
from slic.prep.tvl1.parameters import parse_parameters


@pytest.mark.parametrize("engine", ["auto", "cpu", "opencv"])
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_frames_have_no_flow(engine: str, count: int) -> None:
    flow = tvl1_flow(np.zeros((count, 6, 8), np.uint8), engine=engine)
    assert flow.shape == (0, 6, 8, 2)
    assert flow.dtype == np.float32


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((2, 8, 8), np.float32), "float32: give uint8"),
        (np.zeros((8, 8), np.uint8), r"\(8, 8\): give gray"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\(2, 8, 8, 3\): give gray"),
        (np.zeros((2, 0, 8), np.uint8), r"\(2, 0, 8\): give gray"),
        ([[[0]]], "list: give a uint8 array"),
    ],
)
def test_wrong_frames_are_refused(frames: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tvl1_flow(frames)  # type: ignore[arg-type]


def test_unknown_engines_and_devices_are_refused() -> None:
    frames = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(InputError, match="'gpu': use one of auto, cuda, cpu, torch, opencv"):
        tvl1_flow(frames, engine="gpu")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="does not run on device 'cuda'"):
        tvl1_flow(frames, engine="cpu", device="cuda")
    assert tvl1_flow(frames, device="cpu").shape == (1, 8, 8, 2)


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="'innnerIterations': did you mean 'inner_iterations'"):
        tvl1_flow(np.zeros((2, 8, 8), np.uint8), innnerIterations=3)
    with pytest.raises(SettingsError, match="'lambda': did you mean 'lambda_'"):
        Tvl1Parameters.named(**{"lambda": 0.1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tau", 0), ("tau", 1e7), ("tau", "0.25"), ("tau", float("nan")), ("lambda_", -1),
        ("theta", None), ("epsilon", float("inf")), ("nscales", 0), ("warps", 2.0), ("warps", True),
        ("inner_iterations", -3), ("outer_iterations", 0), ("scale_step", 1),
        ("median_filtering", 4), ("median_filtering", 7),
    ],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"TV-L1 parameter {name} is "):
        Tvl1Parameters(**{name: value})  # type: ignore[arg-type]


def test_engines_resolve_and_have_versions() -> None:
    assert resolve_engine("auto", "cpu") == resolve_engine("cpu") == ("cpu", "cpu")
    assert resolve_engine("opencv", "auto") == ("opencv", "cpu")
    assert resolve_engine("torch", "cpu") == ("torch", "cpu")
    assert engine_version("cpu") == "cpu-1"
    assert engine_version("torch") == "torch-1"
    assert engine_version("opencv") == f"opencv-{cv2.__version__}"
    with pytest.raises(InputError, match="unknown TV-L1 engine"):
        resolve_engine("denseflow")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused() -> None:
    assert resolve_engine("auto") == ("cpu", "cpu")
    for engine in ("cuda", "auto"):
        with pytest.raises(InputError, match="there is no CUDA device here; use engine 'cpu'"):
            resolve_engine(engine, "cuda:0")
    with pytest.raises(InputError, match="device 'cuda' does not exist here"):
        resolve_engine("torch", "cuda")


@pytest.mark.parametrize("device", ["mps", "nonsense", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="here"):
        resolve_engine("torch", device)
    with pytest.raises(InputError, match="here"):
        resolve_engine("cuda", device)


def test_equal_parameters_are_alike_whatever_their_types() -> None:
    given = Tvl1Parameters(tau=1, warps=np.int64(3), theta=np.float32(0.5))  # type: ignore[arg-type]
    plain = Tvl1Parameters(tau=1.0, warps=3, theta=0.5)
    assert json.dumps(asdict(given)) == json.dumps(asdict(plain))


def test_parameters_as_typed() -> None:
    given = parse_parameters(["epsilon=0.02", " warps = 3", "tau=1", "lambda_=1e-1"])
    assert given == {"epsilon": 0.02, "warps": 3, "tau": 1.0, "lambda_": 0.1}
    assert {name: type(value) for name, value in given.items()} == {
        "epsilon": float,
        "warps": int,
        "tau": float,
        "lambda_": float,
    }
    assert Tvl1Parameters.named(**given).warps == 3


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["epsilon"], "--param epsilon: give NAME=NUMBER"),
        (["epsilon=small"], "--param epsilon=small: give NAME=NUMBER"),
        (["=3"], "unknown TV-L1 parameter ''"),
        (["warps=2.5"], "TV-L1 parameter warps is 2.5: use an integer"),
        (["tau=nan"], "TV-L1 parameter tau is nan"),
        (["tau=1", "tau=2"], "'tau' is given twice"),
    ],
)
def test_parameters_that_cannot_be_meant(texts: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Tvl1Parameters.named(**parse_parameters(texts))


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (9, 1), (31, 43)])
def test_median_filter_is_a_median(size: int, shape: tuple[int, int]) -> None:
    from slic.prep.tvl1.cpu_median import median_filter

    height, width = shape
    rng = np.random.default_rng(7)
    for image in (rng.standard_normal(shape), rng.integers(0, 3, shape)):
        plane = np.zeros((height, width + 1), np.float32)
        plane[:, :width] = image
        half = size // 2
        padded = np.pad(plane[:, :width], half, mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size))
        scratch = np.empty(shape, np.float32), np.empty((5, width + 4), np.float32)
        median_filter(plane, size, *scratch)
        np.testing.assert_array_equal(plane[:, :width], np.median(windows, axis=(2, 3)))


def test_median_network_is_right_on_all_zeros_and_ones() -> None:
    """A network of minima and maxima is right if it is so on zeros and ones (Knuth)."""
    from slic.prep.tvl1.cpu_median import median_filter

    ones = np.array(list(itertools.product(range(6), repeat=5)))  # in each of five columns
    tiles = (np.arange(5)[:, None] < ones.reshape(1, -1)).astype(np.float32)  # side by side
    plane, scratch = tiles.copy(), (np.empty_like(tiles), np.empty((5, tiles.shape[1] + 4), "f4"))
    median_filter(plane, 5, *scratch)
    np.testing.assert_array_equal(plane[2, 2::5], ones.sum(axis=1) >= 13)
