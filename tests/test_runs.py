import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slic.config import make_settings
from slic.errors import CheckpointError, InputError, StoreError
from slic.runs import (
    Run,
    choose_run,
    create_run,
    find_run,
    lock_run,
    numbered_runs,
    only_store,
    open_run,
)

SETTINGS = make_settings("cpu-small")
STORE = Path("ucf101.zarr")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chosen(settings=SETTINGS, *, store=STORE, digest="aaaa", name=None, new=False) -> Run:
    return choose_run(
        settings, store=store, store_digest=digest, preset="cpu-small", name=name, new=new
    )


def refusal(*args, **options) -> str:
    with pytest.raises(CheckpointError) as caught:
        chosen(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def made_at(run: Run, seconds: int) -> None:
    os.utime(run.path / "config.toml", (seconds, seconds))


def test_the_first_run_of_a_store_is_number_1():
    run = chosen()
    assert run.path == Path("runs/ucf101-small-1")
    assert (run.settings, run.store, run.store_digest) == (SETTINGS, STORE, "aaaa")
    assert (run.path / "checkpoints").is_dir()
    assert run.checkpoint == run.path / "checkpoints" / "latest"
    assert open_run(run.path) == chosen() == run


def test_its_config_can_be_given_back(here):
    settings = replace(SETTINGS, seed=7, lr=1e-5, cluster="none")
    run = chosen(settings)
    assert make_settings("ucf101-16f", config=run.path / "config.toml") == settings


def test_a_run_of_an_older_slic_has_the_settings_that_it_had_then():
    run = chosen()
    config = run.path / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text("".join(line for line in lines if not line.startswith("components")))
    assert open_run(run.path).settings == SETTINGS
    assert chosen().path == run.path
    assert chosen(replace(SETTINGS, components="v")).path != run.path


def test_other_settings_content_or_new_start_the_next_number():
    first = chosen()
    other = replace(SETTINGS, seed=1)
    assert chosen(other).path.name == "ucf101-small-2"
    assert chosen(digest="bbbb").path.name == "ucf101-small-3"
    assert chosen(new=True).path.name == "ucf101-small-4"
    assert chosen(other).path.name == "ucf101-small-2"
    assert chosen(digest="bbbb").path.name == "ucf101-small-3"
    assert chosen(replace(SETTINGS, encoder="r3d18")).path.name == "ucf101-r3d18-1"
    assert chosen(store=Path("hmdb51.zarr")).path.name == "hmdb51-small-1"
    # The newest of several of the same settings.
    assert chosen().path.name == "ucf101-small-4"
    assert first.path.name == "ucf101-small-1"


def test_numbers_sort_as_numbers_and_others_are_no_runs():
    for name in ("a-small-10", "a-small-9", "a-small-x", "ba-small-11", "a-small-1-2"):
        create_run(
            Path("runs") / name, SETTINGS, store=STORE, store_digest="aaaa", preset="cpu-small"
        )
    Path("runs/a-small-12").write_text("a file")
    assert [number for number, _ in numbered_runs("a-small")] == [9, 10]
    assert chosen(store=Path("a.zarr"), digest="bbbb").path.name == "a-small-11"


def test_a_folder_half_made_is_passed_over():
    Path("runs/ucf101-small-1/checkpoints").mkdir(parents=True)
    assert chosen().path.name == "ucf101-small-2"
    assert chosen().path.name == "ucf101-small-2"
    assert find_run(None).path.name == "ucf101-small-2"


def test_a_named_run_is_made_then_continued():
    assert chosen(name="mine").path == Path("runs/mine")
    assert chosen(name="mine").path == Path("runs/mine")
    assert chosen(name="else/where").path == Path("else/where")
    assert open_run(Path("else/where")).store == STORE


def test_a_named_run_of_other_settings_says_which():
    chosen(name="mine")
    message = refusal(replace(SETTINGS, seed=1, epochs=3), name="mine")
    assert f"epochs {SETTINGS.epochs} -> 3, seed 0 -> 1" in message
    assert message.startswith("runs/mine: ")
    assert "its store has changed" in refusal(digest="bbbb", name="mine")
    assert "drop --new" in refusal(name="mine", new=True)


def test_a_store_that_moved_is_read_where_it_is_now():
    moved = Path("elsewhere/ucf101.zarr")
    assert chosen(name="mine").store == STORE
    assert chosen(name="mine", store=moved).store == moved
    chosen()
    assert chosen(store=moved).store == moved


def test_the_newest_run_is_the_one_that_progressed_last():
    first, second = chosen(), chosen(new=True)
    made_at(first, 1000)
    made_at(second, 2000)
    assert find_run(None).path == second.path
    first.checkpoint.write_text("x")
    os.utime(first.checkpoint, (3000, 3000))
    assert find_run(None).path == first.path
    # What evaluation leaves behind makes nothing newer.
    second.embeddings.mkdir()
    assert find_run(None).path == first.path


def test_a_run_is_found_by_name_or_path(here):
    with pytest.raises(CheckpointError, match="slic train"):
        find_run(None)
    run = chosen(name="mine")
    with pytest.raises(CheckpointError, match="exists already"):
        create_run(run.path, SETTINGS, store=STORE, store_digest="a", preset="p")
    for name in ("mine", "runs/mine", str(here / "runs" / "mine")):
        assert find_run(name).settings == run.settings
    for name in ("other", "runs/other", "."):
        with pytest.raises(CheckpointError, match="not a run"):
            find_run(name)


@pytest.mark.parametrize(
    "text", ["", "a = = 1", "epochs = 3", "[run]\nstore = 1", "[run]\nstore_digest = 'a'", "\x00"]
)
def test_a_damaged_config_is_one_line(text):
    run = chosen()
    config = run.path / "config.toml"
    config.write_text(text)
    with pytest.raises(CheckpointError) as caught:
        open_run(run.path)
    assert str(config) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_records_come_by_kind_and_a_torn_last_line_is_left_out():
    run = chosen()
    assert run.records("epoch") == []
    lines = [{"kind": "epoch", "n": 1}, {"kind": "done"}, {"kind": "epoch", "n": 2}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    for torn in ("", '{"kind": "ep', '{"kind": "epoch", "n": 3}'):
        run.metrics.write_text(text + torn)
        assert [record["n"] for record in run.records("epoch")] == [1, 2]
    for damaged in ("{]\n", "3\n", "{}\n"):
        run.metrics.write_text(damaged + text)
        with pytest.raises(CheckpointError, match="not a record"):
            run.records("epoch")


def test_only_store(here):
    with pytest.raises(StoreError, match=r"no \*.zarr here"):
        only_store(None)
    Path("b.zarr").mkdir()
    Path("file.zarr").touch()
    assert only_store(None) == Path("b.zarr")
    Path("a.zarr").mkdir()
    with pytest.raises(StoreError, match=r"several stores here \(a.zarr, b.zarr\)"):
        only_store(None)
    assert only_store("a.zarr") == Path("a.zarr")
    for missing in ("c.zarr", "file.zarr"):
        with pytest.raises(InputError, match=f"{missing}: no such store"):
            only_store(missing)


def test_a_locked_run_is_refused_until_unlocked():
    run = chosen()
    unlock = lock_run(run.path)
    with pytest.raises(CheckpointError) as caught:
        lock_run(run.path)
    assert str(caught.value) == f"{run.path}: is being trained by another process"
    unlock()
    lock_run(run.path)()


HOLD = """
import sys
from pathlib import Path
from slic.runs import lock_run
unlock = lock_run(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_lock_is_gone_with_its_process():
    run = chosen()
    command = [sys.executable, "-c", HOLD, str(run.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(CheckpointError, match="by another process"):
            lock_run(run.path)
        holder.kill()
    lock_run(run.path)()
