"""Nearest neighbours by cosine: exact, by an index, on a GPU; and the index that is kept."""
