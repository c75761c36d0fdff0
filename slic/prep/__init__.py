"""Frames and optical flow of a data set, stored once: `slic prep`."""
