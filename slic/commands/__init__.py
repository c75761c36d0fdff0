"""The commands of `slic`: options, and what is printed."""
