"""`datafree extend`: one network for the classes a teacher knows and for new ones, without images of the old."""

from datafree.applications.continual import RECIPES
from datafree.commands.options import take
from datafree.commands.runs import finish, parse_experiment, preset, start
from datafree.tasks import ExtensionTask
from datafree.types import InputError, nearest


def extend(arguments: list[str]) -> None:
    """`datafree extend`."""
    name, rest = take(arguments, "--recipe", "replay")
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown{nearest(name, RECIPES)}; choose one of {', '.join(RECIPES)}")
    method, rest = preset(rest, "deep-inversion")
    choose = f" --recipe NAME chooses among {', '.join(RECIPES)}: the weights of the terms below."
    experiment, out = parse_experiment("extend", method, RECIPES[name], rest, ExtensionTask, choose)
    finish(start(experiment, out))
