"""Synthesizing an image set without training a student, and continuing it after a kill."""
