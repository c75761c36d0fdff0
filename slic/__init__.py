"""Video representations without labels: prepare, pretrain by iterative clustering, search."""

__version__ = "0.1.0"
