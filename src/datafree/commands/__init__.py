"""The command line: one function per command, imported when it is called."""

import time

STARTED = time.monotonic()
"""when the command started: this is imported first"""
