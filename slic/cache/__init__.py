"""File formats of clip stores, embedding caches and clusterings."""

from slic.cache.clipstore import ClipStore, View
from slic.cache.embeddings import EmbeddingCache
from slic.cache.entries import Entry, video_key
from slic.cache.flow_levels import dequantise, quantise
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
