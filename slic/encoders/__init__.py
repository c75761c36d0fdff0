"""Networks that embed clips, and their weights in files."""

from slic.encoders.checkpoints import load_encoder
from slic.encoders.encoder import new_encoder

__all__ = ["load_encoder", "new_encoder"]
