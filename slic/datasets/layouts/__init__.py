"""Layouts of data sets on disk, one per module: each returns videos with labels and splits."""
