"""The options of every command, read from `options.json`, so that help and refusals do not wait for torch.

`write_options` generates the file from the dataclasses. Here the command line is checked against it: names, number of
values, numbers and choices. The values themselves are parsed later, by `options`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from datafree.commands.proposals import closest, propose
from datafree.commands.verbs import UsageError

FILE = Path(__file__).with_name("options.json")
NUMBERS = {"INT": (int, "an integer"), "FLOAT": (float, "a number")}
"""value of an option: how it is parsed, and what it is called in an error"""


@dataclass(frozen=True, kw_only=True)
class Selector:
    """An option whose value decides which other options exist, such as `--method`."""

    name: str
    """with its dashes"""
    help: str
    """`{}` stands for the choices"""
    choices: Sequence[str]
    default: str
    default_by_first: dict[str, str] = field(default_factory=dict)
    """other defaults, by the value of the command's first selector"""

    def resolve(self, values: Sequence[str], selected: Sequence[str]) -> str:
        """Return the chosen value, or the default.

        Raises:
            UsageError: If the value is unknown, or several are given.
        """
        if len(values) > 1:
            raise UsageError(f"{self.name} is given more than once; give it once")
        if not values:
            return self.default_by_first.get(selected[0], self.default) if selected else self.default
        if values[0] not in self.choices:
            word, near = self.name.removeprefix("--"), closest(values[0], self.choices)
            hint = f"did you mean {near}?" if near else f"choose one of {', '.join(self.choices)}"
            raise UsageError(f"unknown {word} {values[0]!r}; {hint}")
        return values[0]


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option or positional argument, as help and checks need it."""

    name: str
    """with its dashes; a positional argument has none and is upper-case"""
    help: str
    value: str = ""
    """placeholder of the value in the help"""
    count: int = 1
    """number of values: 0 for a switch, -1 for one or more"""
    default: str = ""
    choices: Sequence[str] = ()
    required: bool = False

    @property
    def positional(self) -> bool:
        """Whether it is given without a name."""
        return not self.name.startswith("-")

    @property
    def negation(self) -> str:
        """The option that turns a switch off, such as `--method.no-filters`."""
        prefix, _, last = self.name.removeprefix("--").rpartition(".")
        return f"--{prefix}.no-{last}" if prefix else f"--no-{last}"

    def check(self, values: Sequence[str]) -> None:
        """Check the number and kind of the values.

        Raises:
            UsageError: In one sentence.
        """
        if not values and self.count:
            raise UsageError(f"{self.name} has no value; give {self.value}")
        if self.count > 1 and len(values) != self.count:
            raise UsageError(f"{self.name} needs {self.count} values; give {self.value}")
        parse, kind = NUMBERS.get(self.value.split(" ")[0], (str, ""))
        for value in values:
            if self.choices and value not in self.choices:
                near = closest(value, self.choices)
                hint = f"did you mean {near}?" if near else f"choose one of {', '.join(self.choices)}"
                raise UsageError(f"invalid value {value!r} for {self.name}; {hint}")
            try:
                parse(value)
            except ValueError as error:
                raise UsageError(f"invalid value {value!r} for {self.name}; give {kind}") from error


@dataclass(frozen=True, kw_only=True)
class Command:
    """The selectors of a command, and its options for each selection."""

    selectors: Sequence[Selector]
    options: dict[str, Sequence[Option]]
    """selected values, joined by spaces: options"""


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name."""
    table = json.loads(FILE.read_text())
    blocks = {name: [Option(**row) for row in rows] for name, rows in table["blocks"].items()}
    return {
        name: Command(
            selectors=[Selector(**selector) for selector in entry["selectors"]],
            options={key: [row for block in names for row in blocks[block]] for key, names in entry["options"].items()},
        )
        for name, entry in table["commands"].items()
    }


def select(selectors: Sequence[Selector], arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the value of each selector, and the other arguments.

    Raises:
        UsageError: If a selector has no value, more than one, or an unknown one.
    """
    given: dict[str, list[str]] = {selector.name: [] for selector in selectors}
    rest, words = [], iter(arguments)
    for word in words:
        name, has_value, value = word.partition("=")
        if name not in given:
            rest.append(word)
            continue
        given[name].append(value if has_value else next(words, ""))
        if not given[name][-1] or is_option(given[name][-1]):
            raise UsageError(f"{name} has no value; give NAME")
    selected: list[str] = []
    for selector in selectors:
        selected.append(selector.resolve(given[selector.name], selected))
    return selected, rest


def check(verb: str, arguments: Sequence[str]) -> None:
    """Check the arguments of a command without importing it.

    Raises:
        UsageError: If an option is unknown, missing, or has an impossible value; in one sentence.
    """
    command, see = commands()[verb], f"see `datafree {verb} --help`"
    selected, words = select(command.selectors, arguments)
    options = command.options[" ".join(selected)]
    by_name = {name: o for o in options if not o.positional for name in (o.name, *([o.negation] * (o.count == 0)))}
    given: set[str] = set()
    positional_words: list[str] = []
    while words:
        word = words.pop(0)
        if not is_option(word):
            positional_words.append(word)
            continue
        name, has_value, value = word.partition("=")
        option = by_name.get(canonical(name))
        if option is None:
            raise UsageError(f"unknown option {name!r}; {propose(name, verb, selected, commands()) or see}")
        option.check([value] if has_value and option.count else take_values(words, option.count))
        given.add(option.name)
    given |= assign_positionals([o for o in options if o.positional], positional_words, see)
    missing = [option.name for option in options if option.required and option.name not in given]
    if missing:
        raise UsageError(f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing; {see}")


def take_values(words: list[str], count: int) -> list[str]:
    """Remove the values of an option from the front of the words and return them."""
    values = []
    while words and not is_option(words[0]) and len(values) != count:
        values.append(words.pop(0))
    return values


def assign_positionals(options: Sequence[Option], words: list[str], see: str) -> set[str]:
    """Check the positional arguments and return the names of those given.

    Raises:
        UsageError: If there are too many.
    """
    given = set()
    for option in options:
        values, words = (words[:1], words[1:]) if option.count == 1 else (words, [])
        if values:
            option.check(values)
            given.add(option.name)
    if words:
        raise UsageError(f"unexpected argument {words[0]!r}; {see}")
    return given


def is_option(word: str) -> bool:
    """Return whether a word is the name of an option; negative numbers are values."""
    if not word.startswith("-") or word == "-":
        return False
    try:
        float(word)
    except ValueError:
        return True
    return False


def canonical(name: str) -> str:
    """Return an option's name with dashes between its words, as in the table."""
    return "--" + name.removeprefix("--").replace("_", "-") if name.startswith("--") else name


def rows(verb: str, arguments: Sequence[str]) -> tuple[dict[str, Any], Sequence[Option]]:
    """Return what a command's selectors are set to, by selector name, and the options that follow from them."""
    command = commands()[verb]
    selected, _ = select(command.selectors, arguments)
    names = [selector.name for selector in command.selectors]
    return dict(zip(names, selected, strict=True)), command.options[" ".join(selected)]
