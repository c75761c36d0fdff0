"""Settings, runs, and what runs write down, as strangers or failing disks make them."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from fuzzing import NASTY, as_json, changed_somewhere, fuzz, mutated, outcome, soak

from slic.commands.train import _changes
from slic.config import make_settings, settings_from
from slic.engine.log import _keep_lines
from slic.errors import CheckpointError, InputError, SettingsError
from slic.eval.outcome import read_result, write_result
from slic.runs import create_run, find_run, open_run
from slic.train.outcome import is_done, result

SETTINGS = make_settings("cpu-small")
TOML = [
    *("nan", "inf", "-inf", "9" * 5000, f"0x{'f' * 5000}", "1e999", "true", "-1", "0", "0.5", "''"),
    *("1979-05-27", "07:32:00", "[]", "[[1, 2], ['a']]", "{a = {b = 1}}", '"\\u0000"', '"a\\nb"'),
    *(f"{'[' * 3000}{']' * 3000}", f"{'[' * 50}{']' * 50}", f'"{"x" * 100_000}"', "'../../x'"),
]
EPOCH = {"kind": "epoch", "step": 3, "epoch": 0, "loss": 0.5, "samples": 9}
CLUSTERING = {
    "kind": "clustering",
    "step": 3,
    "epoch": 1,
    "clusters": 3,
    "in_use": True,
    "nmi": 0.5,
    "ami": None,
    "recall": {"1": 0.5, "5": 0.75},
}
RESULT: dict[str, Any] = {
    "mode": "finetune",
    "train": 8,
    "validation": 3,
    "test": 4,
    "top1": 0.5,
    "top5": 1.0,
    "clips": 10,
    "crops": 10,
    "epochs": 3,
    "best_epoch": 2,
    "validation_top1": 0.25,
    "per_class": {"Run": 0.5, "Hop": 0.0},
    "confusion": "x.json",
    "feature": "backbone",
}


def make(folder: Path) -> None:
    about: dict[str, Any] = {"store_digest": "0123", "preset": "cpu-small"}
    run = create_run(folder / "run", SETTINGS, store=folder / "own.zarr", **about)
    shutil.copy(run.path / "config.toml", folder / "config.toml")
    write_result(folder / "result.json", RESULT, {"predictions": {"a": {"label": "Run"}}})


def toml_case(folder: Path, rng: random.Random) -> str:
    """A run's config.toml, or a file of `--config`, of which one value is another."""
    lines = (folder / "config.toml").read_text().splitlines()
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(len(lines))
        key = lines[place].partition("=")[0]
        value = rng.choice(TOML)
        lines[place] = rng.choice([f"{key}= {value}", f"x{key}= {value}", value, f"{key}.a = 1"])
    data = "\n".join(lines).encode()
    if rng.random() < 0.3:
        data = mutated(data, rng)
    (folder / "run" / "config.toml").write_bytes(data)

    def read() -> None:
        run = open_run(folder / "run")
        assert settings_from(run.settings.as_dict(), where="again") == run.settings
        assert isinstance(run.store_digest, str)
        assert {type(flag) for flag in (run.imported, run.head, run.fitted)} == {bool}

    outcome(lambda: make_settings("cpu-small", config=folder / "run" / "config.toml"))
    return outcome(read)


def option_case(_: Path, rng: random.Random) -> str:
    """`--set NAME=VALUE`, and settings that a checkpoint holds."""
    name = rng.choice([*SETTINGS.as_dict(), "", "x" * 100_000, "a b", "size\n"])
    value = rng.choice([*TOML, "one", "auto", "1.0", "2.5", " 3 "])
    said = outcome(lambda: make_settings("cpu-small", options=_changes([f"{name}={value}"])))
    values = changed_somewhere(SETTINGS.as_dict(), rng)
    if isinstance(values, dict):
        outcome(lambda: settings_from(values, where="settings"))
    return said


def lines_case(folder: Path, rng: random.Random) -> str:
    """metrics.jsonl."""
    lines = [as_json(line) for line in (EPOCH, CLUSTERING, {"kind": "done", "step": 3})]
    place = rng.randrange(3)
    document = changed_somewhere([EPOCH, CLUSTERING, {"kind": "done", "step": 3}][place], rng)
    lines[place] = as_json(document)
    data = b"\n".join(lines) + b"\n"
    if rng.random() < 0.4:
        data = mutated(data, rng)
    shutil.copy(folder / "config.toml", folder / "run" / "config.toml")
    run = open_run(folder / "run")
    run.metrics.write_bytes(data)

    def read() -> None:
        is_done(run)
        found = result(run)
        # As the command prints them.
        f"{found['loss']:.4f}", "" if found["nmi"] is None else f"{found['nmi']:.3f}"
        [f"{value:.3f}" for value in (found["recall"] or {}).values()]

    outcome(lambda: _keep_lines(run.metrics, 2))
    return outcome(read)


def result_case(folder: Path, rng: random.Random) -> str:
    """The file that a finished classification is answered from."""
    from slic.commands.classify import _rows

    path = folder / "own.json"
    path.write_bytes(as_json(changed_somewhere(RESULT, rng)))
    if rng.random() < 0.3:
        path.write_bytes(mutated(path.read_bytes(), rng))
    about = {"run": "run", "store": "own.zarr", "split": 1, "mode": "finetune"}
    return outcome(lambda: _rows({**read_result(path), **about, "confusion": str(path)}))


CASES = {"toml": toml_case, "options": option_case, "lines": lines_case, "result": result_case}
test_changed_configs = fuzz(make, toml_case, examples=250)
test_changed_options = fuzz(make, option_case, examples=250)
test_changed_records = fuzz(make, lines_case, examples=150)
test_changed_results = fuzz(make, result_case, examples=250)


def soak_fuzz_config(seed: int, minutes: float) -> dict[str, dict[str, Any]]:
    """The same for so many minutes, an equal share each."""
    share = minutes / len(CASES)
    return {name: soak(make, case, seed=seed, minutes=share) for name, case in CASES.items()}


# --- what was found --------------------------------------------------------------------------


@pytest.mark.parametrize("value", TOML)
@pytest.mark.parametrize("key", ["epochs", "lr", "encoder", "init", "split", "unknown"])
def test_each_odd_value_of_each_kind(tmp_path: Path, key: str, value: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"{key} = {value}\n")
    outcome(lambda: make_settings("cpu-small", config=file))


@pytest.mark.parametrize(
    "about",
    [
        3,
        {},
        {"store": 3},
        {"store": "a\nb"},
        {"store": "a\x00b"},
        {"store_digest": 1.5},
        {"preset": [1]},
        {"head": "no"},
        {"imported": 0},
    ],
)
def test_the_table_of_a_run_says_what_it_must(tmp_path: Path, about: Any) -> None:
    make(tmp_path)
    whole = {"store": "s.zarr", "store_digest": "d", "preset": "p"}
    table = {**whole, **about} if isinstance(about, dict) and about else about
    values = {**SETTINGS.as_dict(), "run": table}
    (tmp_path / "run" / "config.toml").write_text(tomli_w.dumps(values))
    with pytest.raises(CheckpointError):
        open_run(tmp_path / "run")


def test_a_strangers_run_writes_nothing_to_the_store_that_it_names(
    work: Path, slic: Any, tmp_path: Path
) -> None:
    """Reading it is fine."""
    outside = tmp_path / "elsewhere.zarr"
    shutil.copytree((work / "ucf101.zarr").resolve(), outside)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    path = next((work / "runs").iterdir()) / "config.toml"
    path.write_text(
        "\n".join(
            f'store = "{outside}"' if line.startswith("store =") else line
            for line in path.read_text().splitlines()
        )
    )
    assert find_run(None).store.resolve() == outside.resolve()
    code, _, said = slic("eval", "retrieve", "--device", "cpu", "--workers", "0")
    assert code == 0, said
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    import os

    make(tmp_path)
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(CheckpointError):
        open_run(tmp_path / "run").records("epoch")


def test_options_of_huge_names_and_numbers() -> None:
    for change in (f"{'x' * 10**6}=1", f"epochs={'9' * 5000}", "lr=1e400", f"seed={10**30}"):
        with pytest.raises((SettingsError, InputError)):
            make_settings("cpu-small", options=_changes([change]))


def test_nasty_values_are_documented_errors() -> None:
    for key in SETTINGS.as_dict():
        for value in [*NASTY, float("nan"), float("inf"), b"x", object()]:
            values = {**SETTINGS.as_dict(), key: value}
            outcome(lambda values=values: settings_from(values, where="settings"))  # type: ignore[misc]
