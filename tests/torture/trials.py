"""What a campaign is made of: trials with names, each of which survives or fails for a stated reason."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datafree.commands.main import main
from torture.forks import Outcome, fork

Check = Callable[[Path], str]
"""does a trial in an empty folder; returns the reason why it failed, or nothing"""


@dataclass(frozen=True)
class Trial:
    """One attempt to break something."""

    family: str
    name: str
    check: Check

    def run(self, folder: Path) -> str:
        """Do it in a new folder, which is removed if nothing went wrong; return the reason of the failure, or nothing."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            failure = self.check(folder)
        except Exception as fault:
            failure = f"the trial itself raised {type(fault).__name__}: {fault}"
        if not failure:
            shutil.rmtree(folder, ignore_errors=True)
        return failure


def command(words: Sequence[str], **settings: object) -> Outcome:
    """The command line, in a fork."""
    return fork(lambda: main(list(words)), **settings)  # type: ignore[arg-type]


def clean(outcome: Outcome, *codes: int) -> str:
    """Why an outcome is not acceptable: a traceback, a hang, a signal, an exit code that is not among these."""
    if outcome.timed_out:
        return f"hung for {outcome.seconds:.0f} s"
    if outcome.traceback:
        return f"traceback: {outcome.output.strip().splitlines()[-1] if outcome.output.strip() else ''}"
    if outcome.code not in codes:
        return f"exit code {outcome.code}: {outcome.output.strip()[-300:]}"
    return ""


def student_hash(run: Path) -> str:
    """The hash that a finished run states for its student."""
    return json.loads((run / "summary.json").read_text())["student_sha256"]


def leftovers(folder: Path) -> Iterator[Path]:
    """Temporary files that a finished run should not leave."""
    for root, folders, files in os.walk(folder):
        yield from (Path(root, name) for name in (*folders, *files) if name.startswith(".tmp-"))
