import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from slic.cache import ClipStore, EmbeddingCache
from slic.clips.pixels import centre_view
from slic.clips.positions import even_starts
from slic.clips.reading import ReaderPool
from slic.embed.embedding import CacheName, Protocol, embed, write_cache
from slic.encoders.encoder import Encoder, new_encoder, normalise
from slic.errors import DamagedChunk

CPU = torch.device("cpu")
PROTOCOL = Protocol(clips=3, frames=4, stride=2, size=16)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return new_encoder("small", seed=0)


def here(store: ClipStore) -> ReaderPool:
    """Reads in this process."""
    return ReaderPool(store, workers=0)


def clip_by_clip(encoder, store, entry, protocol):
    """The embeddings of a video, each clip embedded alone, averaged in float64."""
    p, rows = protocol, []
    for start in even_starts(entry.frames, p.clips, frames=p.frames, stride=p.stride):
        clip = centre_view(store.read(entry.id, start, p.frames, stride=p.stride), p.size)
        with torch.no_grad():
            rows.append(encoder(normalise(torch.from_numpy(clip[None]), device=CPU)))
    return [np.mean([row[i][0].double().numpy() for row in rows], axis=0) for i in (0, 1)]


@pytest.fixture(scope="module")
def damaged(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> ClipStore:
    """A store one of whose videos fails its checksum."""
    path = tmp_path_factory.mktemp("damaged") / "ucf101.zarr"
    shutil.copytree(drawn_store, path)
    store = ClipStore(path)
    shard = path / "frames" / store.entries()[2].key / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[: len(data) // 2] = bytes(len(data) // 2)
    shard.write_bytes(data)
    return store


def test_embeddings_are_the_means_over_clips_in_the_order_given(encoder, store):
    entries = [store.entries()[i] for i in (7, 2, 11, 0, 5)]
    done = []
    backbone, projection = embed(
        encoder,
        here(store),
        entries,
        protocol=PROTOCOL,
        device=CPU,
        advance=lambda videos, clips: done.append((videos, clips)),
    )
    assert (backbone.shape, projection.shape) == ((5, 128), (5, 128))
    assert backbone.dtype == projection.dtype == np.float32
    assert np.sum(done, axis=0).tolist() == [5, 15]
    encoder.eval()
    for row, entry in enumerate(entries):
        expected = clip_by_clip(encoder, store, entry, PROTOCOL)
        # Another batch size, another order of float32 sums.
        np.testing.assert_allclose(backbone[row], expected[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(projection[row], expected[1], rtol=1e-4, atol=1e-5)


def test_many_batches_and_a_worker_change_nothing(encoder, store):
    entries = store.entries()
    # Two videos a batch, and the last batch alone.
    protocol = dataclasses.replace(PROTOCOL, clips=16)
    mine = embed(encoder, here(store), entries[:5], protocol=protocol, device=CPU)
    theirs = embed(
        encoder, ReaderPool(store, workers=1), entries[:5], protocol=protocol, device=CPU
    )
    for one, other in zip(mine, theirs, strict=True):
        assert np.array_equal(one, other)
    backwards = embed(encoder, here(store), entries[4::-1], protocol=protocol, device=CPU)
    for one, other in zip(mine, backwards, strict=True):
        np.testing.assert_allclose(one[::-1], other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_and_the_statistics_are_left_as_they_were(encoder, store, training):
    encoder.train(training)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    embed(encoder, here(store), store.entries()[:2], protocol=PROTOCOL, device=CPU)
    assert encoder.training is training
    assert encoder.head.training is training
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


def test_training_mode_does_not_change_embeddings(encoder, store):
    entries = store.entries()[:3]
    results = [
        embed(
            encoder.train(mode),
            here(store),
            entries,
            protocol=PROTOCOL,
            device=CPU,
        )
        for mode in (True, False)
    ]
    assert np.array_equal(results[0][0], results[1][0])


def test_a_video_shorter_than_a_clip_wraps(encoder, store):
    entry = store.entries()[0]
    protocol = Protocol(clips=2, frames=30, stride=1, size=16)
    assert entry.frames < protocol.frames
    backbone, _ = embed(encoder, here(store), [entry], protocol=protocol, device=CPU)
    frames = store.read(entry.id, 0, entry.frames)
    wrapped = np.concatenate((frames, frames))[:30]
    clip = torch.from_numpy(centre_view(wrapped, 16)[None])
    with torch.no_grad():
        expected = encoder.eval()(normalise(clip, device=CPU))[0]
    np.testing.assert_allclose(backbone, expected.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_video_is_one_line_that_names_it(encoder, damaged, workers):
    encoder.train()
    entries = damaged.entries()[:4]
    readers = ReaderPool(damaged, workers=workers)
    with pytest.raises(DamagedChunk) as caught:
        embed(encoder, readers, entries, protocol=PROTOCOL, device=CPU)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{damaged.path}: {entries[2].id}: ")
    assert encoder.training


def test_a_cache_holds_what_was_embedded(encoder, store, tmp_path):
    entries = [store.entries()[i] for i in (3, 1)]
    entries[1] = dataclasses.replace(entries[1], label=None)
    backbone, projection = embed(encoder, here(store), entries, protocol=PROTOCOL, device=CPU)
    name = CacheName("ucf101", "abcd", "e00003.1234", PROTOCOL, training=True)
    written = write_cache(tmp_path, name, entries, backbone=backbone, projection=projection)
    assert [p.name for p in tmp_path.iterdir()] == [
        "ucf101.abcd-e00003.1234-3clips-4x2-16px-train.h5"
    ]
    cache = EmbeddingCache(tmp_path / name.file)
    assert cache.ids.tolist() == written.ids.tolist() == [entry.id for entry in entries]
    assert cache.labels is not None
    assert cache.labels.tolist() == [entries[0].label, ""]
    assert np.array_equal(cache.backbone, backbone)
    assert np.array_equal(cache.projection, projection)
    assert cache.splits[1].tolist() == [entry.split(1) for entry in entries]
    assert cache.attributes["checkpoint"] == "e00003.1234"
    assert cache.attributes["store_digest"] == "abcd"
    assert (cache.attributes["clips"], cache.attributes["stride"]) == (3, 2)


def test_caches_differ_by_store_content_checkpoint_protocol_and_use():
    base = CacheName("a", "b", "c", PROTOCOL)
    other = [
        dataclasses.replace(base, **change)
        for change in (
            {"store": "x"},
            {"content": "x"},
            {"checkpoint": "x"},
            {"training": True},
            *({"protocol": dataclasses.replace(PROTOCOL, **{k: 99})} for k in vars(PROTOCOL)),
        )
    ]
    assert len({name.file for name in (base, *other)}) == 1 + len(other)


def test_the_glob_of_a_cache_fits_its_store_alone(tmp_path):
    base = CacheName("a[1]*", "b", "c", PROTOCOL)
    for name in (
        base,
        dataclasses.replace(base, content="z"),
        dataclasses.replace(base, store="a1"),
    ):
        (tmp_path / name.file).touch()
    (tmp_path / dataclasses.replace(base, training=True).file).touch()
    found = {path.name for path in tmp_path.glob(base.any_content)}
    assert found == {base.file, dataclasses.replace(base, content="z").file}
