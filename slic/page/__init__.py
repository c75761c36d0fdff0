"""HTML pages of reports and search results: data and pictures in, one file out."""

from slic.page.writing import PAGES, check_target, room_for_images, write_page

__all__ = ["PAGES", "check_target", "room_for_images", "write_page"]
