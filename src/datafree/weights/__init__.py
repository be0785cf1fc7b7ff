"""Files of weights, which are untrusted: reading them, and matching their tensors with those of a network."""
