"""Flow images of a data set as a source of flow: `slic prep flow --engine imported`.

Levels 0 to 255 of the images mean -bound to bound, linearly. They are converted to pixels, resized
like the frames, and quantised like computed flow; flow 0 stays exactly 0.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slic.cache import ClipStore, Entry, quantise
from slic.cache.entries import fingerprint
from slic.datasets.images import ImageView, image_sequence
from slic.datasets.videos import Dataset
from slic.decode.guarded import Decoding
from slic.errors import DatasetError, DecodeError
from slic.prep.flow_video import SAMPLED_PAIRS, EntryJob, FlowResult, Levels, no_flow, write_flow
from slic.prep.frames_video import worker_decoder
from slic.prep.store import IMPORTED, codec_of, flow_codec
from slic.prep.workers.executor import Executor
from slic.prep.workers.jobs import Stage
from slic.runtime.processes import add_units

CENTRE = 127.5  # no flow: between the levels 127 and 128, which are both stored as exactly 0
ANY_SIZE = 1 << 30  # a short side that no image exceeds: decoded as they are

FlowFolders = tuple[str, str]  # of the images of u and of v


@dataclass(frozen=True)
class ImportJob(EntryJob):
    """A stored video whose flow images are to be imported.

    Attributes:
        root: of the data set.
        folders: of its images of u and v, relative to the root. None: it has none.
        settings: parameters of the import.
    """

    root: Path
    folders: FlowFolders | None
    settings: Mapping[str, Any]

    def pairs_of_images(self) -> list[list[Path]]:
        """Return the images of u and v of each pair of frames.

        Raises:
            DecodeError: there are none, or not as many as pairs; the message says why.
            OSError: a folder cannot be read.
        """
        frames = self.entry.frames or 0
        if frames == 1:
            return []
        if self.folders is None:
            raise DecodeError("no flow images")
        same = self.folders[0] == self.folders[1]
        u = self._images(self.folders[0], "u" if same else None)
        v = self._images(self.folders[1], "v" if same else None)
        if len(u) != len(v):
            raise DecodeError(f"{len(u)} images of u and {len(v)} of v")
        # Some tools repeat the last flow, so that there are as many as frames.
        if len(u) not in (frames - 1, frames):
            raise DecodeError(f"{len(u)} flow images for {frames} frames: expected {frames - 1}")
        return [[*pair] for pair in zip(u, v, strict=True)][: frames - 1]

    def _images(self, folder: str, view: ImageView | None) -> list[Path]:
        if not (self.root / folder).is_dir():
            raise DecodeError(f"no folder {folder}")
        try:
            return image_sequence(self.root / folder, view=view)
        except DecodeError as error:
            raise DecodeError(f"{folder}: {error}") from None

    def fingerprint(self, pairs: list[list[Path]]) -> str:
        """Return the fingerprint of its flow: of its frames, and of names and sizes of images."""
        images = [(image.name, image.stat().st_size) for pair in pairs for image in pair]
        of = {"source": self.entry.source_digest, "frames": self.entry.settings, "images": images}
        return fingerprint({**self.settings, **of})

    def fields(self, pairs: list[list[Path]]) -> Iterator[tuple[Levels, float, tuple[int, ...]]]:
        """Yield blocks of flow as the store's levels, their bound, and the shape of the images."""
        if not pairs:
            return
        bound = self.settings["bound"]
        for images in worker_decoder().blocks(
            self.root, reader="images", short_side=ANY_SIZE, about=Decoding(), files=pairs
        ):
            shape = images.shape[1:3]
            stored_bound = bound * max(_stretch(shape, self.size))
            pixels = flow_pixels(images, self.size, bound=bound)
            yield quantise(pixels, stored_bound), stored_bound, shape


@dataclass(frozen=True)
class ImportedFlow:
    """Flow that is read from the images of a data set.

    Attributes:
        dataset: the data set.
        bound: what level 255 of its images means, pixels per frame.
    """

    dataset: Dataset
    bound: float

    engine = IMPORTED

    def settings(self, store: ClipStore) -> dict[str, Any]:
        """Return what the store records of all its flow."""
        return {"method": IMPORTED, "bound": self.bound, **flow_codec(store)}

    def outdated(self, store: ClipStore, settings: dict[str, Any]) -> list[str]:
        """Return the ids of videos whose flow has other settings."""
        if store.settings("flow") == settings:
            return []
        return [entry.id for entry in store.index.entries() if entry.flow is not None]

    def jobs(self, store: ClipStore, entries: Sequence[Entry]) -> list[ImportJob]:
        """Return a job for each entry.

        Raises:
            DatasetError: no video has flow images.
        """
        folders = flow_folders(self.dataset)
        settings = self.settings(store)
        root, codec = self.dataset.root, codec_of(settings)
        return [ImportJob(store.path, e, codec, root, folders[e.id], settings) for e in entries]

    def is_stored(self, job: ImportJob) -> bool:
        """Whether the index says that a video has the flow of these very images."""
        if job.entry.flow is None:
            return False
        try:
            return job.entry.flow == job.fingerprint(job.pairs_of_images())
        except (DecodeError, OSError):
            return False

    def size_on_disk(self, job: ImportJob) -> float:
        """Estimate the bytes of a video's flow from its first images; 0 if there are none."""
        stored = sampled = 0
        try:
            pairs = job.pairs_of_images()
            for levels, _, _ in job.fields(pairs[:SAMPLED_PAIRS]):
                stored += sum(len(job.codec.encode(field)) for field in levels)
                sampled += len(levels)
        except (DecodeError, OSError):
            return 0.0
        return stored / max(sampled, 1) * len(pairs)

    def run(
        self,
        jobs: Sequence[ImportJob],
        executor: Executor,
        *,
        on_units: Callable[[int], None],
        notes: list[str],
    ) -> Generator[FlowResult]:
        """Yield the results of jobs in order of completion."""
        yield from executor.run(Stage(store_imported, jobs, no_flow, on_units))


def flow_folders(dataset: Dataset) -> dict[str, FlowFolders | None]:
    """Return the folders of each video's flow images, by id.

    Raises:
        DatasetError: no video has any.
    """
    folders = {video.id: video.flow for video in dataset.videos}
    if not any(folders.values()):
        raise DatasetError(
            f"{dataset.root}: no flow images: neither flow_x_* and flow_y_* in the folders of"
            " frames, nor u/ and v/ with the same folders as the frames"
        )
    return folders


def store_imported(job: ImportJob) -> FlowResult:
    """Import one video's flow images into the store.

    Raises:
        DiskError: the store cannot be written.
    """
    try:
        pairs = job.pairs_of_images()
        digest = job.fingerprint(pairs)
    except (DecodeError, OSError) as error:
        return no_flow(job, error.strerror if isinstance(error, OSError) else error)
    bound, (height, width) = job.settings["bound"], job.size
    parameters = {"bound": bound, "height": height, "width": width}
    attributes = {
        "bound": bound,
        "engine": IMPORTED,
        "parameters": parameters,
        "fingerprint": digest,
    }

    def blocks(_: ClipStore) -> Iterator[Levels]:
        for levels, attributes["bound"], shape in job.fields(pairs):
            parameters["height"], parameters["width"] = shape
            yield levels
        add_units(len(pairs))

    return write_flow(job, blocks, attributes)


def flow_pixels(
    levels: NDArray[np.uint8], size: tuple[int, int], *, bound: float
) -> NDArray[np.float32]:
    """Convert levels of flow images to flow in pixels, resized.

    Args:
        levels: `(n, H, W, 2)` uint8; 0 to 255 mean -bound to bound.
        size: height and width of the result.
        bound: in pixels of the images.

    Returns:
        `(n, *size, 2)` float32: u and v, scaled like width and height.
    """
    import cv2

    pixels = (levels.astype(np.float32) - CENTRE) * np.float32(bound / CENTRE)
    shape = levels.shape[1:3]
    if shape != size:
        shrinks = size[0] * size[1] < shape[0] * shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        pixels = np.stack([cv2.resize(field, size[::-1], interpolation=how) for field in pixels])
    return pixels * np.array(_stretch(shape, size), np.float32)


def _stretch(shape: tuple[int, ...], size: tuple[int, int]) -> tuple[float, float]:
    """Return the factors by which resizing scales u and v."""
    return size[1] / shape[1], size[0] / shape[0]
