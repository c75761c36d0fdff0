import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slic.cache import ClipStore
from slic.errors import (
    CheckpointError,
    LabelsMissing,
    SettingsError,
    SlicError,
    StoreError,
    WorkError,
)
from slic.runs import open_run
from slic.train.run import train

TINY = {"frames": 2, "size": 8, "epochs": 1, "batch_size": 9, "warmup_epochs": 0}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, drawn_store: Path) -> Path:
    """A folder with the drawn store in it, and nothing else."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ucf101.zarr").symlink_to(drawn_store)
    return tmp_path


def trained(store: str | None = None, **options: Any) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    changed = {**TINY, **options.pop("options", {})}
    values = {"device": "cpu", "workers": 0, "say": said.append, **options}
    return train(store, options=changed, **values), said


def refusal(kind: type[SlicError], **options: Any) -> str:
    with pytest.raises(kind) as caught:
        trained(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_same_command_trains_then_says_that_it_is_done(here):
    first, said = trained()
    assert first["run"] == "runs/ucf101-small-1"
    assert said[0] == "runs/ucf101-small-1: preset cpu-small, small on cpu in fp32, 18 videos"
    assert said[1].startswith("2 steps left in 1 epoch: about ")
    assert [line.split(":")[0] for line in said[2:]] == ["epoch 0", "epoch 1"]
    keys = ["run", "epochs", "steps", "checkpoint", "loss", "clusters", "clusters_used", "nmi"]
    assert list(first) == [*keys, "ami", "recall"]
    assert json.loads(json.dumps(first)) == first
    assert Path(first["checkpoint"]).is_file()
    before = Path(first["checkpoint"]).read_bytes()
    second, said = trained()
    assert second == first
    assert said == [
        "runs/ucf101-small-1: already done; give --new for another run with these settings"
    ]
    assert Path(first["checkpoint"]).read_bytes() == before


def test_other_settings_and_new_start_the_next_run(here):
    assert trained()[0]["run"] == "runs/ucf101-small-1"
    assert trained(options={"seed": 1})[0]["run"] == "runs/ucf101-small-2"
    again = trained(new=True)[0]
    assert again["run"] == "runs/ucf101-small-3"
    losses = {
        n: open_run(Path(f"runs/ucf101-small-{n}")).records("epoch")[0]["loss"] for n in "123"
    }
    assert losses["1"] == losses["3"] != losses["2"]
    assert trained(run="mine")[0]["run"] == "runs/mine"


def test_missing_flow_labels_and_videos_are_one_line_and_make_no_run(here, monkeypatch):
    real = ClipStore.entries

    def changed(**values):
        def entries(self):
            return [replace(entry, **values) for entry in real(self)]

        monkeypatch.setattr(ClipStore, "entries", entries)

    changed(flow=None)
    assert "ucf101.zarr: 18 of 18 training videos have no flow" in refusal(StoreError)
    changed(label=None)
    message = refusal(LabelsMissing, options={"cluster": "labels"})
    assert message.startswith("ucf101.zarr: 18 of 18 videos have no label")
    monkeypatch.setattr(ClipStore, "entries", lambda self: real(self)[-1:])
    assert "1 training video(s)" in refusal(StoreError)
    assert not Path("runs").exists()


def test_a_store_relabelled_since_starts_another_run(here, drawn_store):
    """What the store held when a run began is part of what the run is."""
    Path("ucf101.zarr").unlink()
    shutil.copytree(drawn_store, "ucf101.zarr")
    assert trained()[0]["run"] == "runs/ucf101-small-1"
    index = Path("ucf101.zarr/index/index.sqlite")
    with sqlite3.connect(index) as connection:
        connection.execute("UPDATE videos SET label = 'x' || label")
    connection.close()
    assert trained()[0]["run"] == "runs/ucf101-small-2"
    assert "its store has changed" in refusal(CheckpointError, run="ucf101-small-1")


def test_a_run_goes_on_with_the_flow_it_began_with_only(work: Path, drawn: Path) -> None:
    from slic.prep.flow import prep_flow

    options = {**TINY, "seed": 3}
    prep_flow(str(drawn), store="own.zarr", bound=3.0, workers=1)
    said = {"device": "cpu", "workers": 0, "say": str, "preset": "cpu-small"}
    first = train("own.zarr", options=options, **said)
    blind = train("own.zarr", options={**options, "flow_probability": 0.0}, **said)
    prep_flow("own.zarr", bound=2.0, overwrite=True, workers=1)
    assert train("own.zarr", options=options, **said)["run"] != first["run"]
    again = train("own.zarr", options={**options, "flow_probability": 0.0}, **said)
    assert again["run"] == blind["run"]


def test_a_run_that_will_use_no_clusters_says_so(here):
    result, said = trained(options={"warmup_epochs": 1})
    assert "clusters are used from epoch 1 on (warmup_epochs): not in this run" in said
    assert result["clusters_used"] is False
    result, said = trained(options={"warmup_epochs": 1, "epochs": 2})
    assert "clusters are used from epoch 1 on (warmup_epochs)" in said
    assert result["clusters_used"] is True
    assert trained()[0]["clusters_used"] is True


def test_a_config_does_not_claim_weights_that_were_not_given(here):
    Path("mine.toml").write_text('init = "latest@1234"\n')
    assert "--init" in refusal(SettingsError, config="mine.toml")
    assert "--init" in refusal(SettingsError, options={"init": "latest@1234"})
    assert not Path("runs").exists()


def test_a_folder_whose_making_was_interrupted_is_taken(here):
    Path("runs/mine/checkpoints").mkdir(parents=True)
    assert trained(run="mine")[0]["run"] == "runs/mine"


def test_memory_that_does_not_suffice_is_one_line(here, monkeypatch):
    import torch

    def short(*args: Any, **options: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    with monkeypatch.context() as patch:
        patch.setattr("slic.train.training.estimate_seconds", short)
        message = refusal(WorkError)
    assert "batch size 9" in message
    assert "--recompute" in message


def test_a_damaged_test_video_stops_no_training(here, drawn_store):
    shutil.copytree(drawn_store, "own.zarr")
    store = ClipStore("own.zarr")
    tested = next(entry for entry in store.entries() if entry.split1 == "test")
    (Path("own.zarr/frames") / tested.key / "c.0.0.0.0").write_bytes(b"")
    run = open_run(Path(trained("own.zarr")[0]["run"]))
    assert [line["test_recall"] for line in run.records("clustering")] == [None, None]


def test_all_pairs_are_of_the_triplet_loss(here):
    assert "triplet" in refusal(SettingsError, options={"pairs": "all"})
