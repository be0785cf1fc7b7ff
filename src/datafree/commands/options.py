"""Options as dataclasses, and what is wrong with them in one sentence."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import tyro
from tyro import _errors  # the one way to turn its boxed text into a sentence; the minor version is pinned for it

from datafree.commands.verbs import VERBS
from datafree.types import InputError, nearest

T = TypeVar("T")
Flat = tyro.conf.OmitArgPrefixes
"""a group of options that have no prefix"""


def parse(kind: type[T], verb: str, arguments: Sequence[str], more: str = "") -> T:
    """Options as a dataclass.

    Args:
        kind: A dataclass; its fields' docstrings are the help.
        verb: For the messages.
        arguments: What follows the verb.
        more: Said in the help after what the verb does.

    Raises:
        InputError: For anything that cannot be parsed, in one sentence, with the nearest option where one is unknown.
    """
    see = f"see `datafree {verb} --help`"

    def refuse(event: Any) -> None:
        match event:
            case _errors.UnrecognizedArgs(tokens=[token, *_]) | _errors.MissingArgs(unrecognized_tokens=[token, *_]):
                raise InputError(f"option {token!r} is unknown{nearest(token.partition('=')[0], known(kind))}; {see}")
            case _errors.MissingArgs(missing_arguments=missing):
                raise InputError(f"{', '.join(argument.arg.display_name() for argument in missing)} is missing; {see}")
            case _errors.BadValue(argument=argument):
                raise InputError(f"{argument.display_name()} has no value that it can take; {see}")
            case _errors.InvalidChoice(argument=argument, value=value, choices=choices):
                raise InputError(f"{argument.display_name()} is {value!r}, but it must be one of {', '.join(choices)}")
            case _errors.InstantiationFailure(message=message, argument=argument):
                raise InputError(f"{argument.display_name()}: {message}" if argument else message)
            case _:
                raise InputError(f"the options of {verb} cannot be read together; {see}")

    with _errors.on_parse_error(refuse):
        return tyro.cli(
            kind, prog=f"datafree {verb}", description=VERBS[verb][1].capitalize() + "." + more, args=list(arguments)
        )


def known(kind: type[Any], prefix: str = "--") -> Iterator[str]:
    """The options that a dataclass makes."""
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        hint = hints[one.name]
        flat = get_origin(hint) is Annotated and is_dataclass(get_args(hint)[0])
        group = get_args(hint)[0] if flat else hint
        name = one.name.replace("_", "-")
        if is_dataclass(group):
            yield from known(group, prefix if flat else f"{prefix}{name}.")  # type: ignore[arg-type]
        else:
            yield prefix + name


def take(arguments: Sequence[str], option: str, default: str) -> tuple[str, list[str]]:
    """An option that decides which others there are, and the arguments without it.

    Raises:
        InputError: If it has no value, or is given twice.
    """
    values, rest = take_all(arguments, option)
    if len(values) > 1:
        raise InputError(f"{option} is given twice; give it once")
    return (values or [default])[0], rest


def take_all(arguments: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The values of an option that may be given several times, and the arguments without it.

    Raises:
        InputError: If one is missing.
    """
    values, rest, words = [], [], iter(arguments)
    for word in words:
        name, separate, value = word.partition("=")
        if name != option:
            rest.append(word)
            continue
        values.append(value if separate else next(words, ""))
        if not values[-1] or values[-1].startswith("--"):
            raise InputError(f"{option} has no value; give a name after it")
    return values, rest
