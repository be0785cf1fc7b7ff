"""Running the user's own code: finding what a specification names, and saying where it fails."""

import importlib
import importlib.abc
import importlib.util
import re
import shlex
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from datafree.files import read_bytes, sha256_of
from datafree.functions import first_line
from datafree.types import InputError, suggestion

FORM = re.compile(r"(?P<place>.+?\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)(@.+)?", re.DOTALL)
SOURCES = ("torchvision", "transformers", "timm", "hf_hub")
"""first halves of names of other networks, which look like modules"""
INSTALLED = ("site-packages", "dist-packages")
"""folders of installed packages, whose files are not compared when a run is resumed"""


def is_code(spec: str) -> bool:
    """Return whether a network is given as code: `FILE.py:function`, `package.module:function`, or a file of Python.

    A weights file may follow, as in `FILE.py:function@WEIGHTS`.
    """
    match = FORM.fullmatch(spec)
    return spec.endswith(".py") if match is None else match["place"] not in SOURCES


def code_words(used: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the options that name code, word by word.

    Args:
        used: The networks that are used, by the option that names them: `--teacher`, `--student`.
    """
    return [word for option, specs in used.items() for spec in specs if is_code(spec) for word in (option, spec)]


def require_repeated(used: Mapping[str, Sequence[str]], given: Mapping[str, Sequence[str]]) -> None:
    """Check that code that a run folder names was named on the command line, too.

    Args:
        used: The networks that the settings of a run name, by option.
        given: The networks that are named on the command line, by option.

    Raises:
        InputError: If code is not named, or something else is named.
    """
    for option, specs in given.items():
        if other := [spec for spec in specs if not is_code(spec) or spec not in used.get(option, ())]:
            raise InputError(
                f"{option} {other[0]} is no code of this run; a resumed run keeps its networks, so remove this option or give "
                "the words that started the run"
            )
    missing = {option: [spec for spec in specs if spec not in given.get(option, ())] for option, specs in used.items()}
    if words := code_words(missing):
        raise InputError(
            f"this run uses code, which runs only if the command line names it again; add {shlex.join(words)}"
        )


def find(spec: str) -> tuple[Any, dict[str, str]]:
    """Run the file or module of a specification.

    Returns:
        What it names, and the SHA-256 of each file of Python that was run, by its name.

    Raises:
        InputError: If there is no such file or module, or nothing of this name in it.
        Exception: Whatever the code raises.
    """
    form = FORM.fullmatch(spec)
    if form is None:
        raise InputError(f"{spec} is a file of Python; name the function that builds the network: {spec}:build")
    place, names = form["place"], form["name"].split(".")
    module, files = _run_file(Path(place)) if place.endswith(".py") else _import(place)
    target: Any = module
    for name in names:
        if not hasattr(target, name):
            callables = [word for word, value in vars(target).items() if callable(value) and not word.startswith("_")]
            raise InputError(
                f"{place} has no {form['name']!r}{suggestion(name, callables)}; name a function that builds a network"
            )
        target = getattr(target, name)
    return target, files


class _Content(importlib.abc.InspectLoader):
    """Runs the content of a file that was read already."""

    def __init__(self, content: bytes, path: str) -> None:
        self.content, self.path = content, path

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self.content)

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.content, self.path)  # type: ignore[arg-type]


_loaded: dict[str, tuple[ModuleType, dict[str, str]]] = {}
"""modules that were run, with the hashes of their files, so that teacher and student may come from one file"""


def _run_file(path: Path) -> tuple[ModuleType, dict[str, str]]:
    content = read_bytes(path, follow_links=True)
    absolute = path.resolve()
    key = f"{absolute} {hash(content)}"
    if key not in _loaded:
        name = f"_code_of_{absolute.stem}_{len(_loaded)}"
        spec = importlib.util.spec_from_loader(name, _Content(content, str(absolute)), origin=str(absolute))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        module.__file__ = str(absolute)
        with _importing_from(absolute.parent) as files:
            sys.modules[name] = module  # dataclasses look for the module of a class
            spec.loader.exec_module(module)
        _loaded[key] = module, dict(sorted(files.items()))
    return _loaded[key]


def _import(name: str) -> tuple[ModuleType, dict[str, str]]:
    if name not in _loaded:
        with _importing_from(Path.cwd()) as files:
            try:
                module = importlib.import_module(name)
            except ModuleNotFoundError as fault:
                if fault.name is None or not f"{name}.".startswith(f"{fault.name}."):
                    raise
                raise InputError(
                    f"there is no module {fault.name!r}; give FILE.py:function, or run the command where Python finds it"
                ) from fault
        if path := getattr(module, "__file__", None):  # it may have been imported before, or be installed
            own = Path(path).is_relative_to(Path.cwd())
            files[Path(path).relative_to(Path.cwd()).as_posix() if own else Path(path).name] = sha256_of(path)
        _loaded[name] = module, dict(sorted(files.items()))
    return _loaded[name]


@contextmanager
def _importing_from(folder: Path) -> Iterator[dict[str, str]]:
    """Let modules of a folder be imported in a `with` block; fill the dict with the hashes of those that were."""
    files: dict[str, str] = {}
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield files
    finally:
        sys.path.remove(str(folder))
    for name in set(sys.modules) - before:
        path = Path(getattr(sys.modules[name], "__file__", None) or "")
        own = path.is_relative_to(folder) and not set(INSTALLED) & set(path.parts) and not name.startswith("datafree")
        if own and path.is_file():
            files[path.relative_to(folder).as_posix()] = sha256_of(path)


@contextmanager
def user_code(spec: str) -> Iterator[None]:
    """Turn what the user's code raises in a `with` block into a sentence with its file and line.

    Raises:
        InputError: Instead of any exception except an interrupt.
    """
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as fault:
        why = f"{type(fault).__name__}: {first_line(fault)}" if str(fault) else type(fault).__name__
        raise InputError(f"{spec} failed ({why}{_place(fault)}); correct the code") from fault


def _place(fault: BaseException) -> str:
    """Return the file and line of the user's code that an exception was raised in, as the end of a phrase."""
    if isinstance(fault, SyntaxError) and fault.filename:
        return f", {fault.filename}, line {fault.lineno}"
    libraries = (*INSTALLED, str(Path(__file__).parents[2]), "<frozen", sysconfig.get_paths()["stdlib"])
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if not any(folder in frame.filename for folder in libraries)]
    return f", {own[-1].filename}, line {own[-1].lineno}" if own else ""


@contextmanager
def kept_settings() -> Iterator[None]:
    """Restore the global settings of torch that the user's code may change when it is run."""
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
