"""Several steps from a checkpoint to a file for a device, on images that are made once."""
