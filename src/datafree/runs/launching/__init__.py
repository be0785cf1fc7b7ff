"""The processes of a run: how they are started, what they agree on, and what happens if one is lost."""
