"""Run by test_triton_kernels in a process whose Triton interprets its kernels.

Reads cases from an .npz file (frames) and a list of parameters, and writes the flows beside it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from slic.prep.tvl1 import cuda_engine
from slic.prep.tvl1.parameters import Tvl1Parameters


def main(folder: Path) -> None:
    frames = dict(np.load(folder / "frames.npz"))
    flows, iterations = {}, {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        cuda_engine.BLOCK, cuda_engine.SMALL_BLOCK = case["blocks"]
        clip = torch.from_numpy(frames[case["frames"]])
        firsts = torch.tensor(case["firsts"], dtype=torch.int32)
        found = cuda_engine.solve(clip, firsts, Tvl1Parameters.named(**case["parameters"]))
        flows[name], iterations[name] = found.flow.numpy(), found.pixel_iterations.numpy()
    np.savez(folder / "flows.npz", **flows)
    np.savez(folder / "iterations.npz", **iterations)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
