"""`datafree distill`: a smaller student from a teacher."""

from datafree.applications.distillation import DistillationConfig
from datafree.commands.runs import finish, parse_experiment, preset, start


def distill(arguments: list[str]) -> None:
    """`datafree distill`."""
    method, rest = preset(arguments, "adi")
    learning = DistillationConfig(**method.distillation) if method else DistillationConfig()
    experiment, out = parse_experiment("distill", method, learning, rest)
    finish(start(experiment, out))
