"""`slic search`: the videos of a store, or moments in them, that are most similar to a query."""

from slic.search.search import search

__all__ = ["search"]
