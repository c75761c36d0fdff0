"""Lets the tests here import the modules beside them, and gives them one material."""

import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory):
    """Videos, a store and a run, for commands that are killed, stopped, or run side by side."""
    from cases import Material

    return Material(tmp_path_factory.mktemp("material"))
