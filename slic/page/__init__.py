"""One self-contained HTML page of what a run has learnt: data and pictures in, a file out."""

from slic.page.writing import write_page

__all__ = ["write_page"]
