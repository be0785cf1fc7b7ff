"""`datafree quantize` and `compress`."""
