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

LAYERS = ["types", "watch", "classifier", "losses", "pool", "randomness", "synthesis"]
"""a file may import those to its left, never those to its right"""

FOR_METHODS = {*LAYERS, "generators", "augmentation", "blocks", "committee", "features", "filters", "spectrum"}
FOR_APPLICATIONS = {
    *LAYERS,
    *("application", "augmentation", "narrowing", "importance", "blocks", "committee", "filters", "target_net"),
    "applications.distillation",
}
"""distillation is how every student learns, and so the one application that others may build on"""


def imports(name: str) -> set[str]:
    """Every module that a file imports anywhere, datafree's own without the package's name."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "datafree" else {module}
    return {module.removeprefix("datafree.") for module in found}


def own(name: str) -> set[str]:
    """Of these, datafree's own."""
    packages = {known.removesuffix(".__init__") for known in FILES}
    return {module for module in imports(name) if module in packages}


def calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with what is called as it is written."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_there_is_something_to_read():
    assert {"methods.deep_inversion", "methods.noise"} <= set(METHODS)
    assert "applications.distillation" in APPLICATIONS
    assert "synthesis" in own("methods.noise") and "pool" in own("synthesis")


@pytest.mark.parametrize("name", METHODS)
def test_methods_know_neither_data_nor_each_other_nor_applications(name: str):
    assert own(name) <= FOR_METHODS


@pytest.mark.parametrize("name", APPLICATIONS)
def test_applications_know_neither_data_nor_methods_nor_each_other(name: str):
    assert own(name) <= FOR_APPLICATIONS


@pytest.mark.parametrize("place", range(len(LAYERS)))
def test_layers_import_only_what_lies_below_them(place: int):
    assert own(LAYERS[place]) <= set(LAYERS[:place])


def test_what_methods_may_use_reaches_no_real_image():
    reached, todo = set(), [*METHODS, *APPLICATIONS]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [module for module in own(name) if module in FILES]
    assert not reached & {"data", "experiment", "tasks", "training", "demo", "commands", "teachers"}


def test_only_these_open_the_gate_to_real_images():
    assert {name for name in FILES if "data" in own(name)} <= {
        "experiment",
        "training",
        "commands.evaluate",
        "measuring",
        "bench",
    }


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("data", "pictures")])
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
    assert {name for name, _ in found} == {"teachers"}
    for _, call in found:
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert settings.get("weights_only") == "True"


def test_modules_are_imported_by_name_only_where_public_names_are_resolved():
    assert {name for name in FILES for called, _ in calls(name) if called.endswith("import_module")} <= {"__init__"}


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
    assert not [called for called, _ in calls("pictures") if "read" in called or "open" in called or "load" in called]


def test_torch_is_seeded_in_these_places_only():
    seeding = {name for name in FILES for called, _ in calls(name) if "manual_seed" in called}
    assert seeding == {"randomness", "experiment", "making", "training", "measuring"}


@pytest.mark.parametrize("name", [*METHODS, *APPLICATIONS, *sorted(set(LAYERS) - {"randomness"})])
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
    assert len(FILES[name].read_text().splitlines()) <= 500


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_one_file_that_is_read_in_one_sitting(name: str):
    assert len(FILES[name].read_text().splitlines()) <= 200
