"""`datafree prune`: a teacher with fewer filters."""

from datafree.applications.pruning import PruningConfig
from datafree.commands.runs import finish, parse_experiment, preset, start
from datafree.tasks import Task
from datafree.types import InputError

SHORT = ("--ratio", "--rounds")
"""options of the application that need not be called so"""


def prune(arguments: list[str]) -> None:
    """`datafree prune`."""
    method, rest = preset(arguments, "adi")
    recovery = PruningConfig(**method.distillation) if method else PruningConfig()
    experiment, out = parse_experiment("prune", method, recovery, [in_full(word) for word in rest], short=SHORT)
    task = experiment.task
    if isinstance(task, Task) and (task.student or task.inherit):
        raise InputError("a pruned network begins as a copy of its teacher; leave --student and --inherit out")
    finish(start(experiment, out))


def in_full(argument: str) -> str:
    """`--ratio` for `--application.ratio`; everything else as it is."""
    name = argument.partition("=")[0]
    return f"--application.{argument.removeprefix('--')}" if name in SHORT else argument
