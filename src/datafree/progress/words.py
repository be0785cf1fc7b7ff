"""Durations in words."""


def duration(seconds: float) -> str:
    """Return a duration in words: `90 s`, `9 min`, `2 h 10 min`, `3 days`."""
    if seconds < 119.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    return f"{round(seconds / 86400):,} days"
