"""Video files and images to frames, in a child process that may crash or hang."""
