"""Clips: choose, read and augment them, and normalise their pixels."""

from slic.clips.pixels import normalise

__all__ = ["normalise"]
