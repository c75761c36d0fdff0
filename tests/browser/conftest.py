"""Chromium for the tests, and pages opened in it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

from pages import DRAWN, NAMES, QUIET, Opened, listen  # noqa: E402


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Headless Chromium of the system.

    It ends with the module: Playwright's event loop would be in the way of other tests.

    Without one the tests are skipped, which pytest's summary says; with SLIC_BROWSER=required
    they fail.
    """
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        missing = "no Chromium here: apt-get install chromium (Debian), or see docs/report.md"
        assert os.environ.get("SLIC_BROWSER") != "required", missing
        pytest.skip(missing)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Browser) -> Iterator[Callable[..., Opened]]:
    """Open a file: `opened(path, color_scheme="dark", ...)`, drawn to its end.

    After the test no page may have complained, nor asked for anything but its own file.
    """
    contexts, pages = [], []

    def open_page(path: Path, *, wait: bool = True, **options: Any) -> Opened:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        one = Opened(context.new_page(), path.as_uri())
        pages.append(one)
        listen(one)
        one.page.goto(one.address)
        if wait:
            one.page.wait_for_selector(DRAWN, state="attached")
        return one

    yield open_page
    for one, context in zip(pages, contexts, strict=True):
        context.close()
        assert one.problems == []
        assert set(one.requests) == {one.address}
