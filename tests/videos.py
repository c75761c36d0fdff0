"""Small video files, coded frame by frame."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np


def write_video(
    path: Path,
    frames: Sequence[np.ndarray] | np.ndarray,
    *,
    codec: str = "mpeg4",
    rate: Any = 25,
    **options: str,
) -> Path:
    """Write RGB frames `(H, W, 3)`, uint8; `options` are the codec's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        (stream.height, stream.width), stream.pix_fmt = frames[0].shape[:2], "yuv420p"
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
