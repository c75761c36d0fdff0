"""Weights from elsewhere, evaluated and trained from: as typed, on the drawn set."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.video import r3d_18

from slic.cache import ClipStore, EmbeddingCache
from slic.clips.pixels import centre_view
from slic.clips.positions import even_starts
from slic.encoders.checkpoints import load_checkpoint
from slic.runs import RUNS, find_run, open_run

CLIP = ["--frames", "2", "--size", "16", "--epochs", "1", "--batch-size", "9", "--workers", "0"]


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state dict of torchvision's r3d_18 with random weights."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "r3d_18 (mine).pth"
    torch.save(r3d_18().state_dict(), path)
    return path


@pytest.fixture
def here(drawn_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ucf101.zarr").symlink_to(drawn_store)
    return tmp_path


def retrieve(slic, file: Path, *words: str) -> dict:
    code, out, err = slic(
        "eval", "retrieve", "--weights", str(file), "--preset", "cpu-small", "--clips", "1",
        "--json", "--workers", "0", *words,
    )  # fmt: skip
    assert code == 0, err
    return json.loads(out)


def test_torchvisions_weights_are_evaluated_from_a_run_of_their_own(
    slic, here: Path, torchvisions: Path
) -> None:
    first = retrieve(slic, torchvisions)
    run = open_run(Path(first["run"]))
    assert (run.imported, run.head, run.settings.encoder) == (True, False, "r3d18-tv")
    assert first["feature"] == "backbone"
    assert retrieve(slic, torchvisions) == first
    assert len(list(RUNS.iterdir())) == 1
    # The cache holds what torchvision's own network gives before its classifier.
    network = r3d_18()
    network.load_state_dict(torch.load(torchvisions, weights_only=True))
    network.fc = torch.nn.Identity()
    store, s = ClipStore("ucf101.zarr"), run.settings
    entry = store.entries()[5]
    (start,) = even_starts(entry.frames, 1, frames=s.frames, stride=s.stride)
    clip = centre_view(store.read(entry.id, start, s.frames, stride=s.stride), s.size)
    mean, std = np.array((0.43216, 0.394666, 0.37645)), np.array((0.22803, 0.22145, 0.216989))
    pixels = torch.from_numpy((clip / 255 - mean) / std).float().permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        expected = network.eval()(pixels)[0].numpy()
    cache = EmbeddingCache(first["cache"])
    row = dict(zip(cache.ids, cache.backbone, strict=True))[entry.id]
    np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-4)


def test_an_imported_run_is_not_the_newest(slic, work: Path, torchvisions: Path) -> None:
    before = find_run(None).path
    retrieve(slic, torchvisions, "--store", "ucf101.zarr")
    assert find_run(None).path == before


@pytest.mark.slow
def test_a_run_starts_from_weights(slic, here: Path, torchvisions: Path) -> None:
    words = ["train", *CLIP, "--encoder", "r3d18-tv", "--init", str(torchvisions), "--lr", "1e-9"]
    assert slic(*words)[0] == 0
    run = find_run(None)
    assert run.settings.init.startswith("r3d_18 (mine).pth@")
    trained = load_checkpoint(run.checkpoint)["model"]
    start = torch.load(torchvisions, weights_only=True)
    torch.testing.assert_close(
        trained["stages.3.1.conv2.0.weight"], start["layer4.1.conv2.0.weight"], rtol=0, atol=1e-5
    )
    code, _, err = slic(*words)
    assert (code, "already done" in err) == (0, True)
    # Random weights are another run.
    assert slic("train", *CLIP, "--encoder", "r3d18-tv", "--lr", "1e-9")[0] == 0
    assert len(list(RUNS.iterdir())) == 2


def test_slics_own_checkpoints_are_evaluated_as_they_were_trained(slic, work: Path) -> None:
    run = find_run(None)
    words = ["eval", "retrieve", "--json", "--workers", "0"]
    own = json.loads(slic(*words)[1])
    code, out, err = slic(*words, "--weights", str(run.checkpoint))
    assert (code, "weights of slic" in err) == (0, True)
    again = json.loads(out)
    assert again["recall"] == own["recall"]
    s, imported = run.settings, open_run(Path(again["run"])).settings
    assert (imported.frames, imported.size) == (s.frames, s.size)


def test_an_interrupted_import_is_done_again(slic, here: Path, torchvisions: Path) -> None:
    first = retrieve(slic, torchvisions)
    run = Path(first["run"])
    shutil.rmtree(run / "embeddings")
    (run / "config.toml").unlink()
    (run / "checkpoints" / "latest").unlink()
    assert retrieve(slic, torchvisions) == first


WRONG = {
    "weights of another encoder": ("train --init W --encoder small", "--encoder r3d18-tv"),
    "the projection of no head": ("eval retrieve --weights W --feature projection", "backbone"),
    "a run and weights": ("eval retrieve --weights W --run x", "--run"),
    "a preset of a run": ("eval retrieve --preset cpu-small", "--weights"),
    "no such preset": ("eval retrieve --weights W --preset nothing", "nothing"),
    "a file of something else": ("eval retrieve --weights ucf101.zarr/zarr.json", "zarr.json"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_one_line(slic, here: Path, torchvisions: Path, case: str) -> None:
    command, says = WRONG[case]
    words = [str(torchvisions) if w == "W" else w for w in command.replace("{} ", "").split()]
    words += CLIP if words[0] == "train" else ["--workers", "0"]
    code, out, err = slic(*words)
    assert (code, out) == (2, "")
    assert says in err.splitlines()[-1]
    assert "Traceback" not in err
