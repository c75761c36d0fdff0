"""Files of rates, and what is assumed of GPUs that are not here."""

import json
from pathlib import Path
from typing import Any

import pytest

from slic.errors import SettingsError
from slic.upkeep.cost.rates import GPUS, Rate, assumed_gpu, assumed_here, read_rates, write_rates

GOOD = {"value": 3.5, "how": "measured", "source": "a rack"}


def test_rates_come_back_from_their_file(tmp_path: Path) -> None:
    rates = {"decode": Rate(12.5, "measured", "here"), **assumed_here()}
    write_rates(tmp_path / "rates.json", rates, about={"cores": 2})
    assert read_rates(tmp_path / "rates.json").rates == rates
    assert [path.name for path in tmp_path.iterdir()] == ["rates.json"]


def test_assumed_is_never_told_as_measured() -> None:
    told = [rate for name in GPUS for rate in assumed_gpu(name).values()]
    assert {rate.how for rate in [*told, *assumed_here().values()]} == {"assumed"}
    assert all(rate.source for rate in told)


def test_a_gpu_of_no_known_kind_is_refused() -> None:
    with pytest.raises(SettingsError, match="a100, h100, h200"):
        assumed_gpu("z900\n")


@pytest.mark.parametrize(
    ("told", "word"),
    [
        ({**GOOD, "value": 0}, "value"),
        ({**GOOD, "value": -1.0}, "value"),
        ({**GOOD, "value": 5e-324}, "value"),  # by which anything takes infinitely long
        ({**GOOD, "value": float("nan")}, "value"),
        ({**GOOD, "value": float("inf")}, "value"),
        ({**GOOD, "value": True}, "value"),
        ({**GOOD, "value": "fast"}, "value"),
        ({**GOOD, "value": 10**400}, "value"),
        ({**GOOD, "how": "guessed"}, "how"),
        ({**GOOD, "how": []}, "how"),
        ({**GOOD, "source": "two\nlines"}, "source"),
        ({**GOOD, "source": "x" * 1000}, "source"),
        ({"value": 1.0, "source": 3}, "source"),
        (3.5, "value"),
    ],
)
def test_an_impossible_rate_is_refused_by_name(tmp_path: Path, told: Any, word: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"format": 1, "rates": {"decode": told}}))
    with pytest.raises(SettingsError, match="decode") as error:
        read_rates(file)
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_more_than_all_lists_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rates.json"
    file.write_text(json.dumps({"format": 1, "rates": {"lists": GOOD}}))
    with pytest.raises(SettingsError, match="share"):
        read_rates(file)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        "{}",
        '{"rates": []}',
        '{"rates": {}}',
        '{"format": 2, "rates": {}}',
        '{"format": 1, "rates": {"<script>": 1}}',
        "[" * 100_000,
        "9" * 5000,
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rates.json"
    file.write_text(content)
    with pytest.raises(SettingsError, match=r"rates\.json") as error:
        read_rates(file)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such"):
        read_rates(tmp_path / "no such")


def test_a_value_is_enough(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"format": 1, "rates": {"disk": {"value": 7e9}}}')
    given = read_rates(tmp_path / "mine.json")
    assert (given.rates["disk"].value, given.rates["disk"].how) == (7e9, "measured")
    assert given.cores is None


@pytest.mark.parametrize("cores", [0, -2, 2.5, True, "many", []])
def test_impossible_cores(tmp_path: Path, cores: Any) -> None:
    content = {"format": 1, "rates": {}, "cores": cores}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    with pytest.raises(SettingsError, match="cores"):
        read_rates(tmp_path / "mine.json")
