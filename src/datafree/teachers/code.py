"""Networks of the user's own code: a function of a Python file or module builds the network, a weights file fills it.

The words that name the function come from the command line or from the user's own program, never from a file: whoever can
choose them can run any code. See `require_repeated` for runs that are resumed.
"""

import importlib
import importlib.abc
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from datafree.classifier import Classifier, frozen, probe_images
from datafree.files import read_bytes, sha256_of
from datafree.functions import FunctionNetwork, first_line
from datafree.networks.building import require_bounded
from datafree.randomness import RandomNumbers
from datafree.synthesis.outputs import inspect_outputs
from datafree.types import InputError, Preprocessing, suggestion
from datafree.weights.reading import load_weights, read_weights, require_finite

FORM = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(\.[^\W\d]\w*)*)", re.DOTALL)
SOURCES = ("torchvision", "transformers", "timm", "hf_hub")
"""first halves of names of other networks, which look like modules"""
INSTALLED = ("site-packages", "dist-packages")
"""folders of installed packages, whose files are not compared when a run is resumed"""


def is_code(spec: str) -> bool:
    """Return whether a network is given as code: `FILE.py:function`, `package.module:function`, or a file of Python."""
    match = FORM.fullmatch(spec)
    return spec.endswith(".py") if match is None else match["place"] not in SOURCES


def require_repeated(used: Sequence[str], given: Sequence[str], option: str) -> None:
    """Check that code that a run folder names was named on the command line, too.

    Args:
        used: The networks that the settings of a run name.
        given: The networks that are named on the command line.
        option: The option that names them, `--teacher` or `--student`.

    Raises:
        InputError: If code is not named, or something else is named.
    """
    code = [spec for spec in used if is_code(spec)]
    if missing := [spec for spec in code if spec not in given]:
        words = " ".join(f"{option} {spec}" for spec in missing)
        raise InputError(f"this run uses code, which runs only if it is named on the command line again; add {words}")
    if other := [spec for spec in given if spec not in code]:
        raise InputError(
            f"{option} is {other[0]}, but this run uses {', '.join(code) or 'no code'}; a resumed run keeps its networks, "
            f"so remove {option}"
        )


def load_code(
    spec: str,
    *,
    weights: str | Path = "",
    classes: Sequence[str] | int | None = None,
    shape: tuple[int, int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    preprocessing: Preprocessing | None = None,
    arguments: Mapping[str, Any] | None = None,
    multi_label: bool = False,
    match: str = "",
) -> Classifier:
    """Build a classifier by the user's own code, in evaluation mode.

    Args:
        spec: `FILE.py:function` or `package.module:function`. The function returns a module, another function of images, or a
            `Classifier`. It may be a class, or the network itself.
        weights: File of weights for the network; if empty, it has the weights that the function gives it.
        classes: Names or number of the classes; default: as many as the network has outputs.
        shape: Channels, height and width of an image.
        mean: Mean of the pixels, per channel; default: 0.
        std: Standard deviation of the pixels, per channel; default: 1.
        preprocessing: How image files of another size are resized and cropped.
        arguments: Arguments of the function. `num_classes` and `in_chans` are passed if they are known and it takes them.
        multi_label: Whether an image can have several labels.
        match: How names of the weights are matched with those of the network.

    Raises:
        InputError: If the code fails, with its file and line; if the function returns no network, or the weights do not fit.
    """
    known = {"num_classes": classes if isinstance(classes, int) or classes is None else len(classes)}
    known["in_chans"] = shape[0] if shape else None
    require_bounded(shape, known["num_classes"])
    given = {"classes": classes, "shape": shape, "mean": mean, "std": std, "preprocessing": preprocessing}
    given["multi_label"] = multi_label or None
    settings = {name: value for name, value in given.items() if value is not None}
    with RandomNumbers(int(torch.randint(2**62, ()))), user_code(spec), _kept_settings():
        target, files = find(spec)
        network = build(spec, target, arguments or {}, {name: n for name, n in known.items() if n is not None})
    classifier = as_classifier(spec, network, settings)
    classifier.code, classifier.dependencies = spec, files
    if weights:
        load_weights(classifier.model, read_weights(weights), str(weights))
    del match
    require_finite(classifier, spec)
    inspect_outputs(classifier, spec)
    return classifier.eval()


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
        _loaded[key] = module, files
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
        if path := getattr(module, "__file__", None):
            files.setdefault(Path(path).name, sha256_of(path))
        _loaded[name] = module, files
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
            files[str(path.relative_to(folder))] = sha256_of(path)


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
    frames = traceback.extract_tb(fault.__traceback__)
    libraries = (*INSTALLED, f"datafree{__file__[-1:]}", str(Path(__file__).parents[1]), "<frozen", sys.base_prefix)
    own = [frame for frame in frames if not any(word in frame.filename for word in libraries)]
    return f", {own[-1].filename}, line {own[-1].lineno}" if own else ""


@contextmanager
def _kept_settings() -> Iterator[None]:
    """Restore the global settings of torch that the user's code may change when it is run."""
    grad, dtype, threads = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


def build(spec: str, target: Any, arguments: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """Call a function that builds a network, with the arguments that it takes.

    Args:
        spec: What an error message calls it.
        target: The function; or the network itself, which is not called.
        arguments: All of them must be taken.
        known: Those that it does not take are left out.

    Raises:
        InputError: If the function does not take an argument, or needs one that is missing.
        Exception: Whatever the function raises.
    """
    if isinstance(target, nn.Module) or not callable(target):
        if arguments:
            raise InputError(f"{spec} is no function and takes no arguments; remove {', '.join(arguments)}")
        return target
    parameters = inspect.signature(target).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in arguments:
        if name not in named and not takes_any:
            raise InputError(
                f"{spec} takes no argument {name!r}{suggestion(name, named)}; it takes {', '.join(named) or 'none'}"
            )
    passed = {name: value for name, value in known.items() if name in named} | dict(arguments)
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    if missing := [name for name in required if name not in passed]:
        raise InputError(
            f"{spec} needs {', '.join(missing)}; give them as arguments, or write a function without arguments"
        )
    return target(**passed)


def as_classifier(spec: str, network: Any, settings: Mapping[str, Any]) -> Classifier:
    """Return what the user's code built as a classifier.

    Raises:
        InputError: If it is no network, a setting is missing, or it is a classifier, which has these settings.
    """
    if isinstance(network, Classifier):
        if settings:
            raise InputError(f"{spec} returns a Classifier, which defines {', '.join(settings)}; remove these options")
        return network
    if not callable(network):
        raise InputError(f"{spec} returns a {type(network).__name__}; return a torch.nn.Module")
    if "shape" not in settings:
        raise InputError(f"the size of the images of {spec} is not known; give it: --input CHANNELS HEIGHT WIDTH")
    with user_code(spec):
        classes = settings.get("classes") or count_outputs(spec, network, settings["shape"])
        return Classifier(network, **{**settings, "classes": classes})


def count_outputs(spec: str, network: Callable[..., Any], shape: tuple[int, int, int]) -> int:
    """Run a network once and return the number of its outputs.

    Raises:
        InputError: If it does not return one row of numbers per image.
        Exception: Whatever the network raises.
    """
    module = network if isinstance(network, nn.Module) else FunctionNetwork(network, probe_images(shape, 2))
    device = next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    with frozen(module), torch.no_grad(), RandomNumbers(0):
        output = module(probe_images(shape, 2).to(device))
    logits = getattr(output, "logits", output)
    if isinstance(logits, torch.Tensor) and logits.ndim == 2 and len(logits) == 2:
        return logits.shape[1]
    what = f"shape {tuple(logits.shape)}" if isinstance(logits, torch.Tensor) else f"type {type(logits).__name__}"
    raise InputError(f"{spec} returns outputs of {what} for 2 images, which have no classes; give --classes")
