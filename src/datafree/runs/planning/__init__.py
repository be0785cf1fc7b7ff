"""Deciding a run before it starts: which method, how many steps, and what it costs."""
