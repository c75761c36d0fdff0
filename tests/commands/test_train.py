"""The options of `slic train`: which setting each changes, and what is refused."""

from pathlib import Path

import pytest

from slic.runs import open_run

SMALL = ["--frames", "2", "--size", "8", "--epochs", "1", "--batch-size", "9", "--workers", "0"]
OPTIONS = {
    "--supervised --objective triplet --all-pairs --no-temporal-loss": {
        "cluster": "labels",
        "objective": "triplet",
        "pairs": "all",
        "temporal_weight": 0.0,
    },
    "--no-cluster --no-flow --schedule step --set drop_every=3": {
        "cluster": "none",
        "flow_probability": 0.0,
        "schedule": "step",
        "drop_every": 3,
    },
    "--cluster finch --partition 1 --warmup-epochs 0 --recompute": {
        "cluster": "finch",
        "partition": 1,
        "warmup_epochs": 0,
    },
    "--cluster kmeans:4 --preset demo --lr 0.5 --lr-warmup-epochs 1": {
        "cluster": "kmeans",
        "kmeans_clusters": 4,
        "lr": 0.5,
        "lr_warmup_epochs": 1,
        "encoder": "small",
    },
    "--set hue=0.25 --set optimiser=sgd --set seed=4 --seed 5": {
        "hue": 0.25,
        "optimiser": "sgd",
        "seed": 5,
    },
}


@pytest.fixture
def here(drawn_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds the drawn store."""
    monkeypatch.chdir(tmp_path)
    Path("ucf101.zarr").symlink_to(drawn_store)


@pytest.mark.parametrize("words", OPTIONS)
def test_an_option_is_a_setting_of_the_run(here: None, slic, words: str) -> None:
    code, _, err = slic("train", *SMALL, *words.split())
    assert (code, "Traceback" in err) == (0, False)
    run = open_run(Path("runs/ucf101-small-1"))
    settings = run.settings.as_dict()
    assert {name: settings[name] for name in OPTIONS[words]} == OPTIONS[words]
    assert (settings["frames"], settings["size"]) == (2, 8)
    assert run.records("done")


WRONG = {
    "two sources of labels": ("--supervised --no-cluster", "--cluster"),
    "a source and a flag": ("--cluster finch --supervised", "--cluster"),
    "no number of clusters": ("--cluster kmeans:x", "kmeans:N"),
    "no clusters": ("--cluster kmeans:0", "kmeans:N"),
    "finch with a number": ("--cluster finch:3", "kmeans:N"),
    "an unknown source": ("--cluster dbscan", "finch, kmeans, none, labels"),
    "more clusters than videos": ("--cluster kmeans:19", "18 training videos"),
    "no value": ("--set lr", "NAME=VALUE"),
    "no name": ("--set =3", "NAME=VALUE"),
    "an unknown setting": ("--set jiter=3", "did you mean jitter?"),
    "a value of another kind": ("--set lr=fast", "lr"),
    "a batch of words": ("--batch-size many", "--batch-size"),
    "a fitted batch on a CPU": ("--batch-size auto --device cpu", "--batch-size"),
    "augmentation by no GPU": ("--augment-on gpu --device cpu", "--augment-on"),
    "bf16 on a CPU": ("--precision bf16 --device cpu", "bf16"),
    "an unknown precision": ("--precision fp8", "fp8"),
    "all pairs of InfoNCE": ("--all-pairs", "triplet"),
    "compiled and recomputed": ("--compile --recompute", "--recompute"),
    "clips too small for the encoder": ("--encoder s3d", "s3d needs clips of"),
    "no such weights": ("--init nothing.pt", "nothing.pt"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_options_are_one_line_and_make_no_run(here: None, slic, case: str) -> None:
    words, says = WRONG[case]
    code, out, err = slic("train", *SMALL, *words.split())
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err
    assert not Path("runs").exists()


def test_clips_larger_than_stored_are_said(here: None, slic) -> None:
    words = ["--frames", "2", "--size", "56", "--epochs", "1", "--batch-size", "9"]
    code, _, err = slic("train", *words, "--workers", "0", "--no-flow")
    assert code == 0
    assert "18 of 18 videos are stored with a short side below 56 pixels (the least is 48)" in err
