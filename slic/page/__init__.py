"""One self-contained HTML page of what a run has learnt: data and pictures in, a file out."""

from slic.page.writing import PAGES, room_for_images, write_page

__all__ = ["PAGES", "room_for_images", "write_page"]
