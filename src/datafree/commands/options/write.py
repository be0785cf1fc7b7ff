"""Write `options.json`, the table of all options: `python -m datafree.commands.options.write` after any change to them.

The dataclasses stay the only source: names, types and defaults are their fields, descriptions the strings below them.
"""

import ast
import inspect
import json
import types
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from datafree.commands import (
    estimates,
    experiments,
    exports,
    images,
    networks,
    runs,
    tables,
    teachers,
)
from datafree.commands.integers import compressing, quantizing
from datafree.commands.options.bounds import bounds_of
from datafree.commands.options.parsing import Flat, Form, Positional, Repeated
from datafree.commands.options.table import FILE, Option
from datafree.commands.results import reports
from datafree.files import write_text
from datafree.methods import METHODS
from datafree.runs.planning.halving import OPTION

FORMS: dict[str, Form] = {
    form.verb: form
    for module in (
        tables,
        experiments,
        images,
        networks,
        estimates,
        exports,
        quantizing,
        compressing,
        teachers,
        runs,
        reports,
    )
    for form in module.FORMS
}
"""command: its options"""

PLACEHOLDERS = {
    **dict.fromkeys(("teacher", "student", "network", "networks"), "NETWORK"),
    **dict.fromkeys(("data", "new_data"), "DATA"),
    **dict.fromkeys(("out", "results", "data_root", "images", "start_images"), "FOLDER"),
    **dict.fromkeys(("weights", "feature_statistics"), "FILE"),
    **dict.fromkeys(("optimizer", "precision"), "NAME"),
    "device": "DEVICE",
    "budget": "TIME",
    "memory": "SIZE",
    **dict.fromkeys(("labels", "only"), "LABEL"),
    "rows": "ROW",
    **dict.fromkeys(("student_args", "teacher_args"), "NAME=VALUE"),
    **dict.fromkeys(("class_names", "page"), "FILE"),
    "push_to_hub": "OWNER/NAME",
    "target": "TARGET",
    "time": "METHOD",
    "checkpoint": "CHECKPOINT",
}
"""field of text or of a path: what its value is called in the help"""
KINDS = {int: "INT", float: "FLOAT", Path: "PATH", str: "TEXT"}


def table() -> dict[str, Any]:
    """Return the options of all commands; blocks that several selections share are listed once."""
    blocks: dict[str, list[dict[str, Any]]] = {}
    commands = {}
    for verb, form in FORMS.items():
        selections = {}
        for selected in product(*(selector.choices for selector in form.selectors)):
            names = []
            for kind, options in blocks_of(form.options(*selected)):
                block = [as_row(with_auto(option, form)) for option in options]
                names.append(name_block(blocks, kind, block, " ".join((verb, *selected))))
            selections[" ".join(selected)] = names
        commands[verb] = {"selectors": [as_row(selector) for selector in form.selectors], "options": selections}
    return {"commands": commands, "blocks": blocks, "methods": listed_methods()}


def with_auto(option: Option, form: Form) -> Option:
    """Return an option; the batch size of a method that is no saved set may be `auto` in a command that runs an experiment."""
    if form in experiments.FORMS and OPTION.fullmatch(option.name) and option.minimum:
        return replace(option, value="INT|auto", help=f"{option.help}; auto: halved until a step fits into the memory")
    return option


def listed_methods() -> dict[str, dict[str, Any]]:
    """Return what the list of methods says about each."""
    return {
        name: {"paper": method.paper, "needs": list(method.needs), "passes": method.passes}
        for name, method in METHODS.items()
    }


def name_block(blocks: dict[str, list[Any]], kind: str, block: list[Any], selection: str) -> str:
    """Add a block unless an equal one of its dataclass is there, and return its name."""
    for name, other in blocks.items():
        if name.split(" ")[0] == kind and other == block:
            return name
    name = f"{kind} {selection}"
    blocks[name] = block
    return name


def as_row(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass that differ from their defaults, as JSON."""
    defaults = {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(value)}
    row = {name: list(field) if isinstance(field, tuple) else field for name, field in asdict(value).items()}
    return {name: field for name, field in row.items() if field != defaults[name] and field != []}


def blocks_of(
    kind: Any, values: Any = None, prefix: str = "", flat: bool = False
) -> Iterator[tuple[str, list[Option]]]:
    """Yield the name of each dataclass and its options, those of nested dataclasses after its own.

    Args:
        kind: The dataclass.
        values: Its value, if the defaults are not those of the dataclass.
        prefix: Of the options' names, such as `method.`.
        flat: Whether nested dataclasses add no prefix.
    """
    hints, own, nested = get_type_hints(kind, include_extras=True), [], []
    for f in fields(kind):
        hint, marks = split(hints[f.name])
        value = default_of(f) if values is None else getattr(values, f.name)
        if is_dataclass(hint):
            inner = flat or Flat in marks
            nested.append((hint, None if value is MISSING else value, prefix if inner else f"{prefix}{f.name}.", inner))
        else:
            own.append(option_of(f, hint, marks, value, prefix, kind))
    if own:
        yield kind.__name__, own
    for arguments in nested:
        yield from blocks_of(*arguments)


def option_of(f: "Field[Any]", hint: Any, marks: list[Any], value: Any, prefix: str, kind: type[Any]) -> Option:
    """Return the option that a field of a dataclass becomes."""
    value = None if isinstance(value, Path) and not value.parts else value
    repeated, positional = Repeated in marks, Positional in marks
    placeholder, count, choices = shape_of(f.name, get_args(hint)[0] if repeated else hint)
    name = PLACEHOLDERS.get(f.name, "") if positional and f.name in ("teacher", "networks") else f.name.upper()
    text = next((mark.help for mark in marks if getattr(mark, "help", None)), None)
    minimum, maximum = bounds_of(kind).get(f.name, (None, None))
    return Option(
        name=name if positional else f"--{prefix}{f.name.replace('_', '-')}",
        help=" ".join((text or docs_of(kind)[f.name]).split()),
        value=name if positional else placeholder,
        count=count,
        default="" if value is MISSING else shown(value),
        choices=choices,
        required=value is MISSING and f.default_factory is MISSING,
        minimum=minimum,
        maximum=maximum,
    )


def split(hint: Any) -> tuple[Any, list[Any]]:
    """Return a type without its annotations and without None, and the annotations."""
    hint, marks = (get_args(hint)[0], list(get_args(hint)[1:])) if get_origin(hint) is Annotated else (hint, [])
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    return hint, marks


def default_of(f: "Field[Any]") -> Any:
    """Return the default of a field; of those made on the spot, only dataclasses and none other."""
    if f.default_factory is not MISSING and is_dataclass(made := f.default_factory()):
        return made
    return f.default


def shape_of(name: str, hint: Any) -> tuple[str, int, tuple[str, ...]]:
    """Return the placeholder of an option's value, the number of values, and the choices."""
    if hint is bool:
        return "", 0, ()
    if get_origin(hint) is tuple:
        first, *others = get_args(hint)
        placeholder, _, choices = shape_of(name, first)
        if others == [...]:
            return f"{placeholder} ...", -1, choices
        return " ".join([placeholder] * (1 + len(others))), 1 + len(others), choices
    if get_origin(hint) is Literal:
        choices = tuple(filter(None, get_args(hint)))
        return "|".join(choices), 1, choices
    return (PLACEHOLDERS.get(name) if hint in (str, Path) else None) or KINDS[hint], 1, ()


def shown(value: Any) -> str:
    """Return a default for the help; nothing if the description says what happens without a value."""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


@cache
def docs_of(kind: type[Any]) -> dict[str, str]:
    """Return the string below each field of a dataclass and of its bases, by the field's name."""
    docs: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        body = ast.parse(dedent(inspect.getsource(base))).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
        for node, below in zip(body, body[1:], strict=False):
            if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[ast.unparse(node.target)] = ast.literal_eval(below.value)
    return docs


def as_text(content: dict[str, Any]) -> str:
    """Return the table as JSON, one option a line."""

    def lines(name: str, rows: Iterable[str], indent: str, brackets: str) -> str:
        inner = ",\n".join(f"{indent}  {row}" for row in rows)
        return f"{indent}{json.dumps(name)}: {brackets[0]}\n{inner}\n{indent}{brackets[1]}"

    commands, blocks = [], []
    for name, command in content["commands"].items():
        selections = [f"{json.dumps(key)}: {json.dumps(names)}" for key, names in command["options"].items()]
        rows = [
            f'"selectors": {json.dumps(command["selectors"])}',
            lines("options", selections, "      ", "{}").strip(),
        ]
        commands.append(lines(name, rows, "    ", "{}").strip())
    for name, block in content["blocks"].items():
        blocks.append(lines(name, map(json.dumps, block), "    ", "[]").strip())
    methods = [f"{json.dumps(name)}: {json.dumps(row)}" for name, row in content["methods"].items()]
    parts = [
        lines("commands", commands, "  ", "{}"),
        lines("blocks", blocks, "  ", "{}"),
        lines("methods", methods, "  ", "{}"),
    ]
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    write_text(FILE, as_text(table()))
