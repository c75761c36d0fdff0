"""Where the jobs of `slic prep` run: processes here, or the workers of a Dask cluster."""
