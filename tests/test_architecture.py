"""Rules for the source, checked on its syntax tree.

The import graph makes the library data-free by construction; sizes and words keep it readable.
"""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

import datafree

ROOT = Path(datafree.__file__).parent
REPOSITORY = Path(__file__).parents[1]
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
MODULES = {name.removesuffix(".__init__") for name in FILES}
METHODS = [name for name in FILES if name.startswith("methods.") and name != "methods.__init__"]
APPLICATIONS = [name for name in FILES if name.startswith("applications.") and name != "applications.__init__"]

MAX_FILE, MAX_METHOD, MEDIAN_FILE = 400, 200, 150
"""lines of a file"""
MAX_FUNCTION, MOST_FUNCTIONS = 60, 20
"""lines of a function without its docstring: at most, and at most for 90 % of the functions"""
MAX_FILES_PER_FOLDER = 14

TOP_LEVEL = {
    *("errors", "types", "callback", "files", "randomness", "classifier", "ensemble", "matching", "losses"),
    *("processes", "memory_format", "functions", "notebook", "evaluation", "signals", "progress"),
}
ROOMS: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "callback": {"types"},
    "progress": {"types", "callback"},
    "files": {"errors", "types"},
    "randomness": set(),
    "processes": {"errors"},
    "memory_format": {"randomness"},
    "functions": {"errors"},
    "notebook": {"errors", "functions"},
    "classifier": {"types", "functions", "notebook", "memory_format", "processes"},
    "ensemble": {"types", "classifier"},
    "matching": {"types", "classifier"},
    "losses": {"types", "processes", "classifier"},
    "signals": {"types", "classifier", "matching", "losses"},
    "evaluation": {"types", "functions", "classifier", "ensemble", "matching", "losses", "signals"},
    "synthesis": {
        *("types", "processes", "callback", "files", "randomness", "classifier", "ensemble", "matching", "losses"),
        "memory_format",
    },
    "weights": {"types", "files"},
    "networks": {"types", "files", "randomness", "memory_format", "classifier", "weights"},
    "methods": {"types", "processes", "classifier", "ensemble", "matching", "losses", "synthesis", "networks"},
    "applications": {
        *("types", "processes", "callback", "progress", "classifier", "ensemble", "matching", "losses", "synthesis"),
        *("evaluation", "networks"),
    },
    "estimation": {
        *("types", "callback", "files", "randomness", "classifier", "ensemble", "matching", "evaluation", "synthesis"),
        *("weights", "methods"),
    },
    "teachers": {
        *("types", "files", "randomness", "functions", "processes", "classifier", "ensemble", "matching", "evaluation"),
        *("synthesis", "weights", "networks", "methods"),
    },
    "sets": {
        *(
            "errors",
            "types",
            "processes",
            "callback",
            "files",
            "randomness",
            "classifier",
            "ensemble",
            "matching",
            "synthesis",
            "methods",
        ),
    },
    "export": {
        *("types", "callback", "files", "randomness", "classifier", "ensemble", "matching", "evaluation"),
        *("synthesis", "networks", "methods", "teachers", "sets"),
    },
    "quantization": {
        *("types", "callback", "files", "functions", "randomness", "classifier", "losses", "synthesis", "applications"),
        "export",
    },
    "real": {"types", "files", "randomness", "classifier", "matching", "synthesis"},
    "runs": {
        *(*TOP_LEVEL, "synthesis", "networks", "methods", "applications", "estimation", "teachers", "sets", "export"),
        *("quantization", "real"),
    },
    "benchmarks": {
        *(*TOP_LEVEL, "synthesis", "networks", "methods", "applications", "estimation", "teachers", "sets", "real"),
        *("export", "quantization", "runs"),
    },
    "commands": {
        *(*TOP_LEVEL, "synthesis", "methods", "applications", "estimation", "teachers", "sets", "export", "real"),
        *("quantization", "runs", "benchmarks"),
    },
    "__main__": {"commands"},
}
"""Room: the rooms it may import, from the bottom up.

A room is a folder of the package, or a file at its top level. Only `real` opens real images. The rooms that cannot import it,
directly or indirectly, are data-free by construction: all rooms before `real` in this table.
"""

WITH_REAL_IMAGES = ("real", "runs", "benchmarks", "commands")
"""the room that opens real images, and the rooms above it"""


def imports(name: str) -> set[str]:
    """Return all modules that a file imports, anywhere in the file; also the names it imports from them."""
    modules: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            modules |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return modules


def room(name: str) -> str:
    """Return the room of a module: its folder, or the file itself at the top level of the package."""
    return name.split(".")[0]


def own_imports(name: str) -> set[str]:
    """Return the modules of datafree that a file imports."""
    return MODULES & {module.removeprefix("datafree.") for module in imports(name) if module.startswith("datafree.")}


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with the source text of the called function."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_the_source_is_found():
    assert {"methods.deep_inversion", "methods.noise"} <= set(METHODS)
    assert "applications.distillation" in APPLICATIONS
    assert "synthesis" in own_imports("methods.noise") and "synthesis.pool" in own_imports("synthesis.stream")


def test_every_room_is_in_the_table():
    assert {room(name) for name in FILES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__"])
def test_a_room_only_imports_the_rooms_in_its_row(name: str):
    assert {room(module) for module in own_imports(name)} - {room(name)} <= ROOMS[room(name)]


def test_the_table_has_no_cycle_and_is_in_order():
    for row, (name, allowed) in enumerate(ROOMS.items()):
        assert allowed <= set(list(ROOMS)[:row]), f"{name} may import a room above it"


@pytest.mark.parametrize(
    "name", [name for name in FILES if room(name) not in (*WITH_REAL_IMAGES, "__init__", "__main__")]
)
def test_data_free_rooms_do_not_reach_real_images(name: str):
    reached, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += own_imports(module if module in FILES else f"{module}.__init__")
    assert not {room(module) for module in reached} & set(WITH_REAL_IMAGES)


@pytest.mark.parametrize("name", METHODS)
def test_methods_do_not_import_each_other(name: str):
    assert not {module for module in own_imports(name) if room(module) == "methods"}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_share_only_trainer_losses_and_distillation(name: str):
    shared = {
        f"applications.{file}"
        for file in (
            "base",
            "trainer",
            "distillation",
            "continual_losses",
            "hints",
            "pruning_goals",
            "selection",
            "running_statistics",
            "showing",
        )
    }
    assert {module for module in own_imports(name) if room(module) == "applications"} <= shared


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("real.datasets", "sets.pictures")])
def test_data_sets_are_read_in_one_place(name: str):
    assert not {
        module
        for module in imports(name)
        if module.startswith(("sklearn.datasets", "torchvision.datasets", "datasets", "pyarrow"))
    }


@pytest.mark.parametrize("name", [name for name in FILES if name != "real.data"])
def test_data_sets_are_read_through_the_ledger_only(name: str):
    readers = {"real.datasets", "real.image_files", "real.image_folders", "real.decoding"}
    assert not readers & own_imports(name) or name in readers


@pytest.mark.parametrize("name", FILES)
def test_no_input_is_executed(name: str):
    roots = {module.split(".")[0] for module in imports(name)}
    assert not roots & {"pickle", "dill", "cloudpickle", "marshal", "shelve", "subprocess", "yaml"}
    forbidden = (
        "eval",
        "exec",
        "compile",
        "__import__",
        "torch.hub",
        "torch.jit",
        "os.system",
        "np.load",
        "numpy.load",
    )
    assert not [
        called
        for called, _ in calls(name)
        if called.startswith(tuple(f"{f}." for f in forbidden)) or called in forbidden
    ]


def test_torch_load_is_called_in_one_place_with_weights_only():
    loads = [
        (name, call)
        for name in FILES
        for called, call in calls(name)
        if called in ("torch.load", "load") and "torch" in called
    ]
    assert {name for name, _ in loads} == {"weights.reading"}
    for _, call in loads:
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert settings.get("weights_only") == "True"


def test_modules_are_imported_by_name_only_for_public_names_and_verbs():
    assert {name for name in FILES for called, _ in calls(name) if called.endswith("import_module")} <= {
        "__init__",
        "commands.main",
        "teachers.code.running",
    }


def test_hooks_are_registered_in_record_only():
    """Besides those of FSDP, which gathers layers by hooks."""
    found = {name for name in FILES for called, _ in calls(name) if "register_" in called and "hook" in called}
    assert found == {"classifier", "processes.sharding"}


def test_methods_do_not_change_modes_or_gradient_flags_of_other_networks():
    for name in METHODS:
        changed = re.compile(r"(teacher|student)(\.\w+)*\.(eval|train|requires_grad_)$")
        assert not [called for called, _ in calls(name) if changed.search(called)]
        assert not [called for called, _ in calls(name) if called.endswith(".parameters().requires_grad_")]


def test_the_module_that_writes_data_sets_reads_none():
    assert not [
        called for called, _ in calls("sets.pictures") if "read" in called or "open" in called or "load" in called
    ]


def test_torch_is_seeded_in_few_places():
    seeding = {name for name in FILES for called, _ in calls(name) if "manual_seed" in called}
    assert seeding == {
        "randomness",
        *(f"runs.{name}" for name in ("planning.setup", "synthesizing.job", "training")),
        "real.feature_measuring",
        *(f"benchmarks.estimates.{name}" for name in ("training", "scores")),
    }


PURE = ("types", "callback", "classifier", "ensemble", "losses", "synthesis", "methods", "applications", "networks")
"""rooms without printing, seeding and writing"""


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in PURE])
def test_pure_rooms_do_not_print_seed_or_write(name: str):
    forbidden = (
        "print",
        "open",
        "torch.manual_seed",
        "manual_seed",
        "torch.save",
        "torch.set_num_threads",
        "os.makedirs",
    )
    in_a_child = {"torch.set_num_threads"} if name == "weights.isolation" else set[str]()
    assert not [
        called
        for called, _ in calls(name)
        if (called in forbidden or called.endswith((".mkdir", ".manual_seed", ".cuda"))) and called not in in_a_child
    ]


def length(name: str) -> int:
    """Return the number of lines of a file."""
    return len(FILES[name].read_text().splitlines())


def function_lengths() -> dict[str, int]:
    """Return the number of lines of each function, without decorators and docstring."""
    lengths = {}
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= (node.body[0].end_lineno or 0) - node.body[0].lineno + 1
                lengths[f"{name}:{node.lineno} {node.name}"] = lines
    return lengths


@pytest.mark.parametrize("name", FILES)
def test_files_are_short_and_have_a_docstring(name: str):
    assert ast.get_docstring(TREES[name])
    assert length(name) <= MAX_FILE


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_short_file(name: str):
    assert length(name) <= MAX_METHOD


def test_the_median_file_is_short():
    assert statistics.median(length(name) for name in FILES if not name.endswith("__")) <= MEDIAN_FILE


def test_folders_are_small():
    folders = [path.parent for path in FILES.values()]
    assert {
        str(folder): folders.count(folder) for folder in folders if folders.count(folder) > MAX_FILES_PER_FOLDER
    } == {}


def test_functions_are_short():
    lengths = function_lengths()
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION} == {}
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= MOST_FUNCTIONS


QUAINT = (
    "to be had",
    "is no verb",
    "says itself",
    "has no value that",
    "taken off",
    "everything random",
    "likewise",
    "in the place of",
    "leave first",
    "images( are| were|,)? moved",
    "movements of the images",
    "a part is",
    "a part of one",
    "by their places",
    "judges? the student",
    "who knows",
    "who learns",
    "who answers",
    "whom",
    "whoever",
    "nobody",
    "anew",
    "begun at",
    "matter of health",
    "older than some of the code",
    "so many",
    "of which nothing",
    "(teacher|student|network) (is|was|are) shown",
    "is shown of",
    "looked at",
    "looks at",
    "is to be seen",
    "are to be seen",
    "as it comes",
    "mend(s|ed)?",
    "folder to write(?! to)",
    "to come of",
    "came out",
    "another place",
)
"""Phrases of an earlier style, as regular expressions; the documentation uses plain technical English."""

TEXTS = [
    path
    for path in [
        *(path for suffix in ("py", "html") for path in ROOT.rglob(f"*.{suffix}")),
        *(path for folder in ("docs", "examples") for path in (REPOSITORY / folder).rglob("*.*")),
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
    ]
    if path.suffix in (".py", ".md", ".html") and "_build" not in path.parts
]


@pytest.mark.parametrize("phrase", QUAINT)
def test_texts_are_plain_english(phrase: str):
    pattern = re.compile(rf"\b{phrase}\b".replace(" ", r"[\s#]+"), re.IGNORECASE)
    counts = {str(path.relative_to(REPOSITORY)): len(pattern.findall(path.read_text())) for path in TEXTS}
    assert {path: count for path, count in counts.items() if count} == {}
