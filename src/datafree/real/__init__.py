"""Real images: the only room that opens them. Methods and applications cannot import it."""
