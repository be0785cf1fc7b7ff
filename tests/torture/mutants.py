"""Files that this project reads, with bytes or values changed: each reader accepts or refuses, and never breaks."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datafree.runs.reporting import report
from datafree.runs.run_folder import read_experiment
from datafree.sets import image_set
from datafree.synthesis import features
from datafree.teachers import load_folder
from datafree.types import InputError
from datafree.weights.reading import read_weights
from torture.corruptions import flip, swap, truncate, zero
from torture.forks import fork
from torture.trials import Trial, clean
from torture.workshop import Workshop

GROUP = 40
"""mutants in one fork"""
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        1e308,
        10**30,
        0.5,
        "",
        "x",
        "NaN",
        "../../etc/passwd",
        "\x1b[31m",
        [],
        {},
        [[]],
        [None],
        {"a": 1},
    ),
    *(float("nan"), float("inf"), [1, 2, 3], "9" * 1000, ["x"] * 1000),
]


def mutants(workshop: Workshop, count: int) -> Iterator[Trial]:
    """So many mutants, in groups that share a fork."""
    for number in range(count // GROUP):

        def check(folder: Path, number: int = number) -> str:
            outcome = fork(lambda: _group(workshop, folder, number), timeout=120)
            failures = [line for line in outcome.output.splitlines() if line.startswith("FAULT ")]
            return "; ".join(failures) or clean(outcome, 0)

        yield Trial("mutants", f"{number:03d}, {GROUP} files", check)


def _group(workshop: Workshop, folder: Path, number: int) -> int:
    for place in range(GROUP):
        numbers = random.Random(f"mutant {number} {place}")
        name, (source, read) = numbers.choice(list(targets(workshop).items()))
        whole = folder / "mutant"
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(source.parent, whole, ignore=shutil.ignore_patterns("references", "low", "high"))
        path = whole / source.name
        change(path, numbers)
        try:
            read(path)
        except InputError as fault:
            if len(str(fault).splitlines()) != 1:
                print(f"FAULT {name}, mutant {place}: more than one line: {fault!r}")
        except BaseException as fault:
            shutil.copy(path, folder / f"failed-{place}-{path.name}")
            print(f"FAULT {name}, mutant {place}: {type(fault).__name__}: {' '.join(str(fault).split())[:200]}")
    return 0


def targets(workshop: Workshop) -> dict[str, tuple[Path, Callable[[Path], Any]]]:
    """A file of each kind, and its reader."""
    root = workshop.root
    teacher = load_folder(root / "teacher")
    return {
        "config.json": (root / "teacher" / "config.json", lambda path: load_folder(path.parent)),
        "weights": (root / "teacher" / "model.safetensors", lambda path: load_folder(path.parent)),
        "bare weights": (root / "teacher" / "model.safetensors", read_weights),
        "experiment.json": (root / "finished" / "experiment.json", lambda path: read_experiment(path.parent)),
        "summary.json": (root / "finished" / "summary.json", lambda path: report.read_summary(path.parent)),
        "set.json": (root / "set" / "set.json", lambda path: image_set.read(path.parent)),
        "statistics": (root / "statistics" / "statistics.safetensors", lambda path: features.load(str(path), teacher)),
    }


def change(path: Path, numbers: random.Random) -> None:
    """Bytes at random; or, of JSON, one value somewhere."""
    data = bytearray(path.read_bytes())
    if path.suffix == ".json" and numbers.random() < 0.7:
        tree = json.loads(data)
        replace_one(tree, numbers)
        path.write_text(json.dumps(tree))
        return
    for _ in range(numbers.randint(1, 3)):
        if data:
            numbers.choice([flip, zero, truncate, swap])(data, numbers)
    path.write_bytes(data)


def replace_one(tree: Any, numbers: random.Random) -> None:
    """A value is replaced, removed or added somewhere in a tree."""
    while isinstance(tree, (dict, list)) and tree:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = numbers.choice(keys)
        if isinstance(tree[key], (dict, list)) and tree[key] and numbers.random() < 0.7:
            tree = tree[key]
            continue
        if numbers.random() < 0.15:
            del tree[key]
        elif isinstance(tree, dict) and numbers.random() < 0.15:
            tree[numbers.choice(["x", "", "config", "a" * 300])] = numbers.choice(ODD)
        else:
            tree[key] = numbers.choice(ODD)
        return
