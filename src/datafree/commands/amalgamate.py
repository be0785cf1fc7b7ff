"""`datafree amalgamate`: several teachers become one student."""

from datafree.application import Application
from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.distillation import DistillationConfig
from datafree.commands.options import take, take_all
from datafree.commands.runs import finish, method_named, parse_experiment, start
from datafree.tasks import AmalgamationTask
from datafree.types import InputError, nearest

INTO: dict[str, Application] = {"target-net": AmalgamationConfig(), "student": DistillationConfig()}


def amalgamate(arguments: list[str]) -> None:
    """`datafree amalgamate`."""
    name, rest = take(arguments, "--method", "group-stack")
    into, rest = take(rest, "--into", "target-net" if name == "group-stack" else "student")
    if into not in INTO:
        raise InputError(f"into {into!r} is unknown{nearest(into, INTO)}; choose one of {', '.join(INTO)}")
    choose = " --into target-net makes a trunk with a branch per teacher, block by block; --into student distils one network."
    experiment, out = parse_experiment(
        "amalgamate", method_named(name), INTO[into], gathered(rest, "--teacher"), AmalgamationTask, choose
    )
    finish(start(experiment, out))


def gathered(arguments: list[str], option: str) -> list[str]:
    """An option that was given several times, as one with several values."""
    values, rest = take_all(arguments, option)
    return [*rest, option, *values] if values else rest
