"""Decoding of video files and images, in a child process that may crash or hang."""
