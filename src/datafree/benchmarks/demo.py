"""The demo: students of one teacher on scikit-learn's digits, from the noise floor to the real-image ceiling."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from joblib import cpu_count
from rich.console import Console

from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks.sources import image_sources
from datafree.files import write_json
from datafree.files.numbering import next_folder
from datafree.methods import METHODS
from datafree.runs.experiment import Experiment, run
from datafree.runs.parallel import parallel_map, preload_workers
from datafree.runs.reporting import report
from datafree.runs.reporting.console import say
from datafree.runs.reporting.pages.comparison import write_comparison
from datafree.runs.tasks import Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.types import require_at_least

TEACHER, STUDENT = "convnet_w64", "convnet_w16"
TITLE = "Students of a network for digits, without digits"
EXPLANATION = (
    "A network was trained on scikit-learn's digits; then its training images were set aside.",
    "Each student below learned from images that a method made from that network alone, and was tested once on digits that "
    "neither had seen.",
    "The floor is a student of noise and the ceiling is a student of real images: a good method comes close to the ceiling.",
)
"""what the page shows, in three sentences"""


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Settings of the demo."""

    out: Path | None = None
    """output folder, must not exist (default: runs/demo-NNN)"""
    seed: int = 0
    """random seed"""
    threads: int = 1
    """CPU threads of each run; networks this small are fastest with one"""
    steps: int = 1200
    """training steps of each student"""
    jobs: int = 0
    """number of students at a time, each in its own process; 0: one per CPU core"""

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps, threads=self.threads)
        require_at_least(0, jobs=self.jobs)


def demo_sources(steps: int) -> dict[str, tuple[Method | None, Schedule]]:
    """Return method and schedule of each student of the demo: the floor, three methods, and the ceiling."""
    schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=64)
    adaptive_schedule = replace(schedule, warmup_batches=4, refresh_every=steps // 20 + 1, pool_batches=24)
    # No jitter: one pixel of eight is a large shift.
    inversion = replace(METHODS["deep-inversion"], batch_size=512, steps=(80,), jitter=0)
    sources = image_sources(inversion, schedule)
    real_images = sources.pop("real images")
    # Small batches, so that the images follow the student more often.
    adi = replace(inversion, compete=METHODS["adi"].compete, batch_size=128)
    return sources | {"adi": (adi, adaptive_schedule), "real images": real_images}


def demo_application(steps: int) -> DistillationConfig:
    """Return how every student of the demo is trained."""
    return DistillationConfig(steps=steps, lr=5e-3, augment=Augmentation(shift=0.15))


def demo(options: Demo, console: Console) -> list[dict[str, Any]]:
    """Train a teacher on scikit-learn's digits, distil one student per method, and compare them.

    Args:
        options: The settings.
        console: Where progress and results are shown.

    Returns:
        The rows of the results table: the teacher, then each student.
    """
    out, jobs = options.out or next_folder("demo"), options.jobs or cpu_count()
    console.print("datafree demo · scikit-learn's digits · cpu · no network used", highlight=False)
    if jobs > 1:
        preload_workers()  # while the teacher is trained
    _train_teacher(options, out / "teacher", console)
    experiments = _experiments(options, out / "teacher")
    folders = {name: out / name.replace(" ", "-") for name in experiments}
    longest_first = sorted(experiments, key=lambda name: name != "adi")
    results: dict[str, list[dict[str, Any]]] = {}
    runs = [(experiments[name], folders[name]) for name in longest_first]
    for index, summary in parallel_map(_run, runs, jobs, console, "students"):
        name = longest_first[index]
        results[name] = report.table_rows(summary)
        accuracy, seconds = report.percent(results[name][1]["accuracy"]), results[name][1]["seconds"]
        console.print(f"{name:<15} {accuracy} held-out, {seconds:.1f} s", highlight=False)
    rows = [results["noise"][0], *(results[name][1] for name in experiments)]
    _write(rows, folders, out)
    console.print(report.results_table(rows))
    console.print(
        "The held-out images are used for this table only. The last row is the ceiling: it is trained on real images.",
        highlight=False,
        soft_wrap=True,
    )
    say(console, "report", out / "report.html")
    teacher = shlex.quote(f"local-dir:{out / 'teacher'}")
    say(console, "next", f"datafree distill --teacher {teacher} --student {STUDENT} --out runs/mine")
    return rows


def _train_teacher(options: Demo, folder: Path, console: Console) -> None:
    accuracy = example_teacher(
        network=TEACHER,
        data="digits",
        out=folder,
        training=TrainingConfig(),
        seed=options.seed,
        threads=options.threads,
        console=console,
    )
    held_out = f"{report.percent(accuracy)} held-out; its training images are not used again"
    console.print(f"{'teacher':<15} {held_out}", highlight=False)


def _experiments(options: Demo, teacher: Path) -> dict[str, Experiment]:
    task = Task(teacher=f"local-dir:{teacher}", student=STUDENT, data="digits")
    return {
        name: Experiment(
            task=task,
            method=method,
            schedule=schedule,
            application=demo_application(options.steps),
            seed=options.seed,
            device="cpu",
            threads=options.threads,
        )
        for name, (method, schedule) in demo_sources(options.steps).items()
    }


def _run(experiment_and_folder: tuple[Experiment, Path], console: Console | None) -> dict[str, Any]:
    return run(*experiment_and_folder, console=console).summary


def _write(rows: list[dict[str, Any]], folders: dict[str, Path], out: Path) -> None:
    write_json(out / "comparison.json", rows)
    for folder in folders.values():  # again: floor and ceiling are known now
        report.write_page(folder, report.read_summary(folder))
    write_comparison(list(folders.values()), out / "report.html", TITLE, EXPLANATION)
