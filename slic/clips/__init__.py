"""Clips: choose, read and augment them, and normalise their pixels."""

from slic.encoders.encoder import normalise

__all__ = ["normalise"]
