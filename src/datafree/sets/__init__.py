"""Synthesized images that are kept on disk."""
