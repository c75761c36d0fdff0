"""The embeddings that an evaluation needs: from the cache, or computed once and cached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from slic.cache import ClipStore, EmbeddingCache, Entry
from slic.cache.embeddings import is_outdated
from slic.clips.reading import ReaderPool
from slic.clips.windows import Section, all_windows
from slic.config import Feature, Settings
from slic.embed.embedding import CacheName, FloatRows, Protocol, embed, write_cache
from slic.encoders.checkpoints import encoder_of, load_checkpoint
from slic.encoders.encoder import weights_digest
from slic.errors import CheckpointError, InputError, LabelsMissing, StoreError
from slic.runs import Run
from slic.runtime.disk import check_writable
from slic.runtime.progress import progress
from slic.runtime.regular_files import brief
from slic.runtime.text import is_utf8


def check_feature(run: Run, feature: Feature) -> None:
    """Refuse the projection of a run whose head is untrained."""
    if feature == "projection" and not run.head:
        raise InputError(
            f"{run.path}: has weights without a projection head; use --feature backbone"
        )


def say_seen(run: Run, store: Path, split: int, say: Callable[[str], None]) -> None:
    """Say so where a split's test videos are among those that the run was trained on."""
    own = run.settings.split
    if not run.imported and split != own and store.resolve() == run.store.resolve():
        say(
            f"split {split}: {run.path} was pretrained on split {own}, whose training videos are"
            f" largely split {split}'s test videos"
        )


def check_split(store: ClipStore, split: int | Literal["all"]) -> None:
    """Refuse a store that cannot answer, before anything is computed.

    Raises:
        LabelsMissing: no video has a label.
        StoreError: there is no such split.
    """
    labels, *words = zip(*store.index.rows("label", "split1", "split2", "split3"), strict=True)
    if not any(labels):
        raise LabelsMissing(f"{store.path}: has no labels, which evaluation needs")
    known = [number for number, column in enumerate(words, start=1) if any(column)]
    if split != "all" and split not in known:
        has = ", ".join(map(str, known)) or "none"
        raise StoreError(f"{store.path}: has no split {split} (it has {has})")


@dataclass(frozen=True)
class Parts:
    """The two sides of a split: `(Q, D)` and `(G, D)` embeddings, with labels."""

    test: FloatRows
    test_labels: NDArray[np.str_]
    train: FloatRows
    train_labels: NDArray[np.str_]


def evaluation_protocol(settings: Settings, clips: int | None) -> Protocol:
    """How evaluation embeds videos: clips of the training shape, as many as the run's setting."""
    if clips is not None and clips < 1:
        raise InputError(f"--clips {clips}: must be at least 1")
    count = settings.retrieval_clips if clips is None else clips
    return Protocol(count, settings.frames, settings.stride, settings.size)


def cached_embeddings(
    run: Run,
    *,
    store: str | None,
    protocol: Protocol,
    split: int | Literal["all"] | None,
    device: str = "auto",
    workers: int | None = None,
    say: Callable[[str], None] = print,
) -> tuple[EmbeddingCache, Path]:
    """Embeddings of a store by a run's latest checkpoint.

    They are computed once for a checkpoint, a store's content and a protocol. Where the store
    itself is gone, the newest cache of a store of that name answers.

    Args:
        run: whose encoder.
        store: path of a store; the run's own if None.
        protocol: how videos are embedded.
        split: what the embeddings are for; refused at once where the store has none. None asks
            for no labels and no split.
        device, workers: for computing, if need be.
        say: takes lines meant for the user.

    Returns:
        The cache, and the store's path.

    Raises:
        InputError: the store's name cannot stand in a cache.
        CheckpointError: the run has no usable checkpoint.
        StoreError: the store is neither there nor cached, or lacks the split.
        LabelsMissing: it has no labels.
        CacheError: the cache is damaged.
    """
    content = run_checkpoint(run)
    tag = checkpoint_tag(content, run.checkpoint)
    path = Path(store) if store is not None else run.store
    name = path.name.removesuffix(".zarr")
    if not is_utf8(name):
        raise InputError(f"{path}: the name of the store is not UTF-8; rename it")
    if not path.is_dir():
        return _from_name(run, CacheName(name, "", tag, protocol), path, say), path
    clips = ClipStore(path)
    key = CacheName(name, clips.digest(), tag, protocol)
    file = run.embeddings / key.file
    if file.exists():
        if not is_outdated(file):
            say(f"embeddings from {file}")
            return EmbeddingCache(file), path
        say(f"{file}: written by an earlier version of slic; computing the embeddings again")
    entries = clips.entries()
    if not entries:
        raise StoreError(f"{path}: contains no video")
    if split is not None:
        check_split(clips, split)
    outdated = clips.outdated(entries)
    if outdated:
        say(
            f"{path}: {len(outdated)} of {len(entries)} videos have frames of other parameters than"
            " the others: `slic prep frames` on the data set finishes the --overwrite"
        )
    check_writable(run.embeddings)
    how: dict[str, Any] = {"protocol": protocol, "device": device, "workers": workers}
    parts: Sequence[Entry | Section] = entries
    places = None
    if protocol.windows is not None:
        entries, parts, places = all_windows(entries, protocol.windows, where=path, say=say)
    backbone, projection = _embedded(run, content, clips, parts, **how)
    found = {"backbone": backbone, "projection": projection}
    return write_cache(run.embeddings, key, entries, **found, places=places), path


def embed_entries(
    run: Run,
    store: ClipStore,
    entries: Sequence[Entry | Section],
    *,
    protocol: Protocol,
    device: str = "auto",
    workers: int | None = None,
) -> tuple[FloatRows, FloatRows]:
    """Backbone `(N, D)` and projection `(N, 128)` of N videos, or parts, by the latest checkpoint.

    Raises:
        CheckpointError: the run has no usable checkpoint.
    """
    how: dict[str, Any] = {"protocol": protocol, "device": device, "workers": workers}
    return _embedded(run, run_checkpoint(run), store, entries, **how)


def _embedded(
    run: Run,
    content: dict,
    store: ClipStore,
    entries: Sequence[Entry | Section],
    *,
    protocol: Protocol,
    device: str,
    workers: int | None,
) -> tuple[FloatRows, FloatRows]:
    # Only here is a device needed: cached answers touch neither video nor GPU.
    from slic.encoders.precision import tune
    from slic.runtime.devices import pick_device

    where = pick_device(device)
    tune(where, run.settings.precision)
    encoder = encoder_of(content, where=str(run.checkpoint))
    encoder = encoder.to(where).to(memory_format=torch.channels_last_3d)
    with progress(len(entries), "embed", unit="clips") as advance:
        readers = ReaderPool(store, workers=workers, device=where)
        return embed(
            encoder,
            readers,
            entries,
            protocol=protocol,
            device=where,
            precision=run.settings.precision,
            advance=advance,
        )


def run_checkpoint(run: Run, path: Path | None = None) -> dict[str, Any]:
    """Load a checkpoint of a run.

    Args:
        run: the run.
        path: the checkpoint's file; the run's latest checkpoint if None.

    Raises:
        CheckpointError: missing, damaged, or of another encoder than the run's.
    """
    if path is None:
        path = run.checkpoint
        if not path.exists():
            raise CheckpointError(f"{run.path}: no checkpoint yet; train the run with `slic train`")
    content = load_checkpoint(path)
    if content["encoder"] != run.settings.encoder:
        raise CheckpointError(
            f"{path}: its encoder is {brief(content['encoder'])}, but the run's is"
            f" {run.settings.encoder}"
        )
    return content


def checkpoint_tag(content: dict[str, Any], path: Path) -> str:
    """Return `e<epoch>.<digest of the weights>`, which names a checkpoint in its caches.

    Raises:
        CheckpointError: the checkpoint has no epoch.
    """
    progress = content.get("progress")
    epoch = progress.get("epoch") if isinstance(progress, dict) else None
    if type(epoch) is not int or epoch < 0:
        raise CheckpointError(f"{path}: its epoch is missing")
    return f"e{epoch:05d}.{weights_digest(content['model'])}"


def _from_name(run: Run, key: CacheName, path: Path, say: Callable[[str], None]) -> EmbeddingCache:
    known = sorted(run.embeddings.glob(key.any_content), key=lambda p: p.stat().st_mtime_ns)
    if not known:
        raise StoreError(f"{path}: no such store, and {run.path} has no cached embeddings of it")
    say(f"{path} is missing: using the embeddings in {known[-1]}")
    return EmbeddingCache(known[-1])


def split_parts(cache: EmbeddingCache, *, split: int, feature: Feature, where: Path) -> Parts:
    """Test and training side of a split, of the videos that have labels.

    Raises:
        LabelsMissing: no video has one.
        StoreError: there is no such split, or a side of it is empty.
    """
    if cache.labels is None:
        raise LabelsMissing(f"{where}: has no labels, which evaluation needs")
    if split not in cache.splits:
        known = ", ".join(map(str, cache.splits)) or "none"
        raise StoreError(f"{where}: has no split {split} (it has {known})")
    words, labelled = cache.splits[split], cache.labels != ""
    rows = cache.backbone if feature == "backbone" else cache.projection
    test, train = (labelled & (words == word) for word in ("test", "train"))
    for word, side in (("test", test), ("train", train)):
        if not side.any():
            raise StoreError(f"{where}: split {split} has no labelled {word} video")
    return Parts(rows[test], cache.labels[test], rows[train], cache.labels[train])
