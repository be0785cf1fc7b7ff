"""The rules of the import graph, read from the source: what makes the library data-free by construction."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import datafree

ROOT = Path(datafree.__file__).parent
FILES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in ROOT.rglob("*.py")}
TREES = {name: ast.parse(path.read_text()) for name, path in FILES.items()}
METHODS = [name for name in FILES if name.startswith("methods.") and name != "methods.__init__"]
APPLICATIONS = [name for name in FILES if name.startswith("applications.") and name != "applications.__init__"]

NOUNS = {"types", "callback", "files", "randomness", "classifier", "ensemble", "losses", "evaluation"}
ROOMS: dict[str, set[str]] = {
    "types": set(),
    "callback": {"types"},
    "files": {"types"},
    "randomness": set(),
    "classifier": {"types"},
    "ensemble": {"types", "classifier"},
    "losses": {"types", "classifier"},
    "evaluation": {"types", "classifier", "ensemble", "losses"},
    "synthesis": {"types", "callback", "files", "randomness", "classifier", "ensemble", "losses"},
    "networks": {"types", "randomness", "classifier"},
    "methods": {"types", "classifier", "ensemble", "losses", "synthesis", "networks"},
    "applications": {"types", "callback", "classifier", "ensemble", "losses", "synthesis", "networks"},
    "teachers": {"types", "files", "classifier", "synthesis", "networks", "methods"},
    "sets": {"types", "files", "classifier", "ensemble", "synthesis", "methods"},
    "real": {"types", "randomness", "classifier", "synthesis"},
    "runs": {*NOUNS, "synthesis", "networks", "methods", "applications", "teachers", "sets", "real"},
    "benchmarks": {*NOUNS, "synthesis", "networks", "methods", "applications", "teachers", "sets", "real", "runs"},
    "commands": {*NOUNS, "synthesis", "methods", "applications", "teachers", "sets", "real", "runs", "benchmarks"},
    "__main__": {"commands"},
}
"""room: the rooms it may import, from the ground up. A file at the top of the package is a room of its own.

`real` is the only room that opens real images. What cannot reach it here is data-free by construction: everything up to
`methods`, `applications`, `teachers` and `sets`.
"""


ABOVE = ("real", "runs", "benchmarks", "commands")
"""rooms that real images are opened in, and those above them"""


def imports(name: str) -> set[str]:
    """Every module that a file imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "datafree" else {module}
    return found


def room(name: str) -> str:
    """The room of a module: its folder, or the file itself at the top of the package."""
    return name.split(".")[0]


def own(name: str) -> set[str]:
    """The modules of datafree that a file imports."""
    packages = {known.removesuffix(".__init__") for known in FILES}
    found = {module.removeprefix("datafree.") for module in imports(name) if module.startswith("datafree.")}
    return found & packages


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with what is called as it is written."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_there_is_something_to_read():
    assert {"methods.deep_inversion", "methods.noise"} <= set(METHODS)
    assert "applications.distillation" in APPLICATIONS
    assert "synthesis" in own("methods.noise") and "synthesis.pool" in own("synthesis.stream")


def test_every_room_is_in_the_table():
    assert {room(name) for name in FILES} - {"__init__"} == set(ROOMS)


@pytest.mark.parametrize("name", [name for name in FILES if name != "__init__"])
def test_a_room_imports_only_the_rooms_below_it(name: str):
    assert {room(module) for module in own(name)} - {room(name)} <= ROOMS[room(name)]


def test_the_table_has_no_cycle_and_is_in_order():
    for place, (name, allowed) in enumerate(ROOMS.items()):
        assert allowed <= set(list(ROOMS)[:place]), f"{name} may import a room above it"


@pytest.mark.parametrize("name", [name for name in FILES if room(name) not in (*ABOVE, "__init__", "__main__")])
def test_nothing_below_the_runs_reaches_real_images(name: str):
    reached, todo = set(), [name]
    while todo:
        module = todo.pop()
        if module in FILES and module not in reached:
            reached.add(module)
            todo += own(module)
    assert not {room(module) for module in reached} & set(ABOVE)


@pytest.mark.parametrize("name", METHODS)
def test_methods_do_not_import_each_other(name: str):
    assert not {module for module in own(name) if room(module) == "methods"}


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_import_no_other_but_distillation_by_which_every_student_learns(name: str):
    shared = {"applications.base", "applications.distillation"}
    assert {module for module in own(name) if room(module) == "applications"} <= shared


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("real.data", "sets.pictures")])
def test_data_sets_are_opened_behind_the_gate_only(name: str):
    assert not {
        module
        for module in imports(name)
        if module.startswith(("sklearn.datasets", "torchvision.datasets", "datasets", "pyarrow"))
    }


@pytest.mark.parametrize("name", FILES)
def test_nothing_runs_what_it_reads(name: str):
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


def test_torch_load_is_called_in_one_place_and_says_weights_only():
    found = [
        (name, call)
        for name in FILES
        for called, call in calls(name)
        if called in ("torch.load", "load") and "torch" in called
    ]
    assert {name for name, _ in found} == {"networks.weights"}
    for _, call in found:
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert settings.get("weights_only") == "True"


def test_modules_are_imported_by_name_only_where_public_names_are_resolved():
    assert {name for name in FILES for called, _ in calls(name) if called.endswith("import_module")} <= {
        "__init__",
        "commands.main",
    }


def test_hooks_live_in_record_only():
    assert {name for name in FILES for called, _ in calls(name) if "register_" in called and "hook" in called} == {
        "classifier"
    }


def test_gradient_flags_and_modes_of_others_change_in_frozen_only():
    for name in METHODS:
        touched = [called for called, _ in calls(name) if called.endswith((".eval", ".train"))]
        assert not [called for called in touched if "teacher" in called or "student" in called]
        assert not [called for called, _ in calls(name) if called.endswith("parameters().requires_grad_")]


def test_what_writes_data_sets_reads_none():
    assert not [
        called for called, _ in calls("sets.pictures") if "read" in called or "open" in called or "load" in called
    ]


def test_torch_is_seeded_in_these_places_only():
    seeding = {name for name in FILES for called, _ in calls(name) if "manual_seed" in called}
    assert seeding == {
        "randomness",
        *(f"runs.{name}" for name in ("experiment", "synthesis_job", "training")),
        "real.feature_measuring",
    }


PURE = ("types", "callback", "classifier", "ensemble", "losses", "synthesis", "methods", "applications", "networks")
"""rooms in which nothing prints, seeds or writes"""


@pytest.mark.parametrize("name", [name for name in FILES if room(name) in PURE])
def test_nothing_prints_seeds_or_writes_where_images_are_made(name: str):
    forbidden = (
        "print",
        "open",
        "torch.manual_seed",
        "manual_seed",
        "torch.save",
        "torch.set_num_threads",
        "os.makedirs",
    )
    assert not [
        called
        for called, _ in calls(name)
        if called in forbidden or called.endswith((".mkdir", ".manual_seed", ".cuda"))
    ]


@pytest.mark.parametrize("name", FILES)
def test_files_are_short_and_say_what_they_are(name: str):
    assert ast.get_docstring(TREES[name])
    assert len(FILES[name].read_text().splitlines()) <= 400


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_file_that_is_read_in_one_sitting(name: str):
    assert len(FILES[name].read_text().splitlines()) <= 200
