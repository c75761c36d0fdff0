"""What `slic doctor` tries, in child processes: `python -m slic.upkeep.trials TRIAL...`."""

import importlib
import json
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

IMPORT = "import "
CLIP_FRAMES, CLIP_SIZE = 12, (64, 48)
FLOW_SIDE, FLOW_MARGIN, MOST_ERROR_PX = 64, 8, 0.25
LONGEST = 300  # characters of an error


@dataclass(frozen=True)
class Answer:
    """What a trial found, or why it failed, in one line."""

    value: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def run_trials(names: Sequence[str], *, limit_s: float) -> dict[str, Answer]:
    """Run trials in one child process, or in one each if it crashes or hangs.

    Args:
        names: keys of `TRIALS`, or `import <module>`.
        limit_s: seconds after which a child is killed.
    """
    together = _run(names, limit_s)
    if isinstance(together, dict):
        return together
    answers: dict[str, Answer] = {}
    for name in names:
        found = _run([name], limit_s)
        answers |= found if isinstance(found, dict) else {name: Answer(error=found)}
    return answers


def _run(names: Sequence[str], limit_s: float) -> dict[str, Answer] | str:
    """Run a child; return its answers, or how it ended without any."""
    # -P: the current folder may hold a file that is named like a package.
    command = [sys.executable, "-P", "-m", __name__, *names]
    try:
        done = subprocess.run(
            command, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {limit_s:g} s"
    if code := done.returncode:
        how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
        return f"ended its process ({how})"
    answers = json.loads(done.stdout.splitlines()[-1])
    return {name: Answer(**answer) for name, answer in answers.items()}


def try_import(module: str) -> dict[str, Any]:
    """Import a module."""
    found = importlib.import_module(module)
    if module == "cv2" and not hasattr(found, "optflow"):
        raise ImportError("has no optflow: another opencv package has overwritten it")
    return {}


def try_gpus() -> dict[str, Any]:
    """Compute on each GPU that PyTorch finds."""
    import torch
    from torch.utils import collect_env

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "driver": collect_env.get_nvidia_driver_version(collect_env.run),
        "cuda": torch.version.cuda,
        "warning": _reason(caught[0].message) if caught else None,
        "gpus": [_gpu(number) for number in range(count)],
    }


def _gpu(number: int) -> dict[str, Any]:
    import torch

    about, problem = torch.cuda.get_device_properties(number), None
    try:
        assert torch.ones(64, device=f"cuda:{number}").sum().item() == 64
    except Exception as error:  # a GPU fails in many ways
        problem = _reason(error)
    return {"name": about.name, "memory": about.total_memory, "problem": problem}


def try_defaults() -> dict[str, Any]:
    """Return what `slic train`, `slic prep flow` and searches use here by default."""
    from slic.encoders.precision import resolve_precision
    from slic.neighbours.ivf import APPROXIMATE_FROM
    from slic.prep.tvl1 import resolve_engine
    from slic.runtime.devices import pick_device
    from slic.train.run import CPU_PRESET, GPU_PRESET

    device, (engine, flow_device) = pick_device("auto"), resolve_engine("auto")
    on_gpu = device.type == "cuda"
    search = "faiss on the CPU" + ", large searches of training on its GPU" * on_gpu
    return {
        "training": {
            "device": str(device),
            "precision": resolve_precision("auto", device),
            "preset": GPU_PRESET if on_gpu else CPU_PRESET,
        },
        "flow": {"engine": engine, "device": flow_device},
        "neighbours": f"{search}; exact, from {APPROXIMATE_FROM:,} rows by an IVF index",
    }


def try_decoding() -> dict[str, Any]:
    """Generate a video and decode it as `slic prep frames` does."""
    from slic.decode.guarded import decode_video
    from slic.demo.drawn import draw_dataset

    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slic-doctor-") as folder:
        root = Path(folder, "drawn")
        draw_dataset(root, actions=1, groups=2, clips=1, frames=CLIP_FRAMES, size=CLIP_SIZE)
        shape = decode_video(next(root.rglob("*.avi"))).shape
    expected = (CLIP_FRAMES, *CLIP_SIZE[::-1], 3)
    if shape != expected:
        raise ValueError(f"decoded an array of shape {shape}, not {expected}")
    return {"frames": CLIP_FRAMES, "seconds": round(time.monotonic() - begin, 2)}


def try_flow() -> dict[str, Any]:
    """Compute the flow between two views of a texture, a known shift apart."""
    import numpy as np

    from slic.prep.tvl1 import tvl1_flow

    begin, shift = time.monotonic(), (2, 1)
    y, x = np.mgrid[:FLOW_SIDE, :FLOW_SIDE]
    scene = (128 + 50 * np.sin(x / 3) * np.cos(y / 4) + 40 * np.sin((x + y) / 5)).astype(np.uint8)
    flow = tvl1_flow(np.stack([scene, np.roll(scene, shift, axis=(1, 0))]))[0]
    inner = flow[FLOW_MARGIN:-FLOW_MARGIN, FLOW_MARGIN:-FLOW_MARGIN]
    error = float(np.linalg.norm(inner - shift, axis=-1).mean())
    if not error < MOST_ERROR_PX:
        raise ValueError(f"flow of a known shift is {error:.2f} pixels off")
    return {"error_px": round(error, 3), "seconds": round(time.monotonic() - begin, 2)}


TRIALS: dict[str, Callable[[], dict[str, Any]]] = {
    "gpus": try_gpus,
    "defaults": try_defaults,
    "decoding": try_decoding,
    "flow": try_flow,
}


def _reason(error: object) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}"[:LONGEST] if lines else type(error).__name__


def _answer(name: str) -> Answer:
    try:
        trial = TRIALS.get(name)
        return Answer(trial() if trial else try_import(name.removeprefix(IMPORT)))
    except BaseException as error:  # SystemExit too
        return Answer(error=_reason(error))


if __name__ == "__main__":
    print(f"\n{json.dumps({name: vars(_answer(name)) for name in sys.argv[1:]})}")
