"""How good a student is, without data: stability-weighted agreement with its teacher on synthesized images."""
