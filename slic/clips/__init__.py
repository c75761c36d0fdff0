"""Clips: which frames, read by a pool of processes, augmented and seeded."""

from slic.clips.pixels import normalise

__all__ = ["normalise"]
