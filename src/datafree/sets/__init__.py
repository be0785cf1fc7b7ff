"""Image sets: synthesized images saved to disk, to train on, inspect or share."""
