"""The pages of results: the report of a run, the comparison of several, and what a notebook shows; all without torch."""
