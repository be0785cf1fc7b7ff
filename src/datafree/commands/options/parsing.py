"""The options of a command as a dataclass, and its values parsed by tyro."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import tyro
from tyro import _errors  # the only way to turn its boxed text into a sentence; the minor version is pinned for it

from datafree.commands.options.table import Selector, select
from datafree.errors import InputError

T = TypeVar("T")
Flat = tyro.conf.OmitArgPrefixes
"""a group of options without a prefix"""
Positional = tyro.conf.Positional
"""an argument without a name"""
Repeated = tyro.conf.UseAppendAction
"""an option that is given once for each value"""


@dataclass(frozen=True, kw_only=True)
class Form:
    """The options that a command takes. `write_options` lists them for the help, `parse` reads their values."""

    verb: str
    options: Callable[..., type[Any]]
    """returns the dataclass of the options, given the value of each selector"""
    selectors: Sequence[Selector] = ()

    def parse(self, arguments: Sequence[str]) -> Any:
        """Return the options as a dataclass.

        Raises:
            InputError: If a selector has an unknown value, or an option cannot be parsed or has an invalid value.
        """
        selected, rest = select(self.selectors, arguments)
        return parse(self.options(*selected), self.verb, rest)


def parse(kind: type[T], verb: str, arguments: Sequence[str]) -> T:
    """Return the arguments as a dataclass.

    Args:
        kind: The dataclass.
        verb: The command, for the messages.
        arguments: The words after the command; `option_table.check` has already refused unknown options.

    Raises:
        InputError: If they cannot be parsed, in one sentence.
    """

    def refuse(event: Any) -> None:
        match event:
            case _errors.InstantiationFailure(message=message, argument=argument):
                raise InputError(f"{argument.display_name()}: {message}" if argument else message)
            case _errors.BadValue(argument=argument) | _errors.InvalidChoice(argument=argument):
                raise InputError(f"invalid value for {argument.display_name()}; see `datafree {verb} --help`")
            case _:
                raise InputError(f"the options of {verb} cannot be parsed; see `datafree {verb} --help`")

    with _errors.on_parse_error(refuse):
        return tyro.cli(kind, prog=f"datafree {verb}", args=list(arguments))
