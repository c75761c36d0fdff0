"""`slic doctor`: packages that are missing, broken, or kill their process; GPUs; the machine."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slic.neighbours.lists import APPROXIMATE_FROM
from slic.upkeep.doctor import doctor as doctors
from slic.upkeep.doctor.doctor import PACKAGES, TRIALS, TRITON, doctor
from slic.upkeep.doctor.machine import LOCKS_WORK, NOT_WRITABLE, locks, machine
from slic.upkeep.doctor.probing import Answer, probe

PROJECT = Path(__file__).parents[3] / "pyproject.toml"
GOOD_GPU = {"name": "GPU A", "memory": 80 << 30, "problem": None}


def fake(folder: Path, **packages: str) -> None:
    for name, code in packages.items():
        (folder / f"{name}.py").write_text(code)


def test_broken_packages_are_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(
        tmp_path,
        raises="raise ImportError('libfoo.so.1: no such file\\nmore')",
        leaves="import sys\nsys.exit(3)",
        ends="import os\nos._exit(3)",
        killed="import os\nos.kill(os.getpid(), 11)",
        hangs="import time\ntime.sleep(100)",
        chatters="print('x' * 100_000)\nimport sys\nprint('{}', file=sys.stderr)",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    names = ["raises", "leaves", "ends", "json", "killed", "hangs", "chatters", "not_there"]
    steps: list[float] = []
    found = probe(
        [f"import {name}" for name in names],
        limit_s=5,
        advance=lambda count, _: steps.append(count),
    )
    errors = {name: found[f"import {name}"].error for name in names}
    assert errors == {
        "raises": "ImportError: libfoo.so.1: no such file",
        "leaves": "SystemExit: 3",
        "ends": "ended its process (exit code 3)",
        "json": None,
        "killed": "killed its process (SIGSEGV)",
        "hangs": "no answer in 5 s",
        "chatters": None,
        "not_there": "ModuleNotFoundError: No module named 'not_there'",
    }
    assert sum(steps) == len(names)


def test_a_file_here_named_like_a_package_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake(tmp_path, numpy="raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    assert probe(["import numpy"], advance=lambda *_: None)["import numpy"].error is None


def test_here_all_works(slic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = slic("doctor", "--json")
    found = json.loads(out)
    broken = [problem for problem in found["problems"] if problem["needed"]]
    assert (code, broken, found["ok"]) == (0, [], True)
    assert found["packages"]["torch"]
    assert found["trials"]["decoding"]["frames"] == 12
    assert found["trials"]["flow"]["error_px"] < 0.25
    assert found["machine"]["locks"] == LOCKS_WORK
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("package", "name"), [("numpy", "numpy"), ("cv2", "opencv-contrib-python-headless")]
)
def test_a_package_that_others_need_is_broken(tmp_path: Path, package: str, name: str) -> None:
    fake(tmp_path, **{package: "raise ImportError('no ABI for this')"})
    done = subprocess.run(
        [sys.executable, "-m", "slic.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    problems = json.loads(done.stdout)["problems"]
    # The many that import it are not told of as well.
    [mine] = [problem for problem in problems if "no ABI" in problem["what"]]
    assert mine["needed"]
    assert mine["todo"] == f"pip install --force-reinstall {name}"


def test_every_dependency_is_looked_at() -> None:
    project = tomllib.loads(PROJECT.read_text())["project"]
    declared = {re.split(r"[>=;\s]", line)[0] for line in project["dependencies"]}
    known = {name for names in PACKAGES.values() for name in names}
    assert declared <= known


def well(**changed: Answer) -> dict[str, Answer]:
    answers = {f"import {name}": Answer() for name in (*PACKAGES, TRITON)}
    answers |= {
        "gpu": Answer({"built_for": "13.0", "available": False, "said": None, "gpus": []}),
        "training": Answer({"device": "cpu", "precision": "fp32", "preset": "cpu-small"}),
        "engine": Answer({"engine": "cpu", "device": "cpu"}),
        "decoding": Answer({"frames": 12, "seconds": 0.1}),
        "flow": Answer({"error_px": 0.01, "seconds": 0.1}),
    }
    return answers | {name.replace("_", " "): answer for name, answer in changed.items()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """`doctor` where the probes answer so, on a machine like this."""

    def tell(
        answers: dict[str, Answer], driver: str | None = None, **of_machine: Any
    ) -> dict[str, Any]:
        usual = {
            "cores": 2,
            "memory": 1 << 34,
            "memory_free": 1 << 33,
            "disk_free": 1 << 40,
            "shm_free": 1 << 33,
            "open_files": 4096,
            "locks": LOCKS_WORK,
        }
        monkeypatch.setattr(doctors, "probe", lambda *_, **__: answers)
        monkeypatch.setattr(doctors, "_driver", lambda: driver)
        monkeypatch.setattr(doctors, "machine", lambda: usual | of_machine)
        return doctor()

    return tell


def test_how_neighbours_are_found_is_told(told: Callable[..., dict[str, Any]]) -> None:
    on_cpu = told(well())["neighbours"]
    assert f"exact, from {APPROXIMATE_FROM:,} rows" in on_cpu
    assert "GPU" not in on_cpu
    assert "GPU" in told(well(gpu=Answer(GPU)))["neighbours"]
    assert told(well(import_faiss=Answer(error="ImportError: no")))["neighbours"] is None


def test_a_machine_without_a_gpu_lacks_nothing(told) -> None:
    found = told(well(import_triton=Answer(error="ModuleNotFoundError: no triton")))
    assert (found["problems"], found["ok"]) == ([], True)


GPU = {"built_for": "13.0", "available": True, "said": None, "gpus": [GOOD_GPU]}
IDLE = {"built_for": "13.0", "available": False, "said": "driver too old", "gpus": []}
BROKEN_GPU = {**GPU, "gpus": [{**GOOD_GPU, "problem": "RuntimeError: no kernel image"}]}
AMISS = {
    "no CUDA in PyTorch": (well(gpu=Answer({**IDLE, "built_for": None})), "550", "idle", True),
    "old driver": (well(gpu=Answer(IDLE)), "470.1", "470.1", True),
    "no Triton beside a GPU": (
        well(gpu=Answer(GPU), import_triton=Answer(error="x")),
        "580",
        "Triton",
        True,
    ),
    "a GPU that fails": (well(gpu=Answer(BROKEN_GPU)), "580", "no kernel image", False),
    "GPUs that hang": (well(gpu=Answer(error="no answer in 9 s")), "580", "no answer", False),
    "PyTorch does not import": (well(import_torch=Answer(error="x: y")), None, "torch", False),
    "flow fails": (well(flow=Answer(error="ValueError: 3 px off")), None, "3 px off", False),
    "decoding fails": (well(decoding=Answer(error="DecodeError: crashed")), None, "crash", False),
}


@pytest.mark.parametrize("case", AMISS)
def test_what_is_amiss_is_one_line_each(told, case: str) -> None:
    answers, driver, names, ok = AMISS[case]
    found = told(answers, driver)
    [problem] = found["problems"]
    assert names in problem["what"]
    assert problem["todo"]
    assert "\n" not in problem["what"] + problem["todo"]
    assert found["ok"] is ok
    assert problem["needed"] is not ok


def test_a_gpu_that_works_is_named(told) -> None:
    found = told(well(gpu=Answer(GPU)), "580.1")
    assert found["problems"] == []
    assert found["gpus"][0]["name"] == "GPU A"


def test_a_package_that_is_not_installed_or_too_old(told, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"numpy": "1.26.4", "torch": "2.15.0+cu130"}
    monkeypatch.setattr(doctors, "_version", lambda names: versions.get(names[0]))
    monkeypatch.setattr(doctors, "_least_versions", lambda: {"numpy": "2.0", "torch": "2.10"})
    found = told(well(import_av=Answer(error="ModuleNotFoundError: No module named 'av'")))
    lines = [(problem["what"], problem["todo"]) for problem in found["problems"]]
    assert lines == [
        ("numpy 1.26.4 is older than 2.0", "pip install --upgrade 'numpy>=2.0'"),
        ("av is missing", "pip install av"),
    ]
    assert found["packages"]["av"] is None


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("disk_free", 1 << 20, "1 MiB"),
        ("shm_free", 64 << 20, "/dev/shm"),
        ("open_files", 256, "256"),
        ("locks", "do not work", "lock"),
        ("locks", NOT_WRITABLE, "writable"),
    ],
)
def test_a_machine_that_is_short_of_something(told, key: str, value: object, names: str) -> None:
    found = told(well(), **{key: value})
    [problem] = found["problems"]
    assert names in problem["what"]
    assert found["ok"]


def test_an_unknown_machine_is_no_problem(slic, told, monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = dict.fromkeys(machine())
    result = told(well(), **{**unknown, "cores": 1})
    assert result["problems"] == []
    code, out, err = slic("doctor")
    assert (code, err) == (0, "")
    assert "unknown" in out


def test_the_table_fits_80_columns_and_ends_with_what_to_do(
    slic, told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    told(well(import_av=Answer(error="ImportError: " + "[bold] 🎥 " * 30)))
    code, out, _ = slic("doctor")
    assert code == 1
    assert max(map(len, out.splitlines())) <= 80
    assert "pip install" in out.split("broken:")[-1]
    assert "[bold]" in out


def test_locks(tmp_path: Path) -> None:
    assert locks(tmp_path) == LOCKS_WORK
    assert locks(tmp_path / "missing") == NOT_WRITABLE
    assert list(tmp_path.iterdir()) == []


def test_every_trial_is_known() -> None:
    from slic.upkeep.doctor.probes import PROBES

    assert set(TRIALS) == PROBES.keys()
