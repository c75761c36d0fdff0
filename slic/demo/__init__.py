"""The demo, and the generator of its videos."""
