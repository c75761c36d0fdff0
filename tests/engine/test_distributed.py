"""Several processes that train together do what one does: real processes, on CPUs, by Gloo."""

import contextlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from slic.cache import EmbeddingCache
from slic.encoders.checkpoints import load_checkpoint
from slic.engine.distributed import SINGLE, Ranks, joined, this_rank
from slic.errors import InputError, StoreError, WorkError
from slic.runs import Run, open_run
from slic.runtime.processes import available_cores
from slic.train.outcome import is_done
from slic.train.run import check_devices, check_store, compute_options, device_of_rank
from slic.train.setup import check_shares

SCRIPT = Path(__file__).with_name("ranks_at_work.py")
AT_WORK = runpy.run_path(str(SCRIPT))
LIMIT_S = 240


def started(processes: int, *words: str | Path, folder: Path) -> subprocess.Popen:
    """`torchrun` on this machine, at a port that is free, in a process group of its own."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *map(str, words)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ranks_of(launcher: subprocess.Popen) -> list[int]:
    """Process ids of what a launcher has started, in order of rank."""
    found = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ranks = {}
    for process in map(int, found):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
            ranks |= {int(w[5:]): process for w in words if w.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


@contextlib.contextmanager
def ending(launcher: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """However the block ends, no process of the launcher's outlives it."""
    try:
        yield launcher
    finally:
        ranks = ranks_of(launcher) if launcher.poll() is None else []
        launcher.kill()
        for process in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        launcher.communicate()


def done(launcher: subprocess.Popen) -> tuple[int, str, str]:
    with ending(launcher):
        out, err = launcher.communicate(timeout=LIMIT_S)
    return launcher.returncode, out, err


def waited(condition: Callable[[], bool]) -> bool:
    for _ in range(20 * LIMIT_S):
        if condition():
            return True
        time.sleep(0.05)
    return False


def gone(processes: Sequence[int]) -> bool:
    return not any(Path(f"/proc/{process}").exists() for process in processes)


@pytest.fixture(scope="module")
def folder(drawn_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below `1`, `2` and `3`, what as many processes make of each case."""
    folder = tmp_path_factory.mktemp("ranks")
    for processes in (1, 2, 3):
        (folder / str(processes)).mkdir()
    AT_WORK["train_all"](drawn_store, folder / "1", SINGLE)
    for processes in (3, 2):
        code, _, err = done(started(processes, SCRIPT, drawn_store, folder, folder=folder))
        assert code == 0, err
    return folder


def told(folder: Path, processes: int) -> list[dict[str, Any]]:
    """What each of so many processes has noted."""
    made = folder / str(processes)
    return [json.loads((made / f"{rank}.json").read_text()) for rank in range(processes)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.checkpoint)["model"]


def lines(run: Run) -> list[dict[str, Any]]:
    read = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read]


def assert_same(found: Run, expected: Run) -> None:
    mine, theirs = weights(found), weights(expected)
    assert mine.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=0, atol=1e-9, msg=name)
    assert len(lines(found)) == len(lines(expected))
    for line, other in zip(lines(found), lines(expected), strict=True):
        exact = [k for k, v in other.items() if not isinstance(v, float)]
        assert {k: line.pop(k) for k in exact} == {k: other.pop(k) for k in exact}
        assert line == pytest.approx(other, rel=1e-6, abs=1e-7)
    with (
        h5py.File(found.path / "clusters.h5") as mine,
        h5py.File(expected.path / "clusters.h5") as theirs,
    ):
        assert {k: v[:].tolist() for k, v in mine.items()} == {
            k: v[:].tolist() for k, v in theirs.items()
        }
    (path,), (other) = found.embeddings.iterdir(), next(expected.embeddings.iterdir())
    cache, known = EmbeddingCache(path), EmbeddingCache(other)
    assert list(cache.ids) == list(known.ids)
    np.testing.assert_allclose(cache.backbone, known.backbone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(cache.projection, known.projection, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("case", AT_WORK["CASES"])
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_make_the_run_that_one_makes(folder, processes, case):
    expected, found = open_run(folder / "1" / case), open_run(folder / str(processes) / case)
    assert lines(expected)[-1]["step"] >= 10
    begun = AT_WORK["new_encoder"](expected.settings.encoder, seed=0).state_dict()
    learnt = weights(expected)
    moved = [(learnt[k] - begun[k]).abs().max() for k in begun if "weight" in k]
    assert min(moved) > 1e-5, "every weight has learnt"
    assert_same(found, expected)


@pytest.mark.slow
def test_a_run_stopped_within_an_epoch_and_at_its_end_is_finished_by_fewer(folder):
    assert [each["steps"] for each in told(folder, 3)] == [[3]] * 3
    assert [each["steps"] for each in told(folder, 2)] == [[5, 10]] * 2
    assert_same(open_run(folder / "interrupted"), open_run(folder / "1" / AT_WORK["INTERRUPTED"]))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_what_processes_exchange(folder, processes):
    mean = (processes - 1) / 2
    for rank, each in enumerate(told(folder, processes)):
        assert each["any"] == [True, False]
        assert each["on_first"] == [0, "said"]
        assert each["average"] == [mean, 1 + mean, 2 + mean]
        assert each["gathered"] == ([] if rank else [10 * rank for rank in range(processes)])
        sound, damaged = each["test_recall"]
        assert set(sound) == {"1", "5"}
        assert damaged is None


def command(store: Path, **options: str) -> list[str | Path]:
    """`slic train` as a module; `--`, as torchrun takes `--run` for one of its own."""
    settings = {"preset": "cpu-small", "frames": "2", "size": "12", "batch-size": "5", **options}
    words = [word for name, value in settings.items() for word in (f"--{name}", value)]
    how = ["--run", "story", "--device", "cpu", "--workers", "0", "--json"]
    return ["-m", "--", "slic", "train", store, *words, *how]


def steps_in(folder: Path) -> int:
    """Steps in the story's lines so far."""
    run = folder / "runs" / "story" / "metrics.jsonl"
    text = run.read_text() if run.exists() else ""
    full = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return max((json.loads(line)["step"] for line in full), default=0)


@pytest.mark.slow
def test_a_run_is_stopped_loses_a_process_and_is_finished_by_one(
    drawn_store, tmp_path, monkeypatch, slic
):
    words = command(drawn_store, epochs="25")
    with ending(started(2, *words, folder=tmp_path)) as launcher:
        assert waited(lambda: steps_in(tmp_path) >= 4)
        ranks = ranks_of(launcher)
        launcher.terminate()
        out, err = launcher.communicate(timeout=LIMIT_S)
        assert waited(lambda: gone(ranks))
    run = open_run(tmp_path / "runs" / "story")
    assert (launcher.returncode == 0, out) == (False, "")
    assert "slic: stopped" in err
    assert err.count("25 epochs") == 1
    stopped_at = load_checkpoint(run.checkpoint)["progress"]["total_steps"]
    assert stopped_at >= 4
    assert not is_done(run)
    with ending(started(2, *words, folder=tmp_path)) as launcher:
        assert waited(lambda: steps_in(tmp_path) >= stopped_at + 8)
        ranks = ranks_of(launcher)
        os.kill(ranks[1], signal.SIGKILL)
        out, err = launcher.communicate(timeout=LIMIT_S)
        assert waited(lambda: gone(ranks))
    assert (launcher.returncode == 0, out) == (False, "")
    assert f"step {stopped_at}" in err
    # By which of the two it knows first: the others, or torchrun's SIGTERM.
    assert "process 0 of 2: lost contact" in err or "slic: stopped" in err
    monkeypatch.chdir(tmp_path)
    code, out, err = slic(*map(str, words[3:]))
    assert code == 0, err
    assert json.loads(out)["steps"] == 100
    assert [line["step"] for line in run.records("epoch")] == [4 * n for n in range(1, 26)]


def test_the_first_process_alone_prints_a_result(monkeypatch, slic):
    found = {"run": "r", "epochs": 1, "steps": 4, "checkpoint": "c", "loss": 0.5}
    found |= {"clusters": 2, "clusters_used": True, "nmi": None, "recall": None}
    monkeypatch.setattr("slic.train.run.train", lambda *args, **options: found)
    for rank, printed in (("0", found), ("1", None)):
        environment(monkeypatch, RANK=rank, WORLD_SIZE="2", LOCAL_RANK=rank)
        code, out, _ = slic("train", "--json")
        assert code == 0
        assert (json.loads(out) if out else None) == printed


def test_more_processes_than_samples_of_a_batch_are_refused():
    # 18 videos in batches of at most 4: five, of 3 and 4.
    settings = AT_WORK["replace"](AT_WORK["BASE"], batch_size=4)
    check_shares(Ranks(0, 3), settings, videos=18)
    with pytest.raises(InputError, match="4 processes for batches of 3 samples: start at most 3"):
        check_shares(Ranks(0, 4), settings, videos=18)


@pytest.mark.slow
def test_a_store_that_another_machine_sees_otherwise_is_refused(folder, drawn_store):
    run = open_run(folder / "1" / "triplet")
    check_store(run)
    with pytest.raises(StoreError, match="differs from what rank 0 sees"):
        check_store(AT_WORK["replace"](run, store_digest="another"))


@pytest.mark.parametrize("name", ["cuda", "auto"])
def test_each_process_has_its_own_gpu(monkeypatch, name):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    device = device_of_rank(Ranks(6, 8, 2, 4), name)
    assert device == torch.device("cuda:2")
    assert compute_options(device, local_size=4).workers == max(1, min(16, available_cores() // 4))
    assert device_of_rank(SINGLE, name) == torch.device("cuda")
    with pytest.raises(InputError, match="need a GPU each"):
        device_of_rank(Ranks(6, 8, 2, 4), "cuda:1")
    with pytest.raises(InputError, match="no such GPU"):
        device_of_rank(Ranks(5, 8, 5, 8), name)


def test_gpus_for_some_processes_alone_are_refused(monkeypatch):
    compute = AT_WORK["ComputeOptions"](torch.device("cpu"))
    check_devices(SINGLE, compute)
    monkeypatch.setattr(Ranks, "any", lambda self, *flags: (True, True))
    with pytest.raises(InputError, match="only some of the processes"):
        check_devices(Ranks(0, 2), compute)


@pytest.mark.parametrize("size", range(1, 6))
@pytest.mark.parametrize("count", range(8))
def test_shares_are_the_items_in_order_and_of_one_length_but_for_one(size, count):
    items = list(range(count))
    shares = [Ranks(rank, size).share(items) for rank in range(size)]
    assert [item for share in shares for item in share] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def environment(monkeypatch: pytest.MonkeyPatch, **names: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in names.items():
        monkeypatch.setenv(name, value)


def test_torchrun_tells_which_process_it_is(monkeypatch):
    environment(monkeypatch)
    assert this_rank() == SINGLE
    environment(monkeypatch, RANK="0", WORLD_SIZE="1", LOCAL_RANK="0")
    assert this_rank() == SINGLE
    environment(monkeypatch, WORLD_SIZE="4")
    assert this_rank() == SINGLE
    environment(monkeypatch, RANK="5", WORLD_SIZE="8", LOCAL_RANK="1", LOCAL_WORLD_SIZE="4")
    assert this_rank() == Ranks(5, 8, 1, 4)
    assert not this_rank().first


@pytest.mark.parametrize(
    ("rank", "size", "local"),
    [("8", "8", "0"), ("-1", "2", "0"), ("one", "2", "0"), ("", "2", "0")],
)
def test_an_environment_of_nobody_is_refused(monkeypatch, rank, size, local):
    environment(monkeypatch, RANK=rank, WORLD_SIZE=size, LOCAL_RANK=local)
    with pytest.raises(InputError, match="inconsistent values"):
        this_rank()


def test_an_environment_without_an_address_is_refused(monkeypatch):
    environment(monkeypatch, RANK="0", WORLD_SIZE="2", LOCAL_RANK="0")
    monkeypatch.setattr("slic.engine.distributed._stop_with_parent", lambda: None)
    refused = pytest.raises(InputError, match="inconsistent values")
    with refused, joined():
        pass


def test_others_that_cannot_be_reached_are_one_line(monkeypatch):
    with socket.socket() as found:
        found.bind(("localhost", 0))
        port = found.getsockname()[1]
    names = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    environment(monkeypatch, **names, MASTER_ADDR="localhost")
    monkeypatch.setenv("MASTER_PORT", str(port))
    monkeypatch.setattr("slic.engine.distributed._stop_with_parent", lambda: None)
    refused = pytest.raises(WorkError, match=r"process 0 of 2: .*GLOO_SOCKET_IFNAME")
    with refused, joined(timeout=timedelta(seconds=1)):
        pass
