"""An encoder applied to a store: embeddings, and the caches that hold them."""
