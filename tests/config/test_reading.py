from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from slic.config import (
    PRESETS,
    make_settings,
    preset_text,
    read_config,
    read_preset,
    settings_from,
    with_defaults,
)
from slic.errors import SettingsError

# Khorasgani et al., CVPR 2022: sections 3 and 4; what it leaves open, from the authors' code.
PAPER = {
    "encoder": "r3d18",
    "frames": 16,
    "stride": 1,
    "size": 128,
    "objective": "triplet",
    "margin": 0.2,
    "temporal_margin": 0.04,
    "temporal_weight": 1.0,
    "pairs": "one",
    "same_video": 0.2,
    "flow_probability": 0.25,
    "components": "u",
    "cluster": "finch",
    "partition": 0,
    "cluster_every": 5,
    "warmup_epochs": 0,
    "optimiser": "sgd",
    "lr": 0.1,
    "momentum": 0.5,
    "weight_decay": 0.0,
    "schedule": "constant",
    "batch_size": 32,
    "epochs": 600,
    "crop_area": 0.25,
    "jitter_probability": 0.8,
    "jitter": 0.5,
    "hue": 0.5,
    "grayscale_probability": 0.2,
    "blur_probability": 0.2,
    "split": 1,
    "retrieval_clips": 10,
}


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def refusal(**options: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        make_settings("cpu-small", options=options)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name):
    settings = make_settings(name)
    assert settings.as_dict() == read_preset(name)


def test_the_preset_of_the_paper_holds_its_values():
    values = make_settings("ucf101-16f").as_dict()
    assert {name: values[name] for name in PAPER} == PAPER
    assert values.keys() - PAPER.keys() == {
        "temperature",
        "seed",
        "retrieval_feature",
        "precision",
        "kmeans_clusters",
        "drop_every",
        "lr_warmup_epochs",
        "init",
    }


@pytest.mark.parametrize(
    ("name", "frames", "same_video", "batch", "epochs"),
    [
        ("ucf101-32f", 32, 0.2, 32, 600),
        ("kinetics400-16f", 16, 0.5, 104, 340),
        ("kinetics400-32f", 32, 0.5, 104, 340),
    ],
)
def test_the_other_presets_of_the_paper(name, frames, same_video, batch, epochs):
    """METHOD's table of settings: what differs from UCF101 at 16 frames."""
    own = {"frames": frames, "same_video": same_video, "batch_size": batch, "epochs": epochs}
    assert make_settings(name) == make_settings("ucf101-16f", options=own)


def test_the_small_preset_differs_from_the_paper_only_where_it_says_so():
    lines = {line.split(" = ")[0]: line for line in preset_text("cpu-small").splitlines()}
    values = read_preset("cpu-small")
    for name, expected in PAPER.items():
        if values[name] != expected:
            assert "# ours" in lines[name], name


def test_settings_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make_settings("cpu-small").seed = 1


def test_preset_then_file_then_options(tmp_path):
    path = written(tmp_path, "epochs = 7\nlr = 1\nseed = 3")
    settings = make_settings("cpu-small", config=path, options={"seed": 9, "lr": None})
    assert (settings.epochs, settings.lr, settings.seed) == (7, 1.0, 9)
    assert isinstance(settings.lr, float)
    assert settings.frames == make_settings("cpu-small").frames


def test_the_table_run_of_a_config_is_left_out(tmp_path):
    path = written(tmp_path, 'epochs = 7\n[run]\nstore = "x.zarr"')
    assert read_config(path) == {"epochs": 7}


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("epoch", "epochs"), ("learning_rat", None), ("cluster_evry", "cluster_every"), ("LR", None)],
)
def test_an_unknown_key_names_the_nearest(tmp_path, key, nearest):
    path = written(tmp_path, f"{key} = 1")
    with pytest.raises(SettingsError) as caught:
        make_settings("cpu-small", config=path)
    message = str(caught.value)
    assert message.startswith(f"{path}: unknown setting {key!r}")
    if nearest:
        assert f"did you mean {nearest}?" in message
    assert "\n" not in message


def test_an_unknown_option_is_refused():
    assert "unknown setting 'sead' (did you mean seed?)" in refusal(sead=1)


def test_a_wrong_value_of_a_file_names_the_file(tmp_path):
    path = written(tmp_path, "epochs = 0")
    with pytest.raises(SettingsError, match="epochs = 0: must be at least 1") as caught:
        make_settings("cpu-small", config=path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("frames", 0, "at least 1"),
        ("frames", 2.5, "whole number"),
        ("frames", "8", "whole number"),
        ("frames", True, "whole number"),
        ("frames", float("nan"), "whole number"),
        ("frames", [8], "whole number"),
        ("size", 7, "at least 8"),
        ("batch_size", 1, "at least 2"),
        ("epochs", 0, "at least 1"),
        ("cluster_every", 0, "at least 1"),
        ("retrieval_clips", 0, "at least 1"),
        ("warmup_epochs", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("seed", 2**63, "at most"),
        ("seed", 10**400, "at most"),
        ("seed", 1e300, "at most"),
        ("lr", 0, "above 0"),
        ("lr", -1.0, "above 0"),
        ("lr", float("nan"), "must be a number"),
        ("lr", float("inf"), "at most"),
        ("lr", "0.1", "must be a number"),
        ("lr", {"a": 1}, "must be a number"),
        ("lr", False, "must be a number"),
        ("temperature", 0.0, "above 0"),
        ("margin", -0.1, "at least 0"),
        ("momentum", -0.1, "at least 0"),
        ("weight_decay", -1e-4, "at least 0"),
        ("jitter", -0.5, "at least 0"),
        ("temporal_weight", -1, "at least 0"),
        ("hue", 0.6, "at least 0 and at most 0.5"),
        ("hue", -0.1, "at least 0 and at most 0.5"),
        ("same_video", 1.1, "at least 0 and at most 1"),
        ("flow_probability", -0.1, "at least 0 and at most 1"),
        ("jitter_probability", 2, "at least 0 and at most 1"),
        ("grayscale_probability", 2, "at least 0 and at most 1"),
        ("blur_probability", 2, "at least 0 and at most 1"),
        ("crop_area", 0, "above 0 and at most 1"),
        ("crop_area", 1.01, "above 0 and at most 1"),
        ("encoder", "r3d50", "choose one of r3d18, r3d18-tv, s3d, small"),
        ("objective", "mse", "choose one of triplet, infonce"),
        ("cluster", "dbscan", "choose one of finch, kmeans, none, labels"),
        ("partition", -1, "at least 0"),
        ("kmeans_clusters", 1, "at least 2"),
        ("drop_every", 0, "at least 1"),
        ("lr_warmup_epochs", -1, "at least 0"),
        ("pairs", "some", "choose one of one, all"),
        ("init", 5, "must be a string"),
        ("optimiser", "lamb", "choose one of sgd, adam"),
        ("schedule", 1, "choose one of constant, cosine, step"),
        ("retrieval_feature", "both", "choose one of backbone, projection"),
        ("components", "w", "choose one of u, v, uv"),
        ("precision", "fp16", "choose one of auto, bf16, tf32, fp32"),
        ("split", 4, "choose one of 1, 2, 3"),
        ("split", True, "choose one of 1, 2, 3"),
        ("split", 1.0, "choose one of 1, 2, 3"),
        ("split", "1", "choose one of 1, 2, 3"),
    ],
)
def test_an_impossible_value_says_what_is_allowed(name, value, says):
    message = refusal(**{name: value})
    assert message.startswith(f"settings: {name} = ")
    assert says in message


@pytest.mark.parametrize(
    ("name", "value"),
    [("hue", 0.5), ("hue", 0), ("same_video", 0), ("same_video", 1), ("crop_area", 1)],
)
def test_the_ends_of_a_range_are_allowed(name, value):
    assert make_settings("cpu-small", options={name: value}).as_dict()[name] == value


def test_whole_floats_are_whole_numbers():
    epochs = make_settings("cpu-small", options={"epochs": 3.0}).epochs
    assert (epochs, type(epochs)) == (3, int)


def test_the_second_margin_must_not_exceed_the_first():
    assert "temporal_margin 0.3 must not exceed margin 0.2" in refusal(temporal_margin=0.3)


def test_missing_settings_are_named():
    values = read_preset("cpu-small")
    del values["seed"], values["lr"]
    with pytest.raises(SettingsError, match=r"here: lacks lr, seed$"):
        settings_from(values, where="here")


def test_what_an_older_slic_did_not_set_is_as_it_was_then():
    values = {**read_preset("cpu-small"), "seed": 5}
    later = {"components": "u", "precision": "auto", "pairs": "one", "partition": 0, "init": ""}
    later |= {"kmeans_clusters": 1000, "drop_every": 200, "lr_warmup_epochs": 0}
    for name in later:
        del values[name]
    settings = settings_from(values, where="here")
    assert settings.as_dict() == {**values, **later}
    assert with_defaults(values) == settings.as_dict()
    assert with_defaults({"components": "uv"}) == {**later, "components": "uv"}


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(SettingsError, match="did you mean ucf101-16f"):
        make_settings("ucf101-16")


def test_unreadable_files_are_one_line(tmp_path):
    wrong = written(tmp_path, "epochs = = 3")
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (wrong, binary, tmp_path / "missing.toml", tmp_path):
        with pytest.raises(SettingsError) as caught:
            make_settings("cpu-small", config=path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)
