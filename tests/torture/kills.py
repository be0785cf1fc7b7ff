"""A run is killed at a random instant, at a chosen file operation, or that operation fails; then it goes on."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datafree.commands.main import main
from torture.forks import Outcome, fork
from torture.trials import Trial, clean, command, leftovers, student_hash
from torture.workshop import Workshop

CALLS = ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
"""functions of `os` at which a run is killed or a fault is placed"""
ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)


def random_kills(workshop: Workshop, count: int) -> Iterator[Trial]:
    """SIGKILL at a random instant of a run of each kind in turn."""
    kinds = list(workshop.kinds)
    for number in range(count):
        kind, moment = kinds[number % len(kinds)], random.Random(f"kill {number}").uniform(0.02, 0.98)

        def check(folder: Path, kind: str = kind, moment: float = moment) -> str:
            _, seconds = workshop.reference(kind)
            out = folder / "run"
            command(workshop.run(kind, out), kill_after=moment * seconds, timeout=300)
            return goes_on(workshop, kind, out)

        yield Trial("random kills", f"{number:03d}, {kind}, at {moment:.0%}", check)


def cold_kills(workshop: Workshop, count: int) -> Iterator[Trial]:
    """The control: the same with processes of their own, which import everything first."""
    kinds = list(workshop.kinds)
    for number in range(count):
        kind, moment = kinds[number % len(kinds)], random.Random(f"cold {number}").uniform(0.3, 1.0)

        def check(folder: Path, kind: str = kind, moment: float = moment) -> str:
            _, seconds = workshop.reference(kind)
            out = folder / "run"
            words = [sys.executable, "-m", "datafree", *workshop.run(kind, out)]
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 120
            while process.poll() is None and not (out / "experiment.json").is_file() and time.monotonic() < deadline:
                time.sleep(0.01)
            try:
                process.wait(timeout=moment * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
            return goes_on(workshop, kind, out)

        yield Trial("cold kills", f"{number:03d}, {kind}, at {moment:.0%}", check)


def placed_kills(workshop: Workshop, count: int) -> Iterator[Trial]:
    """SIGKILL right before a chosen file operation, all over a run; afterwards no folder may be dead."""
    yield from _placed(workshop, count, "placed kills", _kill, killed=True)


def placed_faults(workshop: Workshop, count: int) -> Iterator[Trial]:
    """A chosen file operation fails as on a full or broken disk: one sentence, and what was saved is still there."""

    def fail(number: int) -> Callable[[], None]:
        def raise_error() -> None:
            code = ERRORS[number % len(ERRORS)]
            raise OSError(code, os.strerror(code))

        return raise_error

    yield from _placed(workshop, count, "placed faults", fail, killed=False)


def _kill(_: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def _placed(
    workshop: Workshop, count: int, family: str, action: Callable[[int], Callable[[], None]], *, killed: bool
) -> Iterator[Trial]:
    kinds = list(workshop.kinds)
    for number in range(count):
        kind, share = kinds[number % len(kinds)], (number + 0.5) / count

        def check(folder: Path, kind: str = kind, share: float = share, number: int = number) -> str:
            total = operations(workshop, kind)
            out, place = folder / "run", int(share * total)
            outcome = fork(lambda: interrupted(workshop.run(kind, out), place, action(number)), timeout=300)
            if not killed:
                failure = clean(outcome, 0, 2)
                if failure or (outcome.code == 2 and len(message(outcome)) != 1):
                    return failure or f"more than one sentence: {outcome.output[-500:]}"
            return goes_on(workshop, kind, out)

        yield Trial(family, f"{number:03d}, {kind}, operation at {share:.0%}", check)


def interrupted(words: Sequence[str], place: int, action: Callable[[], None]) -> int:
    """The command line, with an action right before the file operation of this number; writes how many there were."""
    done = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            nonlocal done
            done += 1
            if done == place + 1:
                action()
            return original(*arguments, **settings)

        return call

    for name in CALLS:
        setattr(os, name, counted(getattr(os, name)))
    code = main(list(words))
    print(f"operations {done}")
    return code


def operations(workshop: Workshop, kind: str) -> int:
    """How many file operations a run of this kind has."""
    note = workshop.root / "references" / f"{kind.replace(' ', '-')}.operations"
    if not note.is_file():
        out = workshop.root / "references" / f"{kind.replace(' ', '-')}-counted"
        outcome = fork(lambda: interrupted(workshop.run(kind, out), -1, lambda: None), timeout=300)
        note.parent.mkdir(exist_ok=True)
        note.write_text(outcome.output.rpartition("operations ")[2].strip())
    return int(note.read_text())


def message(outcome: Outcome) -> list[str]:
    """The lines in which the command said what was wrong."""
    return [line for line in outcome.output.splitlines() if line.startswith("datafree: ")]


def goes_on(workshop: Workshop, kind: str, out: Path) -> str:
    """Whether a run that was stopped ends as if it had not been; why not, if not."""
    expected, _ = workshop.reference(kind)
    if not (out / "summary.json").is_file():
        begun = (out / "experiment.json").is_file()
        outcome = command(["resume", str(out)] if begun else workshop.run(kind, out), timeout=300)
        if failure := clean(outcome, 0):
            return f"{'refused to resume' if begun else 'dead folder'}: {failure}"
    if student_hash(out) != expected:
        return "another student"
    if any(
        leftovers(out)
    ):  # of a run that was killed after its last file; whatever writes into the folder next sweeps it
        command(["report", str(out)])
    remains = [str(path.relative_to(out.parent)) for path in leftovers(out.parent)]
    return f"left behind: {', '.join(remains)}" if remains else ""
