"""Damage to a run is found, and removed or set aside; training then continues exactly."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from slic.encoders.checkpoints import load_checkpoint
from slic.errors import CheckpointError, DiskError
from slic.runs import find_run, lock_run, open_run
from slic.train.run import train
from slic.upkeep.verify.caches import find_removable
from slic.upkeep.verify.report import Report
from slic.upkeep.verify.run import cache_problem, verify_run
from slic.upkeep.verify.targets import Target

TINY = {"frames": 4, "stride": 1, "size": 16, "batch_size": 6, "epochs": 2, "retrieval_clips": 2}
TINY |= {"cluster_every": 1, "warmup_epochs": 1}


@pytest.fixture(scope="module")
def kept(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the drawn store and a run of it that keeps its checkpoints, and is measured."""
    from slic.embed.cached import cached_embeddings, evaluation_protocol

    folder = tmp_path_factory.mktemp("kept")
    (folder / "ucf101.zarr").symlink_to(drawn_store)
    with contextlib.chdir(folder):
        start()
        run = find_run(None)
        protocol = evaluation_protocol(run.settings, None)
        how: dict[str, Any] = {"device": "cpu", "workers": 0, "say": str}
        cached_embeddings(run, store=None, protocol=protocol, split=1, **how)
    return folder


def start() -> dict[str, Any]:
    how: dict[str, Any] = {"device": "cpu", "workers": 0, "say": str}
    return train("ucf101.zarr", preset="cpu-small", options=TINY, keep_checkpoints=True, **how)


@pytest.fixture
def run(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the run, in a folder of its own that is the current one."""
    shutil.copytree(kept, tmp_path / "work", symlinks=True)
    monkeypatch.chdir(tmp_path / "work")
    return find_run(None).path


@pytest.fixture
def files(kept: Path, tmp_path: Path) -> Path:
    """A copy of the run without its checkpoints, which are large."""
    run = next((kept / "runs").iterdir())
    leave_out = shutil.ignore_patterns("checkpoints")
    return Path(shutil.copytree(run, tmp_path / "run", ignore=leave_out))


def flip(file: Path, place: int) -> None:
    data = bytearray(file.read_bytes())
    data[place] ^= 4
    file.write_bytes(data)


def cache(run: Path, *, training: bool = False) -> Path:
    files = sorted((run / "embeddings").glob("*.h5"))
    return next(file for file in files if file.name.endswith("-train.h5") == training)


def found(report: Report) -> list[str]:
    return [fault.where for fault in report.faults]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "latest")["model"]


def lines(run: Path) -> list[dict]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in record.items() if k != "seconds"} for record in records]


# --- what is sound ---------------------------------------------------------------------------


def test_a_sound_run_has_no_faults(run: Path) -> None:
    report = verify_run(run)
    assert (report.faults, report.notes) == ([], [])
    assert report.checked == {"checkpoints": 4, "metrics": 6, "embeddings": 2}
    before = sorted(p for p in run.rglob("*"))
    assert verify_run(run, repair=True).sound
    assert sorted(p for p in run.rglob("*") if p.name != "lock") == [
        p for p in before if p.name != "lock"
    ]


def test_a_store_that_is_gone_or_changed_is_a_note(run: Path) -> None:
    config = run / "config.toml"
    text = config.read_text()
    digest = open_run(run).store_digest
    config.write_text(text.replace(digest, "0" * len(digest)))
    report = verify_run(run)
    assert report.sound
    assert "has changed" in report.notes[0]
    Path("ucf101.zarr").unlink()
    assert "no such store" in verify_run(run).notes[0]


# --- caches ----------------------------------------------------------------------------------


def put(name: str, value: object) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        with h5py.File(file, "r+") as content:
            content[name][0] = value

    return change


def without_store(file: Path) -> None:
    with h5py.File(file, "r+") as content:
        content.attrs.pop("store_digest")


BROKEN_CACHES: dict[str, Callable[[Path], Any]] = {
    "cut short": lambda file: os.truncate(file, file.stat().st_size // 2),
    "flipped bit": lambda file: flip(file, file.stat().st_size // 2),
    "not finite": put("backbone", np.nan),
    "infinite": put("projection", np.inf),
    "without its store": without_store,
    "another name": lambda file: file.rename(file.with_name(f"x{file.name}")),
}


@pytest.mark.parametrize("kind", BROKEN_CACHES)
def test_a_broken_cache_is_found(files: Path, kind: str) -> None:
    assert cache_problem(cache(files)) is None
    BROKEN_CACHES[kind](cache(files))
    assert cache_problem(cache(files)) is not None


def test_a_broken_cache_is_removed(run: Path) -> None:
    file = cache(run, training=True)
    put("backbone", np.nan)(file)
    report = verify_run(run, repair=True)
    assert found(report) == [f"embeddings/{file.name}"]
    assert (report.repaired, file.exists()) == (1, False)
    assert verify_run(run).faults == []


# --- checkpoints -----------------------------------------------------------------------------


BROKEN_CHECKPOINTS: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda file: flip(file, file.stat().st_size // 2),
    "something else": lambda file: torch.save({"a": 1}, file),
    "of another encoder": lambda file: torch.save(
        {**load_checkpoint(file), "encoder": "s3d"}, file
    ),
    "not there": Path.unlink,
}


@pytest.mark.parametrize("kind", BROKEN_CHECKPOINTS)
def test_an_earlier_checkpoint_replaces_a_broken_one(run: Path, kind: str) -> None:
    latest = run / "checkpoints" / "latest"
    last, history = weights(run), lines(run)
    BROKEN_CHECKPOINTS[kind](latest)
    broken = latest.read_bytes() if latest.exists() else None
    report = verify_run(run, repair=True)
    assert (found(report), report.repaired) == (["checkpoints/latest"], 1)
    assert verify_run(run).faults == []
    aside = latest.with_name("latest.set-aside")
    assert (aside.read_bytes() if aside.exists() else None) == broken
    # The kept one of the last clustering: only `done` is left to do.
    assert lines(run) == history[:-1]
    assert load_checkpoint(latest)["progress"]["epoch"] == 2
    assert all(torch.equal(last[key], value) for key, value in weights(run).items())


def test_an_earlier_checkpoint_continues_exactly(run: Path) -> None:
    last, history = weights(run), lines(run)
    for name in ("latest", "epoch00002"):
        flip(run / "checkpoints" / name, 5000)
    report = verify_run(run, repair=True)
    assert (len(report.faults), report.sound) == (2, True)
    assert load_checkpoint(run / "checkpoints" / "latest")["progress"]["epoch"] == 1
    result = start()
    assert (result["epochs"], lines(run)) == (2, history)
    assert all(torch.equal(last[key], value) for key, value in weights(run).items())
    assert verify_run(run).faults == []


def test_without_another_checkpoint_training_starts_again(run: Path) -> None:
    last, history = weights(run), lines(run)
    for file in (run / "checkpoints").iterdir():
        flip(file, 5000)
    report = verify_run(run, repair=True)
    assert (len(report.faults), report.sound) == (4, True)
    assert len(list((run / "checkpoints").glob("*.set-aside"))) == 4
    assert (run / "metrics.jsonl.set-aside").exists()
    start()
    assert lines(run) == history
    assert all(torch.equal(last[key], value) for key, value in weights(run).items())


def test_what_the_system_refuses_to_read_is_not_taken_for_damaged(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("slic.encoders.tensor_files.check_regular", refuse)
    with pytest.raises(DiskError, match="Permission denied"):
        verify_run(run, repair=True)
    assert (run / "checkpoints" / "latest").exists()


def test_nothing_set_aside_is_replaced(run: Path) -> None:
    for _ in range(2):
        flip(run / "checkpoints" / "epoch00000", 5000)
        verify_run(run, repair=True)
        shutil.copy(run / "checkpoints" / "epoch00001", run / "checkpoints" / "epoch00000")
    names = {p.name for p in (run / "checkpoints").glob("epoch00000.*")}
    assert names == {"epoch00000.set-aside", "epoch00000.set-aside-2"}


def test_a_repair_that_fails_does_not_stop_the_others(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    put("backbone", np.nan)(cache(run))
    (run / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes()[:-3])
    monkeypatch.setattr("slic.upkeep.verify.run.atomic_write", refuse)
    report = verify_run(run, repair=True)
    assert [(f.repaired, bool(f.error)) for f in report.faults] == [(False, True), (True, False)]
    assert (report.repaired, report.sound) == (1, False)
    assert "No space left" in report.json()["notes"][-1]


# --- the rest --------------------------------------------------------------------------------


def test_a_setting_that_differs_from_the_checkpoint_is_reported(run: Path) -> None:
    config = run / "config.toml"
    config.write_text(config.read_text().replace("batch_size = 6", "batch_size = 7"))
    report = verify_run(run, repair=True)
    assert (found(report), report.sound) == (["config.toml"], False)
    assert "batch_size 7 / 6" in report.faults[0].what


@pytest.mark.parametrize("text", ["encoder = ", "[run]\nstore = 3\n"])
def test_a_broken_config_is_reported_and_kept(run: Path, text: str) -> None:
    (run / "config.toml").write_text(text)
    report = verify_run(run, repair=True)
    assert (found(report), report.repaired) == (["config.toml"], 0)
    assert (run / "config.toml").read_text() == text


def test_lines_that_are_not_records_are_removed(run: Path) -> None:
    history = lines(run)
    file = run / "metrics.jsonl"
    text = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*text[:2], '{"kind": 3}\n', *text[3:], '{"kind": "do']))
    report = verify_run(run, repair=True)
    assert found(report) == ["metrics.jsonl: line 3", "metrics.jsonl: line 7"]
    assert lines(run) == [*history[:2], *history[3:]]
    after = verify_run(run)
    assert (after.faults, len(after.notes)) == ([], 1)  # a line is lost, which is said


def test_broken_clusters_are_set_aside(run: Path) -> None:
    broken = (run / "clusters.h5").read_bytes()[:-100]
    (run / "clusters.h5").write_bytes(broken)
    assert found(verify_run(run, repair=True)) == ["clusters.h5"]
    assert (run / "clusters.h5.set-aside").read_bytes() == broken
    assert verify_run(run).faults == []


def test_leftovers_are_removed_but_not_what_an_evaluation_may_be_writing(run: Path) -> None:
    names = [".metrics.jsonl.01234567", "checkpoints/.latest.01234567"]
    names += [".failed-step.json.01234567"]
    names += ["embeddings/.a-train.h5.01234567", "embeddings/.a.h5.01234567"]
    names += ["classify/.linear.json.01234567", "embeddings/.old.h5.01234567"]
    (run / "classify").mkdir(exist_ok=True)
    for name in names:
        (run / name).write_text("half")
    os.utime(run / names[-1], (time.time() - 90_000,) * 2)
    report = verify_run(run, repair=True)
    assert set(found(report)) == {*names[:4], names[-1]}
    assert [(run / name).exists() for name in names] == [False] * 4 + [True] * 2 + [False]


def test_a_run_in_training_is_checked_but_not_repaired(run: Path) -> None:
    (run / "checkpoints" / ".latest.01234567").write_text("under way")
    unlock = lock_run(run)
    try:
        assert verify_run(run).faults == []
        with pytest.raises(CheckpointError, match="being trained"):
            verify_run(run, repair=True)
    finally:
        unlock()
    assert found(verify_run(run, repair=True)) == ["checkpoints/.latest.01234567"]


def test_a_run_that_cannot_be_written_is_checked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = run / "checkpoints" / ".latest.01234567"
    leftover.write_text("half")
    opened = os.open

    def read_only(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise OSError(30, "Read-only file system", str(path))
        return opened(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", read_only)
    assert found(verify_run(run)) == ["checkpoints/.latest.01234567"]
    assert [item.path for item in find_removable([Target("run", run)])] == [leftover]
