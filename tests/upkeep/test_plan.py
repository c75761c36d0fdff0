"""`slic plan` on drawn video, stores, known sets, and what it refuses."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from slic.errors import InputError
from slic.upkeep.cost import measure
from slic.upkeep.cost.rates import UNITS, Rate, write_rates
from slic.upkeep.plan import Scenario, plan

STAGES = ["frames", "flow", "train", "embed", "cluster", "evaluate"]
SMALL = ("--preset", "cpu-small", "--gpus", "0")


@pytest.fixture
def rates(tmp_path: Path) -> str:
    """A file of all rates, so that nothing is measured."""
    values = dict.fromkeys(UNITS, 1e6) | {"video": 0.01, "start": 0.01, "lists": 0.5}
    file = tmp_path / "rates.json"
    told = {name: Rate(value, "measured", "a rack") for name, value in values.items()}
    write_rates(file, told, about={})
    return str(file)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make measurements small."""
    monkeypatch.setattr(measure, "FLOW_SIZE", (32, 32))
    monkeypatch.setattr(measure, "STEP_FLOPS", {"cpu": 1e9})


def files_below(folder: Path) -> list[str]:
    return sorted(
        os.path.join(where, name) for where, _, names in os.walk(folder) for name in names
    )


@pytest.mark.usefixtures("briefly")
def test_a_folder_is_measured_and_nothing_is_written(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slic: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    before = files_below(drawn.parent)
    code, out, err = slic("plan", str(drawn), *SMALL, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert files_below(drawn.parent) == before
    assert files_below(tmp_path) == []
    assert [stage["name"] for stage in result["stages"]] == STAGES
    data = result["data"]
    assert (data["videos"], data["labelled"]) == (24, True)
    # All its videos are alike: 20 frames of 64x48.
    assert abs(data["frames"] - 480) < 25
    assert data["pixels"] == pytest.approx(64 * 48)
    assert data["train"] + data["test"] == 24
    measured = {n for n, rate in result["rates"].items() if rate["how"] == "measured"}
    assert measured == {"decode", "flow_cpu", "compute_cpu"}
    assert all(stage["seconds"] > 0 for stage in result["stages"])
    assert result["totals"]["gpu_hours"] == 0


def test_a_store_has_its_frames_and_flow(drawn_store: Path, rates: str) -> None:
    result = plan(Scenario(dataset=str(drawn_store), gpus=0, rates=rates), say=str)
    by_name = {stage["name"]: stage for stage in result["stages"]}
    assert result["data"]["frames"] == 480
    assert by_name["frames"]["amount"] == by_name["flow"]["amount"] == 0
    assert by_name["frames"]["seconds"] == by_name["flow"]["seconds"] == 0
    held = sum(f.stat().st_size for f in (drawn_store / "frames").glob("*-*/*"))
    assert result["data"]["frame_bytes"] * 480 == pytest.approx(held, rel=0.1)


def test_amounts_by_hand(rates: str) -> None:
    asked = Scenario(
        dataset="ucf101", preset="ucf101-16f", gpus=2, gpu="h200", cores=8, rates=rates
    )
    result = plan(asked, say=str)
    by_name = {stage["name"]: stage for stage in result["stages"]}
    assert by_name["frames"]["amount"] == 13_320 * 187
    assert by_name["flow"]["amount"] == 13_320 * 186
    assert by_name["train"]["amount"] == 600 * 9_537 * 3
    assert by_name["embed"]["amount"] == 121 * 13_320
    assert by_name["evaluate"]["amount"] == 10 * 13_320
    assert result["files"] == 4 * 13_320
    assert result["first"]["stage"] == "train"
    gpus = by_name["train"]["by"]["GPU"]
    assert gpus == pytest.approx(600 * 9_537 * 9 * 111.24e9 / 1e6 / 2, rel=1e-3)


def test_rates_of_a_gpu_elsewhere_are_assumed(rates: str, slic: Any) -> None:
    held = json.loads(Path(rates).read_text())
    del held["rates"]["compute_gpu"], held["rates"]["flow_gpu"]
    held["rates"]["read"]["value"] = held["rates"]["disk"]["value"] = 1e15
    Path(rates).write_text(json.dumps(held))
    words = ("plan", "kinetics400", "--gpus", "4", "--gpu", "a100", "--rates", rates)
    result = json.loads(slic(*words, "--json")[1])
    train = next(stage for stage in result["stages"] if stage["name"] == "train")
    assert (train["limit"], train["assumed"]) == ("GPU", True)
    assert "assumed" in slic(*words)[1]


def test_rates_of_any_gpu_may_be_given(rates: str, slic: Any) -> None:
    words = ("plan", "ucf101", "--gpus", "2", "--gpu", "b200", "--rates", rates)
    code, out, err = slic(*words, "--json")
    assert code == 0, err
    assert json.loads(out)["fleet"]["gpu"] == "b200"
    assert "*" not in slic(*words)[1]


def test_cores_default_to_those_of_the_rates(rates: str, tmp_path: Path) -> None:
    content = {**json.loads(Path(rates).read_text()), "cores": 48}
    (tmp_path / "rack.json").write_text(json.dumps(content))
    given = Scenario("kinetics400", gpus=8, rates=str(tmp_path / "rack.json"))
    assert plan(given, say=str)["fleet"]["cores"] == 48
    given = Scenario("kinetics400", gpus=8, cores=3, rates=str(tmp_path / "rack.json"))
    assert plan(given, say=str)["fleet"]["cores"] == 3


def test_a_folder_comes_before_a_known_set(
    drawn: Path, tmp_path: Path, rates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hmdb51").symlink_to(drawn)
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    found = plan(Scenario("hmdb51", preset="cpu-small", gpus=0, rates=rates), say=told.append)
    assert found["data"]["videos"] == 24
    assert any(line.startswith("hmdb51: ") for line in told)


def test_measuring_overwrites_no_other_file(slic: Any, tmp_path: Path) -> None:
    mine = tmp_path / "videos.csv"
    mine.write_text("path,label\n")
    code, _, err = slic("plan", "--measure", str(mine))
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert mine.read_text() == "path,label\n"


def test_the_table_fits_80_columns(rates: str, slic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for words in (
        ("kinetics700", "--gpus", "64", "--machines", "8"),
        ("--videos", "1000000000000", "--seconds", "1000000", "--gpus", "0"),
        ("--videos", "1", "--seconds", "0.01", "--gpus", "0"),
    ):
        code, out, _ = slic("plan", *words, "--rates", rates)
        assert code == 0
        assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("briefly")
@pytest.mark.parametrize("own", [False, True])
def test_rates_are_measured_into_a_file(slic: Any, tmp_path: Path, drawn: Path, own: bool) -> None:
    file, data = tmp_path / "rates.json", [str(drawn)] * own
    code, out, err = slic("plan", *data, "--measure", str(file), "--preset", "cpu-small", "--json")
    assert code == 0, err
    assert json.loads(out)["path"] == str(file)
    assert files_below(tmp_path) == [str(file)]
    source = json.loads(file.read_text())["rates"]["decode"]["source"]
    assert source.startswith("16 videos of" if own else "generated video")
    code, out, err = slic("plan", "ucf101", *SMALL, "--rates", str(file), "--json")
    assert code == 0, err
    assert "measuring" not in err


def test_names_are_no_markup(drawn: Path, tmp_path: Path, rates: str, slic: Any) -> None:
    odd = tmp_path / "[bold]<script>'\"\U0001f3ac\x1b[2J"
    odd.mkdir()
    (odd / "one.avi").symlink_to(next(drawn.glob("UCF-101/*/*.avi")))
    code, out, err = slic("plan", str(odd), *SMALL, "--rates", rates)
    assert code == 0, err
    assert "[bold]<script>" in out
    assert "\x1b" not in out + err


@pytest.mark.usefixtures("briefly")
def test_one_video_of_one_frame(tmp_path: Path, slic: Any) -> None:
    import cv2
    import numpy as np

    (tmp_path / "one" / "video").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "one" / "video" / "img_1.png"), np.zeros((40, 30, 3), np.uint8))
    code, out, err = slic("plan", str(tmp_path / "one"), *SMALL, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["data"]["frames"] == 1
    assert result["data"]["pairs_left"] == 0


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("no such set",),
        ("ucf101", "--videos", "5"),
        ("ucf101", "--gpus", "99999999999"),
        ("ucf101", "--gpus", "0", "--gpu", "h100"),
        ("ucf101", "--gpu", "abacus"),
        ("ucf101", "--machines", "0"),
        ("ucf101", "--preset", "no such"),
        ("ucf101", "--epochs", "0"),
        ("ucf101", "--rates", "no such.json"),
        ("ucf101", "--rates", "a", "--measure", "b"),
        ("--measure", "no such folder/rates.json"),
        ("--videos", "3", "--fps", "inf"),
    ],
)
def test_wrong_usage_is_one_line(
    words: tuple[str, ...], slic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = slic("plan", *words)
    assert code == 2
    assert out == ""
    assert len(err.strip().splitlines()) == 1
    assert files_below(tmp_path) == []


def test_data_without_video_is_refused(tmp_path: Path, rates: str) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "a.avi").write_bytes(b"no video" * 100)
    with pytest.raises(InputError, match="decodes"):
        plan(Scenario(dataset=str(broken), gpus=0, rates=rates), say=str)
