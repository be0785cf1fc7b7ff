"""`datafree distill`: a smaller student from a teacher."""

from datafree.applications.distillation import DistillationConfig
from datafree.commands.runs import finish, parse_experiment, preset, start
from datafree.tasks import Task
from datafree.types import InputError


def distill(arguments: list[str]) -> None:
    """`datafree distill`."""
    method, rest = preset(arguments, "adi")
    learning = DistillationConfig(**method.distillation) if method else DistillationConfig()
    experiment, out = parse_experiment("distill", method, learning, rest)
    if isinstance(experiment.task, Task) and not experiment.task.student:
        raise InputError("--student is missing; see `datafree distill --help`")
    finish(start(experiment, out))
