"""The GPU engine's kernels: interpreted on the CPU, and compiled for GPUs that are not here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from slic.prep.tvl1 import tvl1_flow

pytestmark = pytest.mark.slow
triton = pytest.importorskip("triton", reason="Triton is not installed here")

SHORT = {"nscales": 2, "warps": 2, "outer_iterations": 3, "inner_iterations": 8}
ONE_STEP, MANY_STEPS = (1024, 1024), (64, 32)  # pixels at a time: all, or a few rows of 28


def moving(height: int, width: int, count: int, *, seed: int) -> np.ndarray:
    """A texture that drifts by about a pixel and a half a frame, and noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(rng.standard_normal((60, 70)).astype(np.float32), (0, 0), 2.5)
    ground = cv2.normalize(ground, None, 20, 235, cv2.NORM_MINMAX)
    frames = []
    for number in range(count):
        shift = np.float64([[1, 0, -20 + 1.3 * number], [0, 1, -15 - 0.7 * number]])
        frame = cv2.warpAffine(ground, shift, (width, height), borderMode=cv2.BORDER_REFLECT)
        frames.append(np.clip(np.rint(frame + rng.normal(0, 1, frame.shape)), 0, 255))
    return np.asarray(frames, np.uint8)


FRAMES = {
    "drift": moving(20, 27, 3, seed=1),
    "still": np.full((2, 18, 21), 77, np.uint8),
    "cut": np.concatenate([moving(17, 22, 1, seed=2), moving(17, 22, 1, seed=3)]),
    "row": moving(1, 9, 2, seed=4),
    "column": moving(9, 1, 2, seed=4),
    "pixel": np.array([[[3]], [[200]]], np.uint8),
    "small": moving(7, 12, 2, seed=5),
}


def case(frames: str, blocks: tuple[int, int] = ONE_STEP, **parameters: Any) -> dict[str, Any]:
    firsts = list(range(len(FRAMES[frames]) - 1))
    return {"frames": frames, "blocks": blocks, "firsts": firsts, "parameters": parameters}


CASES = {
    "defaults": case("drift", warps=2),
    "in steps": case(
        "drift", MANY_STEPS, nscales=2, warps=1, outer_iterations=2, inner_iterations=3
    ),
    "median 3": case("drift", **SHORT, median_filtering=3),
    "no median": case("drift", **SHORT, median_filtering=1),
    "other terms": case("drift", **SHORT, tau=0.15, lambda_=0.05, theta=0.5, scale_step=0.7),
    "loose": case("drift", **SHORT, epsilon=0.3),
    "one iteration": case("drift", nscales=1, warps=1, inner_iterations=1, outer_iterations=1),
    **{name: case(name, **SHORT) for name in ("still", "cut", "row", "column", "pixel", "small")},
    "turned round": {**case("drift", warps=2), "firsts": [1, 0]},
}


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Flow and pixel updates of all cases, by kernels that Triton interprets."""
    folder = tmp_path_factory.mktemp("interpreted")
    np.savez(folder / "frames.npz", **FRAMES)
    (folder / "cases.json").write_text(json.dumps(CASES))
    script = Path(__file__).with_name("interpreted.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, script, folder], env=environment, check=True, timeout=500)
    return {name: dict(np.load(folder / f"{name}.npz")) for name in ("flows", "iterations")}


@pytest.mark.parametrize("name", CASES)
def test_flow_is_that_of_the_cpu_engine(interpreted: dict, name: str) -> None:
    wanted = tvl1_flow(FRAMES[CASES[name]["frames"]], engine="cpu", **CASES[name]["parameters"])
    found = interpreted["flows"][name]
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted[CASES[name]["firsts"]], atol=2e-3)


@pytest.mark.parametrize("name", ["defaults", "median 3", "other terms", "cut", "small"])
def test_flow_is_that_of_opencv(interpreted: dict, name: str) -> None:
    frames, parameters = FRAMES[CASES[name]["frames"]], CASES[name]["parameters"]
    wanted = tvl1_flow(frames, engine="opencv", **parameters)
    error = np.linalg.norm(interpreted["flows"][name] - wanted, axis=-1).mean()
    assert error <= 0.02
    assert np.linalg.norm(wanted, axis=-1).mean() > 0.1  # something moves


def test_each_pair_stops_on_its_own(interpreted: dict) -> None:
    updates = interpreted["iterations"]
    assert updates["one iteration"].tolist() == [20 * 27] * 2
    # Nothing moves: one iteration a warp, 2 warps at the only scale.
    assert updates["still"].tolist() == [2 * 18 * 21]
    first, second = updates["defaults"]
    assert first != second
    assert updates["turned round"].tolist() == [second, first]
    assert (updates["loose"] < updates["no median"]).all()


def test_no_motion_is_exactly_zero(interpreted: dict) -> None:
    assert not interpreted["flows"]["still"].any()


@pytest.mark.parametrize(("capability", "median"), [(80, 5), (90, 3), (90, 1)])
def test_kernel_compiles_for_gpus(capability: int, median: int) -> None:
    """As far as a machine without one can tell: aligned vectors in the inner loop."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from slic.prep.tvl1 import cuda_engine
    from slic.prep.tvl1.triton_kernels import refine

    pointers = {"state": "*fp32", "frames": "*fp32", "firsts": "*i32", "iterations": "*i32"}
    numbers = dict.fromkeys(["limit", "theta", "ratio", "tolerance"], "fp32")
    constants = {
        "MEDIAN": median,
        "BLOCK": cuda_engine.BLOCK,
        "SMALL_BLOCK": cuda_engine.SMALL_BLOCK,
    }
    kinds = {**pointers, **numbers, **dict.fromkeys(constants, "constexpr")}
    source = ASTSource(
        fn=refine,
        signature={name: kinds.get(name, "i32") for name in refine.arg_names},
        constexprs=constants,
        attrs={(number,): [["tt.divisibility", 16]] for number in range(len(pointers))},
    )
    options = {"num_warps": cuda_engine.WARPS, "num_stages": 1, "enable_fp_fusion": True}
    target = GPUTarget("cuda", capability, 32)
    kernel = triton.compile(source, target=target, options=options)
    assert len(kernel.asm["cubin"]) > 1000
    assert "ld.global.v4" in kernel.asm["ptx"]
    # Older compilers keep a few values too many (24 bytes of stack in Triton 3.6).
    assert kernel.asm["sass"].count("STL") <= 4
