"""The table of options is what the dataclasses say, and its defaults parse to theirs."""

from dataclasses import fields
from itertools import product

import pytest

from datafree.commands.options.table import FILE, check, commands
from datafree.commands.options.write import FORMS, as_text, default_of, table
from datafree.commands.verbs import VERBS

SELECTIONS = [
    (verb, selected) for verb, form in FORMS.items() for selected in product(*(s.choices for s in form.selectors))
]
IDS = [" ".join((verb, *selected)) for verb, selected in SELECTIONS]


REQUIRED = {"--steps": "export:onnx"}
"""values of required options whose value is checked"""


def words_of(verb: str, selected: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Arguments that give only what is required, and arguments that repeat every default."""
    command = commands()[verb]
    chosen = [
        word for selector, value in zip(command.selectors, selected, strict=True) for word in (selector.name, value)
    ]
    positionals: list[str] = []
    required, defaults = list(chosen), []
    for option in command.options[" ".join(selected)]:
        value = option.choices[0] if option.choices else REQUIRED.get(option.name, "x")
        if option.positional:
            positionals.append(value)
        elif option.required:
            required += [option.name, value] * (2 if verb == "amalgamate" and option.name == "--teacher" else 1)
        elif not option.count:
            defaults.append(option.name if option.default == "on" else option.negation)
        elif option.default:
            defaults += [option.name, *option.default.split(" ")]
    return [*positionals, *required], defaults


def test_the_table_is_up_to_date():
    assert FILE.read_text() == as_text(table()), "run: python -m datafree.commands.options.write"


def test_every_command_has_options():
    assert set(FORMS) == set(VERBS) == set(commands())


@pytest.mark.parametrize(("verb", "selected"), SELECTIONS, ids=IDS)
def test_every_option_is_parsed_and_its_default_is_the_one_in_the_table(verb: str, selected: tuple[str, ...]):
    required, defaults = words_of(verb, selected)
    check(verb, [*required, *defaults])
    bare, full = FORMS[verb].parse(required), FORMS[verb].parse([*required, *defaults])
    for field in fields(full):
        assert getattr(bare, field.name) == getattr(full, field.name)


OPTIONS = [option for command in commands().values() for options in command.options.values() for option in options]
DESCRIBED = sorted({(option.name, option.help) for option in OPTIONS})


@pytest.mark.parametrize(("name", "text"), DESCRIBED)
def test_every_option_is_described_in_plain_words(name: str, text: str):
    assert 5 < len(text) < 230 and (text[-1] != "." or text.endswith("...")) and "  " not in text
    assert text not in ("likewise", "how") and not text.startswith("of ")


def test_no_name_is_used_twice():
    for command in commands().values():
        for options in command.options.values():
            names = [option.name for option in options]
            assert len(names) == len(set(names))


def test_only_dataclasses_are_made_to_read_a_default():
    from datafree.benchmarks.bench import Bench

    command = next(field for field in fields(Bench) if field.name == "command")
    assert not isinstance(default_of(command), str)
