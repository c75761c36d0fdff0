"""Whether what is on disk is what was written, and what to drop so that it is made again."""
