"""The options of a teacher: what its file does not say, or what the user knows better."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datafree.classifier import Classifier
from datafree.files.reading import TEXT_LIMIT, read_bytes
from datafree.teachers.sources import load
from datafree.types import InputError, require_at_least, require_choices

MAX_CLASSES, MAX_NAME = 100_000, 200
"""largest number of class names in a file, and of the characters of one name"""
NAMES_IN = ("id2label", "label_names", "class_names", "classes", "class_to_idx")
"""entries of a JSON file in which class names are looked for"""


@dataclass(frozen=True, kw_only=True)
class TeacherOptions:
    """How a teacher is loaded. What is not given is read from its file, or is the default of its network."""

    weights: str = ""
    """weights file of a network that is given by its name or by code; default: pretrained weights of its library"""
    classes: int = 0
    """number of classes; 0: what the file or the network says"""
    input: tuple[int, ...] = ()
    """channels, height and width of an image; default: what the file or the network says"""
    mean: tuple[float, ...] = ()
    """mean of the training images, per channel or for all, for pixels in [0, 1]; default: what the file or the network says"""
    std: tuple[float, ...] = ()
    """standard deviation of the training images, per channel or for all; default: what the file or the network says"""
    teacher_args: tuple[str, ...] = ()
    """further arguments of the network that is built, as NAME=VALUE: patch_size=2 act_layer=gelu"""
    class_names: str = ""
    """file of class names in the order of the outputs: one name a line, or a JSON list or id2label"""
    multi_label: bool = False
    """whether an image can have several labels: each output is a yes or no of its own"""
    match: Literal["names", "order"] = "names"
    """how tensors of the file find their place in the network: by their names, or by their order and shapes"""

    def __post_init__(self) -> None:
        require_at_least(0, classes=self.classes)
        require_choices(self)

    def settings(self) -> dict[str, Any]:
        """Return the arguments of `teachers.load` that are given.

        Raises:
            InputError: If the input has no three sizes, an argument is not NAME=VALUE, or the class names cannot be read.
        """
        if self.input and (len(self.input) != 3 or not all(1 <= size <= 4096 for size in self.input)):
            raise InputError(f"input is {self.input}; give channels, height and width, each from 1 to 4096")
        names = read_class_names(self.class_names) if self.class_names else ()
        if names and self.classes and len(names) != self.classes:
            raise InputError(
                f"{self.class_names} has {len(names)} class names; give --classes {len(names)}, or leave it out"
            )
        given = {
            "classes": names or self.classes,
            "shape": self.input,
            "mean": self.mean,
            "std": self.std,
            "arguments": parse_arguments(self.teacher_args, "teacher-args"),
            "multi_label": self.multi_label,
            "match": "" if self.match == "names" else self.match,
        }
        return {name: value for name, value in given.items() if value}

    def load_network(self, spec: str, download: bool = True) -> Classifier:
        """Load a network with these options.

        Args:
            spec: See `teachers.load`.
            download: Download weights that are not on this machine yet.

        Raises:
            InputError: If an option is invalid or the network cannot be loaded.
        """
        return load(spec, weights=self.weights, download=download, **self.settings())


def parse_arguments(words: Sequence[str], option: str) -> dict[str, Any]:
    """Parse the arguments of a network, such as `patch_size=2` or `act_layer=gelu`.

    Args:
        words: The arguments; a value that is no JSON is a word.
        option: The option that they are given with, for the error message.

    Raises:
        InputError: If one is not of the form NAME=VALUE.
    """
    arguments: dict[str, Any] = {}
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name or not value:
            raise InputError(f"{option} has {word!r}; write NAME=VALUE, such as patch_size=2")
        try:
            arguments[name] = json.loads(value)
        except (ValueError, RecursionError):
            arguments[name] = value
    return arguments


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read class names, in the order of the outputs of a network.

    Args:
        path: A text file with one name a line; or a JSON file with a list of names, a dict of the kind `id2label`
            (`{"0": "cat"}`) or `class_to_idx` (`{"cat": 0}`), or such an entry in it, as in the `config.json` of transformers.

    Raises:
        InputError: If the file cannot be read, is no such text, or has no name, too many, an empty or a very long one.
    """
    try:
        text = read_bytes(Path(path), TEXT_LIMIT, follow_links=True).decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        raise InputError(f"{path} is not UTF-8 text; give a text file with one class name a line") from fault
    try:
        names = _names_in(json.loads(text)) if text.lstrip()[:1] in ("[", "{") else text.strip("\r\n").splitlines()
    except (ValueError, RecursionError) as fault:
        why = str(fault).splitlines()[0] if str(fault) else "nested too deeply"
        raise InputError(
            f"{path} has no class names ({why}); give one name a line, or a JSON list or id2label"
        ) from fault
    names = [name.strip() for name in names]
    if not 1 <= len(names) <= MAX_CLASSES:
        raise InputError(f"{path} has {len(names)} class names; give 1 to {MAX_CLASSES:,}")
    for number, name in enumerate(names, 1):
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise InputError(
                f"class name {number} in {path} is empty, has control characters, or is longer than {MAX_NAME}; correct it"
            )
    return tuple(names)


def _names_in(node: Any) -> list[str]:
    """Return the class names in a JSON value.

    Raises:
        ValueError: If there are none.
    """
    if isinstance(node, Mapping):
        inner = next((node[entry] for entry in NAMES_IN if entry in node), None)
        if isinstance(inner, (list, Mapping)):
            return _names_in(inner)
        if node and all(type(value) is int for value in node.values()):
            node = {str(index): name for name, index in node.items()}
        if not node or set(node) != {str(index) for index in range(len(node))}:
            raise ValueError("its keys are not the numbers from 0")
        node = [node[str(index)] for index in range(len(node))]
    if isinstance(node, list):
        node = [item[-1] if isinstance(item, list) and item else item for item in node]  # ImageNet: identifier and name
    if not isinstance(node, list) or not all(isinstance(name, str) for name in node):
        raise ValueError("they are not text")
    return node
