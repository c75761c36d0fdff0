"""Nearest neighbours by cosine similarity: exact, or by an IVF index, which can be saved."""
