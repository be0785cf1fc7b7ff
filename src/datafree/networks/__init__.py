"""Architectures, and operations on the layers of a network."""
