"""Damaged settings, runs and their records: refused in one line, or values of the right kind."""

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from cases import Material
from fuzzing import as_json, changed_somewhere, fuzz, mutated, outcome, soak

from slic.commands.classify import _rows
from slic.commands.train import _changes
from slic.config import make_settings, settings_from
from slic.engine.log import _keep_lines
from slic.errors import CheckpointError
from slic.eval.outcome import read_result, write_result
from slic.runs import create_run, open_run
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
    """Change a run's config.toml, which may also be given as --config."""
    lines = (folder / "config.toml").read_text().splitlines()
    place = rng.randrange(len(lines))
    key, value = lines[place].partition("=")[0], rng.choice(TOML)
    lines[place] = rng.choice([f"{key}= {value}", f"x{key}= {value}", value, f"{key}.a = 1"])
    data = "\n".join(lines).encode()
    file = folder / "run" / "config.toml"
    file.write_bytes(mutated(data, rng) if rng.random() < 0.3 else data)

    def read() -> None:
        run = open_run(folder / "run")
        assert settings_from(run.settings.as_dict(), where="again") == run.settings
        assert isinstance(run.store_digest, str)
        assert {type(flag) for flag in (run.imported, run.head, run.fitted)} == {bool}

    outcome(lambda: make_settings("cpu-small", config=file))
    return outcome(read)


def option_case(_: Path, rng: random.Random) -> str:
    """Give odd names and values to --set, and odd settings in a checkpoint."""
    name = rng.choice([*SETTINGS.as_dict(), "", "x" * 100_000, "a b", "size\n"])
    value = rng.choice([*TOML, "one", "auto", "1.0", "2.5", " 3 "])
    said = outcome(lambda: make_settings("cpu-small", options=_changes([f"{name}={value}"])))
    values = changed_somewhere(SETTINGS.as_dict(), rng)
    if isinstance(values, dict):
        outcome(lambda: settings_from(values, where="settings"))
    return said


def lines_case(folder: Path, rng: random.Random) -> str:
    """Change metrics.jsonl."""
    documents: list[Any] = [EPOCH, CLUSTERING, {"kind": "done", "step": 3}]
    place = rng.randrange(3)
    documents[place] = changed_somewhere(documents[place], rng)
    data = b"".join(as_json(line) + b"\n" for line in documents)
    shutil.copy(folder / "config.toml", folder / "run" / "config.toml")
    run = open_run(folder / "run")
    run.metrics.write_bytes(mutated(data, rng) if rng.random() < 0.4 else data)

    def read() -> None:
        is_done(run)
        found = result(run)
        # As the command prints them.
        f"{found['loss']:.4f}", "" if found["nmi"] is None else f"{found['nmi']:.3f}"
        [f"{value:.3f}" for value in (found["recall"] or {}).values()]

    outcome(lambda: _keep_lines(run.metrics, 2))
    return outcome(read)


def result_case(folder: Path, rng: random.Random) -> str:
    """Change the file that repeats the result of a finished classification."""
    path = folder / "own.json"
    data = as_json(changed_somewhere(RESULT, rng))
    path.write_bytes(mutated(data, rng) if rng.random() < 0.3 else data)
    about = {"run": "run", "store": "own.zarr", "split": 1, "mode": "finetune"}
    return outcome(lambda: _rows({**read_result(path), **about, "confusion": str(path)}))


def case(folder: Path, rng: random.Random) -> str:
    return rng.choice([toml_case, option_case, lines_case, result_case])(folder, rng)


test_changed_records = fuzz(make, case, examples=300)


def soak_fuzz_config(seed: int, minutes: float) -> dict[str, Any]:
    """Change settings and records until the time is over."""
    return soak(make, case, seed=seed, minutes=minutes)


def test_reading_a_run_does_not_change_the_store_that_it_names(
    material: Material, slic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "elsewhere.zarr"
    shutil.copytree(material.store, outside)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    folder = Path(shutil.copytree(material.trained.parent, tmp_path / "work" / "runs")) / "r"
    lines = (folder / "config.toml").read_text().splitlines()
    named = [f'store = "{outside}"' if line.startswith("store =") else line for line in lines]
    (folder / "config.toml").write_text("\n".join(named))
    monkeypatch.chdir(tmp_path / "work")
    code, _, said = slic("eval", "retrieve", "--device", "cpu", "--workers", "0")
    assert code == 0, said
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before


@pytest.mark.parametrize("name", ["config.toml", "metrics.jsonl"])
def test_pipes_are_not_waited_for(tmp_path: Path, name: str) -> None:
    make(tmp_path)
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(CheckpointError):
        open_run(tmp_path / "run").records("epoch")
