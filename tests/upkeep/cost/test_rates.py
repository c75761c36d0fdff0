"""Files of rates, and the rates that are assumed."""

import json
from pathlib import Path
from typing import Any

import pytest

from slic.errors import SettingsError
from slic.upkeep.cost.rates import TABLES, UNITS, Rate, assumed, read_rates, write_rates


def written(path: Path, **content: Any) -> Path:
    path.write_text(json.dumps({"format": 1, "rates": {}, **content}))
    return path


def test_rates_survive_their_file(tmp_path: Path) -> None:
    rates = {"decode": Rate(12.5, "measured", "here"), **assumed("h100")}
    write_rates(tmp_path / "rates.json", rates, about={"cores": 2})
    assert read_rates(tmp_path / "rates.json") == (rates, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_the_measured_rates_of_the_benchmark_can_be_read() -> None:
    file = Path(__file__).parents[3] / "benchmarks/results/rates-epyc.json"
    assert read_rates(file)[0]["flow_cpu"].how == "measured"


def test_assumptions_are_marked_and_explained() -> None:
    for gpu in TABLES["gpus"]:
        rates = assumed(gpu)
        assert rates.keys() >= {"compute_gpu", "flow_gpu", "disk"}
        assert rates.keys() <= UNITS.keys()
        assert all(rate.how == "assumed" and rate.source for rate in rates.values())


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(SettingsError, match="a100, h100, h200"):
        assumed("z900\n")


@pytest.mark.parametrize("value", [0, -1.0, 5e-324, float("nan"), float("inf"), "fast", None, []])
def test_an_impossible_rate_is_refused_by_name(tmp_path: Path, value: Any) -> None:
    file = written(tmp_path / "rates.json", rates={"decode": {"value": value}})
    with pytest.raises(SettingsError, match=r"rates\.json: decode: .*above 0"):
        read_rates(file)


@pytest.mark.parametrize("rates", [{"lists": {"value": 3.5}}, {"decode": 3.5}, {"<b>\n": {}}])
def test_other_impossible_rates(tmp_path: Path, rates: Any) -> None:
    with pytest.raises(SettingsError, match=r"^[^\n]*$"):
        read_rates(written(tmp_path / "rates.json", rates=rates))


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"rates": []}', '{"rates": {}}', '{"format": 2, "rates": {}}', "[" * 100_000],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"rates\.json: not a file of rates"):
        read_rates(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        read_rates(tmp_path / "missing.json")


def test_a_value_is_enough(tmp_path: Path) -> None:
    rates, cores = read_rates(written(tmp_path / "mine.json", rates={"disk": {"value": 7e9}}))
    assert (rates["disk"].value, rates["disk"].how) == (7e9, "measured")
    assert cores is None
