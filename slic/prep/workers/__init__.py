"""Executors of `slic prep`: processes of this machine, or the workers of a Dask cluster."""
