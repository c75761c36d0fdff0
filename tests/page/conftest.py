"""Stores and caches of any content, as the parts of a report have them."""

from tests.report.conftest import cache_of, store_of

__all__ = ["cache_of", "store_of"]
