"""`datafree distill`, `extend`, `amalgamate`, `prune`: run an experiment."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import RECIPES
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.commands.mixtures import MixtureOptions, MixtureSize, mixture_options, preset
from datafree.commands.options.parsing import Flat, Form, Positional, Repeated
from datafree.commands.options.table import Selector, check, rows
from datafree.commands.repetition import command_of
from datafree.commands.runs import console, finish, start, upload
from datafree.export.hub import require_repository
from datafree.runs.planning.auto import Auto
from datafree.runs.planning.halving import without_auto
from datafree.runs.reporting.console import say
from datafree.runs.settings import Experiment, RuntimeConfig, read_settings
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, SingleTeacherTask, Task
from datafree.sets.saved import ALL_METHODS
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture
from datafree.teachers.candidates import AUTO as AUTO_STUDENT
from datafree.types import InputError

AUTO = {"auto": Auto(), "auto:race": Auto(race=True)}
"""values of `--method` that leave the method to the teacher"""
TaskType = TypeVar("TaskType", Task, ExtensionTask, AmalgamationTask)


@dataclass(frozen=True, kw_only=True)
class DistillTask(Task):
    """A task whose student is named or chosen."""

    student: str = AUTO_STUDENT
    """the student: a timm name, local-dir:FOLDER for one that has weights already, or auto: the largest network of a list
    within --ratio, --max-parameters and --max-macs"""


@dataclass(frozen=True, kw_only=True)
class AmalgamateTask(AmalgamationTask):
    """A task whose teachers are given one by one."""

    teacher: Repeated[tuple[str, ...]] = field()
    """a teacher: a folder or a name, see `distill`; once for each of two or more; one that needs options becomes a folder by
    `datafree import`"""


@dataclass(frozen=True, kw_only=True)
class PruneTask(SingleTeacherTask):
    """A task whose student is a copy of the network."""

    teacher: Positional[str] = field()
    """the network to prune: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where the run is written."""

    out: Path | None = None
    """output folder (default: the next free runs/COMMAND-NNN)"""
    push_to_hub: str = ""
    """repository of the Hugging Face hub that the student is uploaded to at the end; it is created as a private one"""

    def __post_init__(self) -> None:
        if self.push_to_hub:
            require_repository(self.push_to_hub)


def method_selector(default: str) -> Selector:
    """Return the option `--method` of a command."""
    return Selector(
        name="--method",
        help="how images are synthesized: {}; auto chooses by the teacher within --budget, auto:race tries three methods "
        "first; saved reads a folder that `datafree synthesize` wrote, real uses the real images of --data instead; or a "
        "mixture with the share of each method, such as noise:0.7,deep-inversion:0.3",
        choices=(*AUTO, *ALL_METHODS, "real"),
        default=default,
        mixes=True,
    )


def method_named(name: str) -> Method | None:
    """Return a method by name, or a mixture; `real`, the ceiling, has none."""
    return None if name == "real" else AUTO.get(name) or preset(name, ALL_METHODS)


def options_of(task: type[Any], name: str, application: Application) -> type[Any]:
    """Return the options of an experiment: those of the method have the prefix `method.`, all others have none.

    Args:
        task: The dataclass of the networks and their data.
        name: Of the method.
        application: The defaults of the training settings.
    """
    method = method_named(name)
    schedule = method.schedule if method else Schedule()
    settings = [("method", type(method), field(default=method)), ("schedule", Flat[Schedule], field(default=schedule))]
    if isinstance(method, Mixture):
        kind = mixture_options(method)
        settings[0] = ("method", kind, field(default_factory=kind))
    if isinstance(method, Mixture | Auto):  # the parts have a schedule each
        settings[1] = ("schedule", Flat[MixtureSize], field(default=MixtureSize()))
    return make_dataclass(
        "Options",
        [
            ("task", Flat[task]),
            ("output", Flat[Output], field(default=Output())),
            *settings[0 if method else 1 :],
            ("application", Flat[type(application)], field(default=application)),
            ("runtime", Flat[RuntimeConfig], field(default=RuntimeConfig())),
        ],
        frozen=True,
        kw_only=True,
    )


def distill_options(method: str) -> type[Any]:
    """Return the options of `datafree distill`; a method may bring defaults for the student's training."""
    paper = method_named(method)
    return options_of(DistillTask, method, DistillationConfig(**paper.distillation if paper else {}))


def extend_options(recipe: str, method: str) -> type[Any]:
    """Return the options of `datafree extend`; the recipe sets the weights of the loss terms."""
    return options_of(ExtensionTask, method, RECIPES[recipe])


def amalgamate_options(method: str, into: str) -> type[Any]:
    """Return the options of `datafree amalgamate`; a method may bring defaults for the training of one student."""
    paper, application = method_named(method), INTO[into]
    if paper and isinstance(application, DistillationConfig):
        application = replace(application, **paper.distillation)
    return options_of(AmalgamateTask, method, application)


def prune_options(method: str) -> type[Any]:
    """Return the options of `datafree prune`; a method may bring defaults for the recovery."""
    paper = method_named(method)
    return options_of(PruneTask, method, PruningConfig(**paper.distillation if paper else {}))


INTO: dict[str, Application] = {"target-net": AmalgamationConfig(), "student": DistillationConfig()}
"""what amalgamation makes: a trunk with a branch for each teacher, or one network"""

DISTILL = Form(verb="distill", options=distill_options, selectors=[method_selector("auto")])
EXTEND = Form(
    verb="extend",
    options=extend_options,
    selectors=[
        Selector(name="--recipe", help="preset of the loss weights: {}", choices=tuple(RECIPES), default="replay"),
        method_selector("deep-inversion"),
    ],
)
AMALGAMATE = Form(
    verb="amalgamate",
    options=amalgamate_options,
    selectors=[
        method_selector("group-stack"),
        Selector(
            name="--into",
            help="what the teachers become: {}; target-net is a trunk with a branch for each teacher and the default "
            "of the method group-stack, student is one network and the default of all others",
            choices=tuple(INTO),
            default="student",
            default_by_first={"group-stack": "target-net"},
        ),
    ],
)
PRUNE = Form(verb="prune", options=prune_options, selectors=[method_selector("auto")])
FORMS = (DISTILL, EXTEND, AMALGAMATE, PRUNE)


def distill(arguments: list[str]) -> None:
    """`datafree distill`."""
    run_experiment(DISTILL, arguments, Task)


def extend(arguments: list[str]) -> None:
    """`datafree extend`."""
    run_experiment(EXTEND, arguments, ExtensionTask)


def amalgamate(arguments: list[str]) -> None:
    """`datafree amalgamate`."""
    run_experiment(AMALGAMATE, arguments, AmalgamationTask)


def prune(arguments: list[str]) -> None:
    """`datafree prune`."""
    run_experiment(PRUNE, arguments, Task)


def run_experiment(form: Form, arguments: list[str], task: type[TaskType]) -> None:
    """Run the experiment that the arguments describe, and print its results."""
    words, fit_memory = without_auto(arguments)
    options = form.parse(words)
    experiment = as_given(experiment_of(options, task), form.verb, arguments)
    experiment = replace(experiment, fit_memory=fit_memory)
    result = start(experiment, options.output.out or Path(form.verb))
    finish(result)
    upload(result.path / "student", options.output.push_to_hub)
    decided = read_settings(result.path)
    if decided != experiment:
        say(console, "repeat", command_of(form.verb, arguments, decided, application_of(form, arguments)))


def application_of(form: Form, arguments: list[str]) -> Callable[[str], Application]:
    """Return a function that returns the default training settings for a value of `--method`."""
    selected = rows(form.verb, arguments)[0]

    def defaults(method: str) -> Application:
        options = form.options(*(selected | {"--method": method}).values())
        return next(f.default for f in fields(options) if isinstance(f.default, Application))

    return defaults


def as_given(experiment: Experiment, verb: str, arguments: list[str]) -> Experiment:
    """Return an experiment whose `auto` keeps what the user gave: the learning rate and the steps.

    Raises:
        InputError: If there are steps and a budget, which decides the steps; or a share of other classes without labels.
    """
    auto, given = experiment.method, check(verb, arguments).values
    if "--others" in given and "--labels" not in given:
        raise InputError("--others needs --labels, the classes of the student; give both or none")
    if "--steps" in given and "--budget" in given:
        raise InputError("--budget decides the steps, but --steps is given too; leave one of them out")
    if not isinstance(auto, Auto):
        return experiment
    if "--lr" in given:
        experiment = replace(experiment, method=replace(auto, keep_lr=True))
    if "--steps" in given:
        experiment = replace(experiment, budget=f"{given['--steps'][-1]}steps")
    return experiment


def experiment_of(options: Any, task: type[TaskType]) -> Experiment:
    """Return the experiment, whose task is of the type that a run folder stores."""
    given = {f.name: getattr(options.task, f.name) for f in fields(task) if hasattr(options.task, f.name)}
    method, schedule = getattr(options, "method", None), options.schedule
    if isinstance(method, MixtureOptions):
        method = method.mixture(schedule.batch_size)
        schedule = method.schedule
    elif isinstance(schedule, MixtureSize):
        schedule = Schedule(batch_size=schedule.batch_size)
    return Experiment(
        task=task(**given),
        method=method,
        schedule=schedule,
        application=options.application,
        **{f.name: getattr(options.runtime, f.name) for f in fields(RuntimeConfig)},
    )
