"""The command line with a race of three tiny methods, for tests with several processes.

The environment may ask one process to send itself a signal in the second trial, after a checkpoint: `SMALL_RACE_SIGNAL` is its
number.
"""

import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import toys

from datafree.commands.main import main
from datafree.runs.launching.racing import TrialLogger
from datafree.runs.planning import deciding
from datafree.runs.planning.auto import Recipe
from datafree.runs.planning.timing import SynthesisTime
from datafree.types import Terms

NAMES = ("noise", "deep-inversion", "procedural")


def signalled(self: TrialLogger, step: int, terms: Terms, log: Any = TrialLogger.log) -> None:
    """Log a step; at the third one of the second trial, the last process gets the signal."""
    log(self, step, terms)
    assert self.together is not None
    if self.together.path.name == NAMES[1] and step == 3:
        self.save()
        if self.together.rank == self.together.count - 1:
            os.kill(os.getpid(), int(os.environ["SMALL_RACE_SIGNAL"]))


if __name__ == "__main__":
    recipes = [Recipe(name, toys.TINY[name], "") for name in NAMES]
    settings: dict[str, Any] = {
        "race_of": lambda *_: recipes,
        "RACE_IMAGES": 16,
        "time_student": lambda *_: 0.01,
        "time_synthesis": lambda *_: SynthesisTime(0.01),
    }
    for name, value in settings.items():
        setattr(deciding, name, value)
    if "SMALL_RACE_SIGNAL" in os.environ:
        TrialLogger.log = signalled  # type: ignore[method-assign]
    sys.exit(main())
