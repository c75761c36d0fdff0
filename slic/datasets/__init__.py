"""Data sets: from a folder, list or csv to videos with id, path, label, splits and group."""
