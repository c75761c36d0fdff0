"""Files of tensors, written whole or not at all."""

CHECKPOINT_EVERY_S = 600.0  # within an epoch
