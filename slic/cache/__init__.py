"""Clip stores and embedding caches."""

from slic.cache.clipstore import ClipStore, View, video_key
from slic.cache.embeddings import EmbeddingCache
from slic.cache.flow_levels import dequantise, quantise
from slic.cache.index import Entry
from slic.cache.shards import Codec

__all__ = [
    "ClipStore",
    "Codec",
    "EmbeddingCache",
    "Entry",
    "View",
    "dequantise",
    "quantise",
    "video_key",
]
