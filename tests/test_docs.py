"""Every command in the docs parses, every public name is described, every method is listed."""

import re
import shlex
from pathlib import Path

import pytest
from test_architecture import ROOMS

import datafree
from datafree.benchmarks import BENCHMARKS
from datafree.commands.options.help import help_text
from datafree.commands.options.table import check
from datafree.commands.options.write import FORMS
from datafree.commands.verbs import VERBS
from datafree.methods import METHODS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])


def lines_of(page: Path) -> list[str]:
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", page.read_text(), flags=re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?datafree ", line)]


COMMANDS = sorted({line for page in PAGES if "_build" not in page.parts for line in lines_of(page)})


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_in_the_docs_parses(line: str):
    verb, *arguments = shlex.split(line, comments=True)[1:]
    if verb.startswith("-"):
        return
    if "--help" in arguments:
        assert help_text(verb, arguments)
        return
    check(verb, arguments)
    options = FORMS[verb].parse(arguments)
    if verb == "bench" and options.table in BENCHMARKS:
        assert set(options.bench.rows) <= set(BENCHMARKS[options.table].rows)


def test_every_verb_has_an_example():
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [verb for verb in VERBS if f"datafree {verb}" not in page] == []


def test_every_public_name_is_described():
    page = (ROOT / "docs" / "api.md").read_text()
    names = [name for name in datafree.__all__ if not name.startswith("__")]
    assert [name for name in names if not re.search(rf":: (datafree\.)?{name}\b", page)] == []


def test_every_table_is_named():
    page = (ROOT / "docs" / "cli.md").read_text()
    assert [name for name in BENCHMARKS if f"`{name}`" not in page] == []


def test_every_method_is_in_the_table():
    page = (ROOT / "docs" / "methods" / "index.md").read_text()
    assert [name for name in METHODS if f"`{name}`" not in page] == []


def test_contributing_draws_the_rooms_on_their_floors():
    floors: dict[str, int] = {}
    for room, below in ROOMS.items():
        floors[room] = 1 + max((floors[other] for other in below), default=-1)
    drawn = re.findall(r"^ {4} +(\d+)   (.+)$", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)
    rooms = {room: int(floor) for floor, line in drawn for room in re.split(r" {4,}", line)[0].split()}
    assert rooms == floors
