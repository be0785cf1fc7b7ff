"""One quantisation from a network to a folder: its images, the file, the controls, and the card."""
