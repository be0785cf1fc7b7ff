"""The table of quantisation: networks in integers, calibrated on nothing, random pixels, synthesized and real images."""
