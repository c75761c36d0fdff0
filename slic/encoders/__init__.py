"""Encoders, which embed clips, and files of their weights."""

from slic.encoders.checkpoints import load_encoder
from slic.encoders.encoder import new_encoder

__all__ = ["load_encoder", "new_encoder"]
