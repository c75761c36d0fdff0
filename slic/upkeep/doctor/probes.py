"""The child process in which `slic doctor` tries things: `python -m` this module, and NAME...

Each probe is answered by a JSON line on stdout, its `value` or `error`. What hangs or kills this
process, its parent reports, and goes on in another with the rest.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

IMPORT = "import "
CLIP_FRAMES, CLIP_SIZE = 12, (64, 48)
FLOW_SIDE, FLOW_MARGIN = 64, 8
LONGEST = 300
# Drawn and decoded: what MPEG-4 at its finest leaves, of 255.
MOST_ERROR_LEVELS, MOST_ERROR_PX = 12.0, 0.25


def probe_import(package: str) -> dict[str, Any]:
    """Import a package."""
    module = importlib.import_module(package)
    if package == "cv2" and not hasattr(module, "optflow"):
        raise ImportError("has no optflow: another opencv package has overwritten it")
    return {}


def probe_gpu() -> dict[str, Any]:
    """What PyTorch sees: CUDA it is built for, GPUs, and whether each of them computes."""
    import torch

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    said = [str(warning.message).strip().splitlines()[0] for warning in caught]
    count = torch.cuda.device_count() if available else 0
    return {
        "built_for": torch.version.cuda,
        "available": available,
        "said": said[0] if said else None,
        "gpus": [_gpu(number) for number in range(count)],
    }


def _gpu(number: int) -> dict[str, Any]:
    import torch

    about = torch.cuda.get_device_properties(number)
    problem = None
    try:
        assert torch.ones(64, device=f"cuda:{number}").sum().item() == 64
    # A GPU fails in many ways; all of them are its problem, and no other's.
    except Exception as error:
        problem = reason(error)
    return {"name": about.name, "memory": about.total_memory, "problem": problem}


def probe_training() -> dict[str, str]:
    """The device, arithmetic and preset that `slic train` takes by itself."""
    from slic.encoders.precision import resolve_precision
    from slic.runtime.devices import pick_device
    from slic.train.run import CPU_PRESET, GPU_PRESET

    device = pick_device("auto")
    preset = CPU_PRESET if device.type == "cpu" else GPU_PRESET
    return {
        "device": str(device),
        "precision": resolve_precision("auto", device),
        "preset": preset,
    }


def probe_engine() -> dict[str, str]:
    """The engine and device that `slic prep flow` takes by itself."""
    from slic.prep.tvl1 import resolve_engine

    engine, device = resolve_engine("auto")
    return {"engine": engine, "device": device}


def probe_decoding() -> dict[str, Any]:
    """Draw a clip, encode it, decode it in the guarded child, and compare."""
    import numpy as np

    from slic.decode.guarded import decode_video
    from slic.demo.drawn import draw_dataset
    from slic.demo.figures import ACTIONS
    from slic.demo.scenes import draw_clip

    frames = draw_clip(ACTIONS[0], group=1, clip=1, frames=CLIP_FRAMES, size=CLIP_SIZE)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slic-doctor-") as folder:
        root = Path(folder) / "drawn"
        draw_dataset(root, actions=1, groups=2, clips=1, frames=CLIP_FRAMES, size=CLIP_SIZE)
        found = decode_video(next(root.rglob("*_g01_c01.avi")))
    if found.shape != frames.shape:
        raise ValueError(f"{frames.shape} was drawn, and {found.shape} decoded")
    error = float(np.abs(found.astype(np.float32) - frames).mean())
    if error > MOST_ERROR_LEVELS:
        raise ValueError(f"decoded frames differ from the drawn ones by {error:.1f} of 255")
    return {"frames": len(found), "seconds": round(time.monotonic() - begin, 2)}


def probe_flow() -> dict[str, Any]:
    """TV-L1 by the engine that is used, between two views of one texture, a known shift apart."""
    import numpy as np

    from slic.prep.tvl1 import tvl1_flow

    begin = time.monotonic()
    side, shift = FLOW_SIDE, (2, 1)
    y, x = np.mgrid[: side + 2, : side + 2].astype(np.float32)
    texture = 128 + 50 * np.sin(x / 3) * np.cos(y / 4) + 40 * np.sin((x + y) / 5)
    scene = texture.round().astype(np.uint8)
    # What is at (x, y) in the first frame is at (x + 2, y + 1) in the second.
    frames = np.stack([scene[shift[1] :, shift[0] :][:side, :side], scene[:side, :side]])
    flow = tvl1_flow(frames)[0]
    inner = flow[FLOW_MARGIN:-FLOW_MARGIN, FLOW_MARGIN:-FLOW_MARGIN]
    error = float(np.linalg.norm(inner - np.array(shift, np.float32), axis=-1).mean())
    if not error < MOST_ERROR_PX:
        raise ValueError(f"the flow of a known shift is {error:.2f} pixels off")
    return {"error_px": round(error, 3), "seconds": round(time.monotonic() - begin, 2)}


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "gpu": probe_gpu,
    "training": probe_training,
    "engine": probe_engine,
    "decoding": probe_decoding,
    "flow": probe_flow,
}


def reason(error: BaseException) -> str:
    """An exception in one short line."""
    said = str(error).strip().splitlines()
    kind = type(error).__name__
    return f"{kind}: {said[0]}"[:LONGEST] if said else kind


def main(names: list[str]) -> None:
    """Try each, and answer."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    for name in names:
        try:
            package = name.removeprefix(IMPORT)
            value = probe_import(package) if name.startswith(IMPORT) else PROBES[name]()
            answer: dict[str, Any] = {"value": value}
        # Whatever a broken package raises, SystemExit too, is the answer.
        except BaseException as error:
            answer = {"error": reason(error)}
        print(json.dumps(answer), file=answers)
    os._exit(0)  # not through libraries' farewells, of which a broken one may hang


if __name__ == "__main__":
    main(sys.argv[1:])
