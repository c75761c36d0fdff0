"""How settings are declared, and the page and the options that are generated from them."""

import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from slic.commands.setting_options import with_setting_options
from slic.config import Settings, Switch, in_panels, setting
from slic.train.slic_settings import SlicSettings

ROOT = Path(__file__).parents[2]


def test_every_setting_stands_in_one_panel_and_has_help():
    listed = [each.name for panel in in_panels(SlicSettings).values() for each in panel]
    assert sorted(listed) == sorted(each.name for each in fields(SlicSettings))
    for each in fields(SlicSettings):
        assert each.metadata["help"].endswith(".")


def test_the_page_of_settings_is_current():
    made = subprocess.run(
        [sys.executable, "scripts/settings_page"], cwd=ROOT, capture_output=True, check=True
    )
    assert made.stdout.decode() == (ROOT / "docs" / "settings.md").read_text(encoding="utf-8"), (
        "run `python scripts/settings_page > docs/settings.md`"
    )


@dataclass(frozen=True, kw_only=True)
class Toy(Settings):
    method: ClassVar[str] = "toy"

    queue_length: int = setting(64, help="Length of the queue.", option=True, at_least=1)
    share: float = setting(
        0.5, help="Share.", switch=Switch("--no-share", 0.0, "None."), at_least=0, at_most=1
    )
    hidden: int = setting(3, help="Only for --set.")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Run a command whose options are generated; gives exit code and what it received."""
    received: dict[str, Any] = {}
    app = typer.Typer()

    @app.command()
    @with_setting_options(Toy)
    def train(store: str = "x", seed: str = "own", **settings: Any) -> None:
        received.update(store=store, seed=seed, settings=settings)

    def invoke(*words: str) -> tuple[int, dict[str, Any]]:
        return CliRunner().invoke(app, list(words)).exit_code, received

    return invoke


def test_only_what_is_given_is_passed_on(run):
    assert run() == (0, {"store": "x", "seed": "own", "settings": {}})


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--queue-length", "7"], {"queue_length": 7}),
        (["--no-share"], {"share": 0.0}),
        (
            ["--encoder", "s3d", "--lr-warmup-epochs", "0"],
            {"encoder": "s3d", "lr_warmup_epochs": 0},
        ),
        (["--split", "2"], {"split": 2}),
    ],
)
def test_an_option_or_switch_sets_its_setting(run, words, settings):
    assert run(*words)[1]["settings"] == settings


def test_an_option_of_the_commands_own_takes_precedence(run):
    assert run("--seed", "any text") == (0, {"store": "x", "seed": "any text", "settings": {}})


@pytest.mark.parametrize(
    "words",
    [["--queue-length", "0"], ["--queue-length", "x"], ["--hidden", "4"], ["--encoder", "vgg"]],
)
def test_what_the_setting_does_not_allow_is_refused(run, words):
    assert run(*words) == (2, {})
