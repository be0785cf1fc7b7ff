"""The options of every command, read from `options.json`, so that help and refusals do not wait for torch.

`write_options` generates the file from the dataclasses. Here the command line is checked against it: names, number of
values, numbers with their bounds, and choices. The values themselves are parsed later, by `options`.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from datafree.commands.options.mixtures import is_mixture, mixed_options, parse_mixture, split_folders
from datafree.commands.options.proposals import closest, propose
from datafree.errors import InputError

FILE = Path(__file__).with_name("options.json")
FLOAT = r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf|infinity|nan)"
"""a number, in lower case"""
MAX_DIGITS = 30
"""digits of an integer; whether its value is valid is checked by the setting itself"""


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
    mixes: bool = False
    """whether several of the choices can be mixed, as in `procedural:0.7,deep-inversion:0.3`"""

    def resolve(self, values: Sequence[str], selected: Sequence[str]) -> str:
        """Return the chosen value, or the default.

        Raises:
            InputError: If the value is unknown, or several are given.
        """
        if len(values) > 1:
            raise InputError(f"{self.name} is given more than once; give it once")
        if not values:
            return self.default_by_first.get(selected[0], self.default) if selected else self.default
        if self.mixes and is_mixture(values[0], self.choices):
            parse_mixture(values[0], self.choices)
            return values[0]
        if values[0] not in self.choices:
            word, near = self.name.removeprefix("--"), closest(values[0], self.choices)
            hint = f"did you mean {near}?" if near else f"choose one of {', '.join(self.choices)}"
            raise InputError(f"unknown {word} {values[0]!r}; {hint}")
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
    minimum: float | None = None
    """smallest valid number, if it depends on no other option"""
    maximum: float | None = None
    """largest valid number, if it depends on no other option"""

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
            InputError: In one sentence.
        """
        if self.count and not any(values):
            raise InputError(f"{self.name} has no value; give {self.value}")
        if self.count > 1 and len(values) != self.count:
            raise InputError(f"{self.name} needs {self.count} values; give {self.value}")
        for value in values:
            if self.choices and value not in self.choices:
                near = closest(value, self.choices)
                hint = f"did you mean {near}?" if near else f"choose one of {', '.join(self.choices)}"
                raise InputError(f"invalid value {value!r} for {self.name}; {hint}")
            self.require_number(value)

    def require_number(self, value: str) -> None:
        """Check a value that must be a number.

        Raises:
            InputError: If it is none, out of bounds, or too large for any setting.
        """
        kind, _, word = self.value.split(" ")[0].partition("|")
        if word and value == word:
            return
        match kind:
            case "INT" if not re.fullmatch(r"[+-]?[0-9]+", value):
                raise InputError(f"invalid value {value!r} for {self.name}; give an integer{_as_integer(value)}")
            case "INT" if len(value) > MAX_DIGITS:
                raise InputError(f"the value of {self.name} has {len(value)} digits; give a smaller integer")
            case "FLOAT" if not re.fullmatch(FLOAT, value, re.IGNORECASE):
                raise InputError(f"invalid value {value!r} for {self.name}; give a number")
            case "INT":
                self._require_within_bounds(int(value))
            case "FLOAT":
                self._require_within_bounds(float(value))
            case _:
                pass

    def _require_within_bounds(self, number: float) -> None:
        """Check a number, with the words of `require_at_least` and `require_at_most`."""
        if self.minimum is not None and not self.minimum <= number < math.inf:
            finite = " and finite" if number == math.inf else ""
            raise InputError(f"{self.name} is {number}, but it must be at least {self.minimum}{finite}")
        if self.maximum is not None and not number <= self.maximum:
            raise InputError(f"{self.name} is {number}, but it must be at most {self.maximum}")


@dataclass(frozen=True, kw_only=True)
class ListedMethod:
    """What the list of methods says about one."""

    paper: str
    needs: Sequence[str]
    """what the teacher must have"""
    passes: float
    """forward or backward passes of the teacher per image"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """The selectors of a command, and its options for each selection."""

    selectors: Sequence[Selector]
    options: dict[str, Sequence[Option]]
    """selected values, joined by spaces: options"""

    def options_of(self, selected: Sequence[str]) -> Sequence[Option]:
        """Return the options for the values of the selectors, of which one may be a mixture."""
        for place, (selector, value) in enumerate(zip(self.selectors, selected, strict=True)):
            if value not in selector.choices:
                parts = parse_mixture(value, selector.choices)
                before, after = selected[:place], selected[place + 1 :]
                return mixed_options(parts, {p.name: self.options_of([*before, p.name, *after]) for p in parts})
        return self.options[" ".join(selected)]


def _as_integer(value: str) -> str:
    """Return a proposal for an integer in scientific notation, as part of a sentence."""
    match = re.fullmatch(r"([1-9])e\+?([0-9]{1,2})", value, re.IGNORECASE)
    return f", such as {match[1]}{'0' * int(match[2])}" if match and int(match[2]) <= 18 else ""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the arguments of a command say."""

    values: dict[str, list[str]]
    """the values of each option, positional argument and selector that is given or has a default; by its name"""
    batch_sizes: Sequence[str]
    """the options of this command that set the size of a batch"""


@cache
def _table() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def methods() -> dict[str, ListedMethod]:
    """Return what is known about each method, by its name."""
    return {name: ListedMethod(**row) for name, row in _table()["methods"].items()}


@cache
def commands() -> dict[str, Command]:
    """Return all commands by name."""
    table = _table()
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
        InputError: If a selector has no value, more than one, or an unknown one.
    """
    given: dict[str, list[str]] = {selector.name: [] for selector in selectors}
    rest, words = [], iter(arguments)
    for word in words:
        name, has_value, value = word.partition("=")
        if name not in given:
            rest.append(word)
            continue
        value, folders = split_folders(value if has_value else next(words, ""))
        given[name].append(value)
        rest += folders
        if not given[name][-1] or is_option(given[name][-1]):
            raise InputError(f"{name} has no value; give NAME")
    selected: list[str] = []
    for selector in selectors:
        selected.append(selector.resolve(given[selector.name], selected))
    return selected, rest


def require_readable(words: Sequence[str]) -> None:
    """Check that all words of a command line are text.

    Raises:
        InputError: If one has bytes that are not UTF-8, or a NUL character, which no path can have.
    """
    for number, word in enumerate(words, 1):
        if "\0" in word or any("\ud800" <= character <= "\udfff" for character in word):
            raise InputError(
                f"word {number} of the command ({word!r}) is not valid UTF-8 text; rename the file or folder"
            )


def check(verb: str, arguments: Sequence[str]) -> Given:
    """Check the arguments of a command without importing it, and return what they say.

    Raises:
        InputError: If an option is unknown, missing, or has an impossible value; in one sentence.
    """
    command, see = commands()[verb], f"see `datafree {verb} --help`"
    selected, words = select(command.selectors, arguments)
    options = command.options_of(selected)
    by_name = {name: o for o in options if not o.positional for name in (o.name, *([o.negation] * (o.count == 0)))}
    given: dict[str, list[str]] = {s.name: [value] for s, value in zip(command.selectors, selected, strict=True)}
    positional_words: list[str] = []
    while words:
        word = words.pop(0)
        if not is_option(word):
            positional_words.append(word)
            continue
        name, has_value, value = word.partition("=")
        option = by_name.get(canonical(name))
        if option is None:
            raise InputError(f"unknown option {name!r}; {propose(name, verb, selected, commands()) or see}")
        values = [value] if has_value and option.count else take_values(words, option.count)
        option.check(values)
        given[option.name] = [*given.get(option.name, []), *values]
    given |= assign_positionals([o for o in options if o.positional], positional_words, see)
    missing = [option.name for option in options if option.required and option.name not in given]
    if missing:
        raise InputError(f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing; {see}")
    sizes = [option.name for option in options if option.name.endswith("batch-size")]
    return Given(values=given, batch_sizes=sizes)


def take_values(words: list[str], count: int) -> list[str]:
    """Remove the values of an option from the front of the words and return them."""
    values = []
    while words and not is_option(words[0]) and len(values) != count:
        values.append(words.pop(0))
    return values


def assign_positionals(options: Sequence[Option], words: list[str], see: str) -> dict[str, list[str]]:
    """Check the positional arguments and return those given, by name.

    Raises:
        InputError: If there are too many.
    """
    given: dict[str, list[str]] = {}
    for option in options:
        values, words = (words[:1], words[1:]) if option.count == 1 else (words, [])
        if values:
            option.check(values)
            given[option.name] = values
    if words:
        raise InputError(f"unexpected argument {words[0]!r}; {see}")
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
    return dict(zip(names, selected, strict=True)), command.options_of(selected)
