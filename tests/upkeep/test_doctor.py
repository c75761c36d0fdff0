"""`slic doctor`: broken packages, GPUs, trials, and the machine."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slic.upkeep import doctor as doctors
from slic.upkeep.doctor import LOCKS_WORK, NO_LOCKS, NOT_WRITABLE, doctor, locks, requirements
from slic.upkeep.trials import TRIALS, Answer, run_trials

Tell = Callable[..., dict[str, Any]]


def test_broken_packages_are_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {
        "raises": "raise ImportError('libfoo.so.1: no such file\nmore')",
        "leaves": "import sys\nsys.exit(3)",
        "ends": "import os\nos._exit(3)",
        "killed": "import os\nos.kill(os.getpid(), 11)",
        "hangs": "import time\ntime.sleep(100)",
        "chatters": "print('x' * 100_000)\nimport sys\nprint('{}', file=sys.stderr)",
    }
    for name, code in packages.items():
        (tmp_path / f"{name}.py").write_text(code.replace("file\nmore", "file\\nmore"))
    # A file in the current folder that is named like a package is not imported.
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(doctors.__file__).parents[2]}")
    names = [*packages, "json", "not_there"]
    found = run_trials([f"import {name}" for name in names], limit_s=5)
    assert {name: found[f"import {name}"].error for name in names} == {
        "raises": "ImportError: libfoo.so.1: no such file",
        "leaves": "SystemExit: 3",
        "ends": "ended its process (exit code 3)",
        "json": None,
        "killed": "ended its process (SIGSEGV)",
        "hangs": "no answer in 5 s",
        "chatters": None,
        "not_there": "ModuleNotFoundError: No module named 'not_there'",
    }


@pytest.mark.slow
def test_here_all_works(slic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.slow
def test_a_broken_package_that_others_import_is_the_one_problem(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('no ABI for this')")
    path = f"{tmp_path}:{Path(doctors.__file__).parents[2]}"
    done = subprocess.run(
        [sys.executable, "-m", "slic.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    [problem] = [problem for problem in json.loads(done.stdout)["problems"] if problem["needed"]]
    assert "no ABI" in problem["what"]
    assert problem["todo"] == "pip install --force-reinstall numpy"


def test_trials_work_here() -> None:
    for trial in TRIALS.values():
        assert trial()


def test_the_dependencies_of_this_platform_are_tried() -> None:
    names = requirements().keys()
    assert names >= {"torch", "numpy", "av", "scikit-learn"}
    assert "pytest" not in names
    assert len([name for name in names if name.startswith("faiss")]) == 1


def well(**changed: Answer) -> dict[str, Answer]:
    """Answers of a machine without a GPU on which everything works; `import_x` for `import x`."""
    answers = {f"import {doctors.module_of(name)}": Answer() for name in requirements()}
    answers |= {
        "gpus": Answer({"driver": None, "cuda": "13.0", "warning": None, "gpus": []}),
        "defaults": Answer(
            {
                "training": {"device": "cpu", "precision": "fp32", "preset": "cpu-small"},
                "flow": {"engine": "cpu", "device": "cpu"},
                "neighbours": "faiss",
            }
        ),
        "decoding": Answer({"frames": 12, "seconds": 0.1}),
        "flow": Answer({"error_px": 0.01, "seconds": 0.1}),
    }
    return answers | {name.replace("_", " "): answer for name, answer in changed.items()}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Tell:
    """Run `doctor` where trials give these answers, on a machine like this."""

    def tell(answers: dict[str, Answer], **of_machine: Any) -> dict[str, Any]:
        usual = {
            "cores": 2,
            "memory": 1 << 34,
            "memory_free": 1 << 33,
            "disk_free": 1 << 40,
            "shm_free": 1 << 33,
            "open_files": 4096,
            "locks": LOCKS_WORK,
        }
        monkeypatch.setattr(doctors, "run_trials", lambda *_, **__: answers)
        monkeypatch.setattr(doctors, "machine", lambda: usual | of_machine)
        return doctor()

    return tell


GPU = {"name": "GPU A", "memory": 80 << 30, "problem": None}
WORKS = {"driver": "580.1", "cuda": "13.0", "warning": None, "gpus": [GPU]}
IDLE = {**WORKS, "driver": "470.1", "warning": "driver too old", "gpus": []}
FAILS = {**WORKS, "gpus": [{**GPU, "problem": "RuntimeError: no kernel image"}]}
SLOW = {"flow": {"engine": "torch", "device": "cuda"}}
PROBLEMS = {
    "an idle GPU": (well(gpus=Answer(IDLE)), "470.1", True),
    "no Triton beside a GPU": (
        well(gpus=Answer(WORKS), defaults=Answer(well()["defaults"].value | SLOW)),
        "Triton",
        True,
    ),
    "a GPU that fails": (well(gpus=Answer(FAILS)), "no kernel image", False),
    "GPUs that hang": (well(gpus=Answer(error="no answer in 9 s")), "no answer", False),
    "PyTorch does not import": (well(import_torch=Answer(error="x: y")), "torch", False),
    "flow fails": (well(flow=Answer(error="ValueError: 3 px off")), "3 px off", False),
    "decoding fails": (well(decoding=Answer(error="DecodeError: crashed")), "crash", False),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_is_one_line_with_a_remedy(told: Tell, case: str) -> None:
    answers, words, ok = PROBLEMS[case]
    found = told(answers)
    [problem] = found["problems"]
    assert words in problem["what"]
    assert problem["todo"]
    assert "\n" not in problem["what"] + problem["todo"]
    assert (found["ok"], problem["needed"]) == (ok, not ok)


def test_packages_that_are_missing_old_or_broken(
    told: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"numpy": "1.26.4", "zarr": "9"}
    monkeypatch.setattr(doctors, "_version", versions.get)
    missing = Answer(error="ModuleNotFoundError: No module named 'av'")
    broken = Answer(error="ImportError: no ABI")
    found = told(well(import_av=missing, import_zarr=broken))
    lines = {problem["what"]: problem["todo"] for problem in found["problems"]}
    assert lines == {
        "numpy 1.26.4 is not numpy>=2.0": "pip install 'numpy>=2.0'",
        "av is missing": "pip install 'av>=14'",
        "zarr does not import: ImportError: no ABI": "pip install --force-reinstall zarr",
    }
    # What imports PyTorch fails as well, and is not reported.
    [problem] = told(well(import_torch=broken, import_torchvision=broken))["problems"][1:]
    assert problem["todo"] == "pip install 'torch>=2.10'"
    assert found["packages"]["av"] is None


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("disk_free", 1 << 20, "1 MiB"),
        ("shm_free", 64 << 20, "/dev/shm"),
        ("open_files", 256, "256"),
        ("locks", NO_LOCKS, "lock"),
        ("locks", NOT_WRITABLE, "writable"),
    ],
)
def test_a_machine_that_is_short_of_something(
    told: Tell, key: str, value: object, words: str
) -> None:
    found = told(well(), **{key: value})
    [problem] = found["problems"]
    assert words in problem["what"]
    assert found["ok"]


def test_what_the_system_does_not_say_is_no_problem(slic: Any, told: Tell) -> None:
    unknown = dict.fromkeys(("memory", "memory_free", "disk_free", "shm_free"))
    assert told(well(), **unknown)["problems"] == []
    code, out, err = slic("doctor")
    assert (code, "Traceback" in err) == (0, False)
    assert "unknown" in out


def test_the_table_fits_80_columns_and_ends_with_what_to_do(
    slic: Any, told: Tell, monkeypatch: pytest.MonkeyPatch
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
