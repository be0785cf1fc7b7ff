"""The main job on real input that is always there: scikit-learn's digits, a teacher, and a ladder of students."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joblib import cpu_count
from rich.console import Console

from datafree.applications.distillation import DistillationConfig
from datafree.files import write_json, write_text
from datafree.methods import METHODS
from datafree.runs import report
from datafree.runs.experiment import Experiment, run
from datafree.runs.parallel import prepare, side_by_side
from datafree.runs.run_folder import next_folder
from datafree.runs.tasks import Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.types import at_least

TEACHER, STUDENT = "convnet_w64", "convnet_w16"
SHOWN = 64
"""images per step of a student"""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A ladder of students of one teacher."""

    out: Path | None = None
    """folder to write; must be new; runs/demo-NNN if not given"""
    seed: int = 0
    """of everything random"""
    threads: int = 1
    """on the CPU; networks this small are fastest on one"""
    steps: int = 1200
    """steps of each student"""
    jobs: int = 0
    """students at a time, each in a process of its own; 0: one for each core"""

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps, threads=self.threads)
        at_least(0, jobs=self.jobs)


def rungs(steps: int) -> dict[str, tuple[Method | None, Schedule]]:
    """Floor, the three methods, ceiling."""
    first = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=SHOWN)
    small: dict[str, Any] = {"batch_size": 512, "steps": (80,), "jitter": 0}  # of 8 pixels, one is a place of its own
    often = small | {"batch_size": 128}  # the more often it looks at the student, the better
    return {
        "noise": (replace(METHODS["noise"], batch_size=SHOWN), Schedule()),
        "deep-dream": (replace(METHODS["deep-dream"], **small), first),
        "deep-inversion": (replace(METHODS["deep-inversion"], **small), first),
        "adi": (
            replace(METHODS["adi"], **often),
            Schedule(warmup_batches=4, refresh_every=steps // 20 + 1, pool_batches=24, batch_size=SHOWN),
        ),
        "real images": (None, Schedule(batch_size=SHOWN)),
    }


def application(steps: int) -> DistillationConfig:
    """How every student of the ladder learns."""
    return DistillationConfig(steps=steps, lr=5e-3, augment=Augmentation(shift=0.15))


def demo(options: Demo, console: Console) -> list[dict[str, Any]]:
    """Trains the teacher, puts the data away, distils a student per rung, and draws the ladder."""
    out = options.out or next_folder("demo")
    console.print("datafree demo · scikit-learn's digits · cpu · no network used", highlight=False)
    jobs = options.jobs or cpu_count()
    if jobs > 1:
        prepare()  # while the teacher is trained
    accuracy = example_teacher(
        network=TEACHER, data="digits", out=out / "teacher", training=TrainingConfig(), seed=options.seed,
        threads=options.threads, console=console,
    )  # fmt: skip
    console.print(
        f"teacher         {report.percent(accuracy)} held-out; its training images are put away", highlight=False
    )
    task = Task(teacher=f"local-dir:{out / 'teacher'}", student=STUDENT, data="digits")
    places = {name: out / name.replace(" ", "-") for name in rungs(options.steps)}
    ladder = {
        name: Experiment(
            task=task,
            method=method,
            schedule=schedule,
            application=application(options.steps),
            seed=options.seed,
            device="cpu",
            threads=options.threads,
        )
        for name, (method, schedule) in rungs(options.steps).items()
    }
    longest_first = sorted(ladder, key=lambda name: name != "adi")
    pieces = [(ladder[name], places[name]) for name in longest_first]
    found: dict[str, list[dict[str, Any]]] = {}
    for place, summary in side_by_side(student_on, pieces, jobs, console, "students"):
        name = longest_first[place]
        found[name] = report.rows_of(summary)
        student = found[name][1]
        console.print(
            f"{name:<15} {report.percent(student['accuracy'])} held-out, {student['seconds']:.1f} s", highlight=False
        )
    rows = [found["noise"][0], *(found[name][1] for name in ladder)]
    write_json(out / "ladder.json", rows)
    grids = {name: place / "synthetic" / "grid.png" for name, place in places.items()}
    runs = {name: str(place / "report.html") for name, place in places.items()}
    write_text(out / "report.html", report.ladder_page(rows, grids, runs, "A student of digits, with no digits"))
    console.print(report.ladder(rows))
    console.print(
        "The held-out images were used for this table only. The last row saw real images: it is the ceiling.\n"
        f"report   {out / 'report.html'}\n"
        f"next     datafree distill --teacher local-dir:{out / 'teacher'} --student {STUDENT} --out runs/mine",
        highlight=False,
        soft_wrap=True,
    )
    return rows


def student_on(rung: tuple[Experiment, Path], console: Console | None) -> dict[str, Any]:
    """The summary of the student on one rung."""
    return run(*rung, console=console).summary
