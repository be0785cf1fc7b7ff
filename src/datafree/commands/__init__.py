"""The command line: one function per command, imported when it is called."""

import os
import time

STARTED = time.monotonic()
"""when the command started: this is imported first"""
PROCESS = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")))
"""number of this process among those of a run; the first one prints"""
