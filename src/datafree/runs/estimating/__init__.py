"""The estimate of a run's student, where there are no labelled images to evaluate it on."""
