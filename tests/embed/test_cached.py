from pathlib import Path

import h5py
import pytest
import torch

from slic.embed.cached import cached_embeddings, evaluation_protocol
from slic.errors import CacheError, CheckpointError, StoreError
from slic.runs import find_run


def test_another_checkpoint_gets_a_cache_of_its_own(work: Path) -> None:
    run = find_run(None)
    protocol = evaluation_protocol(run.settings, 1)
    first, _ = cached_embeddings(run, store=None, protocol=protocol, split=1, workers=0, say=str)
    content = torch.load(run.checkpoint, weights_only=True)
    content["model"] = {
        k: v * 1.5 if v.is_floating_point() else v for k, v in content["model"].items()
    }
    torch.save(content, run.checkpoint)
    second, _ = cached_embeddings(run, store=None, protocol=protocol, split=1, workers=0, say=str)
    assert first.path != second.path
    assert (first.backbone != second.backbone).any()
    assert first.path.exists()


def test_a_changed_store_gets_a_cache_of_its_own(work: Path, drawn: Path) -> None:
    from slic.prep.frames import prep_frames

    run = find_run(None)
    protocol = evaluation_protocol(run.settings, 1)
    options = {"store": "some.zarr", "protocol": protocol, "split": 1, "workers": 0, "say": str}
    prep_frames(str(drawn), store="some.zarr", limit=3, workers=1)
    few, _ = cached_embeddings(run, **options)
    prep_frames(str(drawn), store="some.zarr", limit=5, workers=1)
    more, _ = cached_embeddings(run, **options)
    assert (len(few.ids), len(more.ids)) == (3, 5)
    rows = dict(zip(more.ids, more.backbone, strict=True))
    for video, row in zip(few.ids, few.backbone, strict=True):
        assert rows[video] == pytest.approx(row, abs=1e-5)


def test_damaged_cache_is_named(work: Path) -> None:
    run = find_run(None)
    protocol = evaluation_protocol(run.settings, 1)
    cache, _ = cached_embeddings(run, store=None, protocol=protocol, split=1, workers=0, say=str)
    cache.path.write_bytes(cache.path.read_bytes()[:200])
    with pytest.raises(CacheError, match=cache.path.name):
        cached_embeddings(run, store=None, protocol=protocol, split=1, workers=0, say=str)


def test_a_cache_of_an_earlier_version_is_computed_again(work: Path) -> None:
    run = find_run(None)
    options = {"store": None, "protocol": evaluation_protocol(run.settings, 1), "workers": 0}
    cache, _ = cached_embeddings(run, **options, split=1, say=str)
    with h5py.File(cache.path, "r+") as file:
        file.attrs.modify("format", 1)
    lines: list[str] = []
    again, _ = cached_embeddings(run, **options, split=1, say=lines.append)
    assert "written by an earlier version of slic; computing the embeddings again" in lines[0]
    assert again.backbone == pytest.approx(cache.backbone)
    assert again.attributes["format"] == 2


def test_run_without_checkpoint(work: Path) -> None:
    run = find_run(None)
    run.checkpoint.unlink()
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        cached_embeddings(
            run,
            store=None,
            protocol=evaluation_protocol(run.settings, 1),
            split=1,
            workers=0,
            say=str,
        )


def test_checkpoint_of_another_encoder(work: Path) -> None:
    run = find_run(None)
    content = torch.load(run.checkpoint, weights_only=True)
    torch.save({**content, "encoder": "r3d18"}, run.checkpoint)
    with pytest.raises(CheckpointError, match="'r3d18', but the run's is small"):
        cached_embeddings(
            run,
            store=None,
            protocol=evaluation_protocol(run.settings, 1),
            split=1,
            workers=0,
            say=str,
        )


def test_foreign_store(work: Path) -> None:
    run = find_run(None)
    Path("foreign.zarr").mkdir()
    with pytest.raises(StoreError, match=r"foreign\.zarr: not a clip store"):
        cached_embeddings(
            run,
            store="foreign.zarr",
            protocol=evaluation_protocol(run.settings, 1),
            split=1,
            workers=0,
            say=str,
        )
