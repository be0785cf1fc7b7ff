"""A Sphinx extension: the directive `settings` draws a table of a dataclass: the option, default and help of each field."""

import re
from dataclasses import MISSING, Field, fields
from importlib import import_module
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


def docstrings(kind: type) -> dict[str, str]:
    """Return the docstring below each field of a dataclass, those of its base classes included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("datafree"):
            documented = ModuleAnalyzer.for_module(base.__module__).find_attr_docs()
            found |= {
                name: " ".join(lines).strip() for (owner, name), lines in documented.items() if owner == base.__name__
            }
    return found


def default_of(field: Field[Any]) -> str:
    """Return a field's default as it is typed on the command line."""
    if field.default is MISSING:
        return "required" if field.default_factory is MISSING else ""
    match field.default:
        case bool():
            return "on" if field.default else "off"
        case tuple():
            return " ".join(map(str, field.default))
        case _:
            return "" if field.default in (None, "") else str(field.default)


class SettingsTable(SphinxDirective):
    """`{settings} module.Config`; `prefix` is that of the command line, `own` leaves inherited fields out."""

    required_arguments = 1
    option_spec: ClassVar = {"prefix": directives.unchanged, "own": directives.flag}

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        module, _, name = self.arguments[0].rpartition(".")
        kind = getattr(import_module(module), name)
        help_of, prefix = docstrings(kind), self.options.get("prefix", "--")
        shown = [
            field for field in fields(kind) if "own" not in self.options or field.name in vars(kind)["__annotations__"]
        ]
        rows = [["option", "default", "meaning"]]
        rows += [
            [f"`{prefix}{field.name.replace('_', '-')}`", code(default_of(field)), mark_options(help_of[field.name])]
            for field in shown
            if field.name in help_of
        ]
        return [self.table(rows)]

    def table(self, rows: list[list[str]]) -> nodes.table:
        """Return a table whose first row is its head; cells are Markdown."""
        group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 15, 55)), cols=3)
        lines = [nodes.row("", *(nodes.entry("", *self.parse_text_to_nodes(cell)) for cell in row)) for row in rows]
        group += [nodes.thead("", lines[0]), nodes.tbody("", *lines[1:])]
        return nodes.table("", group, classes=["settings"])


def mark_options(text: str) -> str:
    """Return a help text with the options in it as inline code, so that their dashes stay."""
    return re.sub(r"(?<![\w`-])--[a-z][\w.-]*\w", r"`\g<0>`", text)


def code(text: str) -> str:
    """Return text as inline code, and nothing for nothing."""
    return text and f"`{text}`"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("settings", SettingsTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
