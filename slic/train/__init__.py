"""What is trained, and how its clips are sampled: methods, losses, clustering."""
