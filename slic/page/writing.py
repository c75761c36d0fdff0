"""The page as one file: markup, style, program, data and pictures; nothing is fetched."""

import base64
import hashlib
import html
import io
import json
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from slic.runtime.disk import atomic_write

# In the order in which they are put together: what is used stands before what uses it.
SCRIPTS = (
    "base.js",
    "pictures.js",
    "charts.js",
    "summary.js",
    "gallery.js",
    "clusters.js",
    "changes.js",
    "confusion.js",
    "map.js",
    "main.js",
)
STYLES = ("style.css", "parts.css")
PAGES = (".html", ".htm")
LARGEST = 25_000_000  # bytes of a page
SPARE = 200_000  # of them: elements around the pictures, and remarks on them

Report = Mapping[str, Any]


def write_page(path: Path, report: Report, images: Mapping[str, bytes]) -> int:
    """Write a report or the answer to a search as one HTML file, whole or not at all.

    The file asks for nothing outside itself, and its own policy (Content-Security-Policy)
    forbids it to: whatever stands in names of videos is shown and never run.

    Args:
        path: the file.
        report: the sections, of what JSON can hold; docs/report.md lists them. Texts are raw.
        images: WebP by name: sheets of stills `s<number>`, strips of frames `m<row>`.

    Returns:
        Bytes written.

    Raises:
        ValueError: a number of the report is NaN or infinite.
        DiskError: the file system refuses; what was there before stays.
    """
    content = "".join(_parts(report, images)).encode()
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def room_for_images(report: Report) -> int:
    """Bytes of images with which the page of a report stays below 25 MB; 0 if none do."""
    text = sum(len(part.encode()) for part in _parts(report, {}))
    return max(0, LARGEST - SPARE - text) * 3 // 4  # base64 takes four bytes for three


def _parts(report: Report, images: Mapping[str, bytes]) -> Iterator[str]:
    style = "".join(_asset(name) for name in STYLES)
    script = _script()
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:;"
        f" style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    head = _asset("page.html").replace("POLICY", policy)
    head = head.replace("TITLE", html.escape(_shown_title(report)))
    before, after = head.split("<!-- style -->")
    yield f"{before}<style>{style}</style>{after}"
    yield f'<script type="application/json" id="report">{_json(report)}</script>\n'
    # The program runs before the pictures are read: what it draws first needs none.
    yield f"<script>{script}</script>\n"
    for name, data in images.items():
        text = base64.b64encode(data).decode()
        yield f'<script type="text/plain" id="image-{html.escape(name)}">{text}</script>\n'
    yield "</body>\n</html>\n"


def _shown_title(report: Report) -> str:
    """The title of the page, on one line."""
    title = " ".join(str(report.get("title", "")).split()) or "slic"
    # A folder's name need not be UTF-8.
    return title.encode(errors="replace").decode()


def _script() -> str:
    text = io.StringIO()
    text.write('"use strict";\n{\n')
    for name in SCRIPTS:
        text.write(_asset(name))
    text.write("}\n")
    return text.getvalue()


def _asset(name: str) -> str:
    return resources.files("slic.page").joinpath("assets", name).read_text(encoding="utf-8")


def _json(report: Report) -> str:
    """JSON that cannot end the element it stands in, nor hold what a browser takes for markup."""
    text = json.dumps(report, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
