"""The help of a command, printed from the table of options: what most runs need first, everything else below."""

import shutil
from collections.abc import Iterable, Sequence
from textwrap import wrap

from datafree.commands.console.output import OPTIONS
from datafree.commands.options.table import Option, commands, rows
from datafree.commands.verbs import VERBS

USAGE = """usage: datafree COMMAND [OPTIONS]

Compress a trained image classifier without its training data.

commands:
{commands}

`datafree COMMAND --help` shows the options of a command, `datafree --version` the version.
Synthesized images can reveal the teacher's training data; see the privacy note in every report."""

BASIC = (
    *("--teacher", "--student", "--labels", "--others", "--new-data", "--data", "--out", "--results"),
    *("--method", "--recipe", "--into", "--images", "--only", "--per-class", "--format", "--rows"),
    *("--budget", "--steps", "--batch-size", "--lr", "--temperature", "--ratio", "--seed", "--seeds", "--device"),
)
"""options of the basic group, in this order"""

COLUMN = 30
"""where the descriptions start"""
UNBROKEN = "\0"
"""a space at which no line ends"""


def usage() -> str:
    """Return the overview of all commands."""
    width = max(map(len, VERBS))
    indent = " " * (width + 4)
    lines = [_wrapped(f"  {name:<{width}}  {line}", indent) for name, (_, line) in VERBS.items()]
    return "\n".join(map(_wrapped, USAGE.splitlines())).format(commands="\n".join(lines))


def help_text(verb: str, arguments: Sequence[str]) -> str:
    """Return the help of a command, with the options that the given `--method` and the like have."""
    selected, options = rows(verb, arguments)
    selectors = [
        Option(name=s.name, value="NAME", help=s.help.format(", ".join(s.choices)), default=selected[s.name])
        for s in commands()[verb].selectors
    ]
    positionals = [option for option in options if option.positional]
    named = [*selectors, *(option for option in options if not option.positional)]
    of_method = [option for option in named if option.name.startswith("--method.")]
    basic = sorted((o for o in named if o.name in BASIC), key=lambda option: BASIC.index(option.name))
    advanced = [option for option in named if option not in basic and option not in of_method]
    groups = {
        "basic options": [*positionals, *basic],
        **_method_groups(str(selected.get("--method")), of_method),
        "advanced options": advanced,
    }
    groups["output options"] = [
        Option(name=name, help=text, count=0) for name, text in OPTIONS.items() if name not in own_options(verb)
    ]
    sections = [_usage_line(verb, positionals, named), _wrapped(_sentence(VERBS[verb][1]))]
    sections += [f"{title}:\n{section(members)}" for title, members in groups.items() if members]
    if of_method:
        closing = f"`datafree {verb} --method NAME --help` shows the settings and defaults of another method."
        sections.append(_wrapped(closing))
    return "\n\n".join(sections)


def own_options(verb: str) -> list[str]:
    """Return the names of the output options that a command has itself."""
    names = {option.name for rows in commands()[verb].options.values() for option in rows}
    return [name for name in OPTIONS if name in names]


def _method_groups(method: str, options: Sequence[Option]) -> dict[str, list[Option]]:
    """Return the settings of the method under their heading; those of a mixture under one heading for each part."""
    groups: dict[str, list[Option]] = {}
    for option in options:
        part = option.name.split(".")[1] if "," in method else ""
        heading = f"settings of the part {part} of the mixture" if part else f"settings of the method {method}"
        groups.setdefault(heading, []).append(option)
    return groups


def section(options: Iterable[Option]) -> str:
    """Return one line or more for each option."""
    return "\n".join(map(entry, options))


def entry(option: Option) -> str:
    """Return the name and value of an option, and its description beside it or below."""
    name = option.name
    if option.positional:
        name += " ..." if option.count < 0 else ""
    elif not option.count:
        name += f", {option.negation}" if option.default else ""
    left = f"  {name}" if option.positional or not option.value else f"  {name} {option.value}"
    lines = wrap(_description(option), max(_columns() - COLUMN, 30), break_on_hyphens=False)
    lines = [line.replace(UNBROKEN, " ") for line in lines]
    if len(left) > COLUMN - 2:
        return "\n".join([left, *(" " * COLUMN + line for line in lines)])
    return "\n".join([f"{left:<{COLUMN}}{lines[0]}", *(" " * COLUMN + line for line in lines[1:])])


def _columns() -> int:
    """Return the width of the terminal, at most 110 columns."""
    return min(shutil.get_terminal_size((100, 0)).columns, 110)


def _wrapped(line: str, indent: str = "") -> str:
    """Return a line, broken at the width of the terminal; what follows the first line has the indent."""
    return "\n".join(wrap(line, max(_columns(), 50), subsequent_indent=indent, break_on_hyphens=False)) or line


def _description(option: Option) -> str:
    text = option.help
    if option.positional:
        return f"{text}: {', '.join(option.choices)}" if option.choices else text
    if option.required:
        return f"{text} (required)"
    return f"{text} " + f"(default: {option.default})".replace(" ", UNBROKEN) if option.default else text


def _usage_line(verb: str, positionals: Sequence[Option], named: Sequence[Option]) -> str:
    words = [f"{option.name} ..." if option.count < 0 else option.name for option in positionals]
    words += [f"{option.name} {option.value}" for option in named if option.required]
    optional = ["[OPTIONS]"] if any(not option.required for option in named) else []
    return " ".join(["usage: datafree", verb, *words, *optional])


def _sentence(line: str) -> str:
    return line[0].upper() + line[1:] + "."
