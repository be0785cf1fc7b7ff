"""One file is damaged; it must be refused before a tensor of it is used, or be one that decides nothing."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torture.kills import goes_on
from torture.trials import Trial, clean, command
from torture.workshop import Workshop

HARMLESS = {
    "README.md",
    "log.jsonl",
    "report.html",
    "grid.png",
    "ledger.json",
    ".lock",
    "summary.json",
    "training.json",
}
"""files that decide nothing: they may be damaged, but nothing may crash"""


def flip(data: bytearray, numbers: random.Random) -> None:
    """One bit."""
    data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)


def zero(data: bytearray, numbers: random.Random) -> None:
    """Up to 4 KiB become zeros."""
    place = numbers.randrange(len(data))
    size = min(4096, len(data) - place)
    data[place : place + size] = bytes(size)


def truncate(data: bytearray, numbers: random.Random) -> None:
    """The end is missing."""
    del data[numbers.randrange(len(data)) :]


def swap(data: bytearray, numbers: random.Random) -> None:
    """Two pieces change places."""
    size = max(1, len(data) // 8)
    first, second = sorted(numbers.sample(range(8), 2))
    a, b = data[first * size : (first + 1) * size], data[second * size : (second + 1) * size]
    data[first * size : (first + 1) * size], data[second * size : (second + 1) * size] = b, a


DAMAGES: dict[str, Callable[[bytearray, random.Random], None] | None] = {
    "flip": flip,
    "zero": zero,
    "truncate": truncate,
    "swap": swap,
    "delete": None,
}


def corruptions(workshop: Workshop, count: int) -> Iterator[Trial]:
    """Damage of five kinds to teachers, image sets, statistics, finished runs and checkpoints in turn."""
    targets = [_teacher, _set, _statistics, _report, _checkpoint]
    kinds = list(DAMAGES)
    for number in range(count):
        target, kind = targets[number % len(targets)], kinds[number // len(targets) % len(kinds)]
        numbers = random.Random(f"corruption {number}")

        def check(
            folder: Path,
            target: Callable[[Workshop, Path, str, random.Random], str] = target,
            kind: str = kind,
            numbers: random.Random = numbers,
        ) -> str:
            return target(workshop, folder, kind, numbers)

        yield Trial("corruptions", f"{number:03d}, {kind} in a {target.__name__.strip('_')}", check)


def damage(folder: Path, kind: str, numbers: random.Random) -> tuple[Path, bool]:
    """Damage one file below a folder; say which, and whether anything changed: of JSON, whether its value did."""
    path = numbers.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size))
    change, before = DAMAGES[kind], path.read_bytes()
    if change is None:
        path.unlink()
        return path, True
    data = bytearray(before)
    change(data, numbers)
    path.write_bytes(data)
    return path, bytes(data) != before and not (path.suffix == ".json" and _value(data) == _value(before))


def _value(data: bytes | bytearray) -> Any:
    """The value of a JSON file; of other data these themselves. The end of the last line may be missing, for example."""
    try:
        return json.loads(data)
    except ValueError:
        return bytes(data)


def judge(path: Path, changed: bool, outcome_clean: str, code: int, output: str) -> str:
    """Refused, or harmless, or nothing changed; a note that names the file counts as detected."""
    if outcome_clean:
        return f"{path.name}: {outcome_clean}"
    detected = code == 2 or "edited" in output or "damaged" in output
    return "" if detected or not changed or path.name in HARMLESS else f"{path.name}: damage was not detected"


def _teacher(workshop: Workshop, folder: Path, kind: str, numbers: random.Random) -> str:
    copied = Path(shutil.copytree(workshop.root / "teacher", folder / "teacher"))
    path, changed = damage(copied, kind, numbers)
    outcome = command(["evaluate", f"local-dir:{copied}", "--data", "digits", "--device", "cpu"])
    return judge(path, changed, clean(outcome, 0, 2), outcome.code, outcome.output)


def _set(workshop: Workshop, folder: Path, kind: str, numbers: random.Random) -> str:
    copied = Path(shutil.copytree(workshop.root / "set", folder / "set"))
    for pictures in (copied / "png", copied / "grid.png"):  # pictures for people
        shutil.rmtree(pictures) if pictures.is_dir() else pictures.unlink(missing_ok=True)
    path, changed = damage(copied, kind, numbers)
    outcome = command(["crosscheck", str(copied), workshop.teacher(), "--device", "cpu"])
    return judge(path, changed, clean(outcome, 0, 2), outcome.code, outcome.output)


def _statistics(workshop: Workshop, folder: Path, kind: str, numbers: random.Random) -> str:
    place = folder / "statistics"
    place.mkdir()
    copied = Path(shutil.copy(workshop.root / "statistics" / "statistics.safetensors", place))
    path, changed = damage(place, kind, numbers)
    words = ["distill", "--teacher", workshop.teacher(), "--student", "convnet_w16", "--method", "deep-inversion"]
    small = [
        "--method.batch-size",
        "4",
        "--method.steps",
        "1",
        "--steps",
        "1",
        "--warmup-batches",
        "1",
        "--device",
        "cpu",
    ]
    out = ["--method.feature-statistics", str(copied), "--out", str(folder / "run")]
    outcome = command([*words, *small, *out])
    return judge(path, changed, clean(outcome, 0, 2), outcome.code, outcome.output)


def _report(workshop: Workshop, folder: Path, kind: str, numbers: random.Random) -> str:
    copied = Path(shutil.copytree(workshop.root / "finished", folder / "run"))
    path, changed = damage(copied, kind, numbers)
    outcome = command(["report", str(copied)])
    if path.parent.name == "student":  # not what a report reads
        evaluated = command(["evaluate", f"local-dir:{copied / 'student'}", "--data", "digits", "--device", "cpu"])
        return judge(path, changed, clean(evaluated, 0, 2), evaluated.code, evaluated.output)
    failure = clean(outcome, 0, 2)
    return f"{path.name}: {failure}" if failure else ""


def _checkpoint(workshop: Workshop, folder: Path, kind: str, numbers: random.Random) -> str:
    out, run = folder / "run", numbers.choice(["deep-inversion", "adi", "fast", "prune"])
    _, seconds = workshop.reference(run)
    command(workshop.run(run, out), kill_after=numbers.uniform(0.5, 0.9) * seconds, timeout=300)
    if (out / "summary.json").is_file() or not (out / "experiment.json").is_file():
        return ""
    path, changed = damage(out, kind, numbers)
    if not (out / "experiment.json").is_file():
        outcome = command(["resume", str(out)])
        return clean(outcome, 2)
    outcome = command(["resume", str(out)], timeout=300)
    if outcome.code == 2:
        return clean(outcome, 2)
    failure = clean(outcome, 0) or goes_on(workshop, run, out)
    silent = changed and path.parent.parent.name == "checkpoints" and "damaged" not in outcome.output
    newest = path.parent.name == max((p.name for p in path.parent.parent.glob("[0-9]*")), default="")
    return failure or (f"{path.name}: a damaged checkpoint was skipped silently" if silent and newest else "")
