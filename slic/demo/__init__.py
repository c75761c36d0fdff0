"""The demo, and the video that it draws."""
