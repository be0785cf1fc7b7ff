"""Generators, and what the methods that train one share."""
