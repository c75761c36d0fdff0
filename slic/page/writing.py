"""Writing a page as one file: markup, style, program, data and pictures; nothing is fetched."""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from slic.errors import InputError
from slic.runtime.disk import atomic_write, check_writable

# In the order in which they are joined: definitions come before their uses.
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
RESERVE = 200_000  # bytes for the elements around the pictures, and remarks on them

Report = Mapping[str, Any]


def check_target(option: str, path: Path, suffixes: Sequence[str] = PAGES) -> Path:
    """Check the file that an option names, before anything is computed for it.

    Raises:
        InputError: it is a folder, or its name ends in none of the suffixes.
        DiskError: the file system refuses.
    """
    if path.is_dir():
        raise InputError(f"{option} {path}: is a folder; give the name of a file")
    if path.suffix.lower() not in suffixes:
        raise InputError(f"{option} {path}: the name must end in {' or '.join(suffixes)}")
    check_writable(path.parent)
    return path


def write_page(path: Path, report: Report, images: Mapping[str, bytes]) -> int:
    """Write a report or the answer to a search as one HTML file, atomically.

    The file requests nothing from outside, and its own Content-Security-Policy forbids it to:
    names of videos are shown as text and never run, whatever they contain.

    Args:
        path: HTML file to write.
        report: JSON-serialisable sections, listed in docs/report.md; texts are not escaped.
        images: WebP images by name: sheets of stills `s<number>`, strips of frames `m<row>`.

    Returns:
        Number of bytes written.

    Raises:
        ValueError: a number in the report is NaN or infinite.
        DiskError: the file system refuses; an existing file stays as it is.
    """
    # The name of a run's folder, the title, need not be UTF-8.
    content = "".join(_parts(report, images)).encode(errors="replace")
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def room_for_images(report: Report) -> int:
    """Return the bytes of images that keep a report's page below 25 MB; 0 if none do."""
    text = sum(len(part) for part in _parts(report, {}))
    return max(0, LARGEST - RESERVE - text) * 3 // 4  # base64 takes four bytes for three


def _parts(report: Report, images: Mapping[str, bytes]) -> Iterator[str]:
    style = "".join(map(_asset, STYLES))
    script = '"use strict";\n{\n' + "".join(map(_asset, SCRIPTS)) + "}\n"
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:;"
        f" style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    title = " ".join(str(report.get("title", "")).split()) or "slic"
    head = _asset("page.html").replace("POLICY", policy).replace("TITLE", html.escape(title))
    before, after = head.split("<!-- style -->")
    yield f"{before}<style>{style}</style>{after}"
    yield f'<script type="application/json" id="report">{_json(report)}</script>\n'
    # The program runs before the browser has read the pictures: what it draws first needs none.
    yield f"<script>{script}</script>\n"
    for name, data in images.items():
        text = base64.b64encode(data).decode()
        yield f'<script type="text/plain" id="image-{html.escape(name)}">{text}</script>\n'
    yield "</body>\n</html>\n"


def _asset(name: str) -> str:
    return resources.files("slic.page").joinpath("assets", name).read_text(encoding="utf-8")


def _json(report: Report) -> str:
    """Return JSON without characters that could end its element or be parsed as markup."""
    text = json.dumps(report, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
