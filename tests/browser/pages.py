"""Pages opened from their files in headless Chromium, with all that they say and ask for noted."""

from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
# A fresh Chromium asks its maker's servers for this and that; here there is no network.
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DRAWN = "html[data-drawn]"


@dataclass
class Opened:
    """A page, and what went on in it.

    Attributes:
        page: Playwright's.
        address: of its file.
        problems: errors and warnings of the console, and exceptions.
        requests: addresses asked for, but for what the file itself holds.
    """

    page: Page
    address: str
    problems: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def listen(one: Opened) -> None:
    """Note what a page complains of and asks for."""

    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            one.problems.append(message.text)

    def asked(request: Any) -> None:
        if not request.url.startswith(("data:", "blob:")):
            one.requests.append(request.url)

    one.page.on("console", said)
    one.page.on("pageerror", lambda error: one.problems.append(str(error)))
    one.page.on("request", asked)
