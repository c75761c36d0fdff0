"""`slic search`: the videos of a store, or the places in them, most like a query."""

from slic.search.search import search

__all__ = ["search"]
