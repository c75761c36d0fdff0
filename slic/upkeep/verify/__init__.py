"""Check and repair stores and runs; list and clean what runs have cached."""
