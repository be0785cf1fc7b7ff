"""The folder of a quantised network as a student: its file, and how it was made."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier, fingerprint
from datafree.estimation.estimate import named_method
from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.runs.estimating.history import UNKNOWN, History, history_in, joined
from datafree.runs.quantizing.job import FILES, RESULT
from datafree.teachers.folders import LOCAL
from datafree.types import InputError


def is_quantized(folder: Path) -> bool:
    """Return whether `datafree quantize` wrote a folder."""
    return (folder / RESULT).is_file()


def quantized_file(folder: Path) -> Path:
    """Return the network in a folder that `datafree quantize` wrote.

    Raises:
        InputError: If it is no ONNX file.
    """
    file = folder / FILES["onnx"]
    if not file.is_file():
        raise InputError(
            f"{folder} has a program of torchao, which cannot be estimated; quantise the network with --engine onnx"
        )
    return file


def quantized_history(folder: Path, teacher: Classifier) -> History:
    """Return how a quantised network was made.

    Compared with its own float network, only the images of its calibration count. Compared with another teacher, those of
    its float network count too.

    Args:
        folder: The folder that `datafree quantize` wrote. Untrusted.
        teacher: What it is compared with.

    Raises:
        InputError: If the file with its settings is damaged.
    """
    path = folder / RESULT
    content = from_plain(dict[str, Any], read_json(path), str(path))
    method, network, digest = (
        from_plain(str, content.get(name), f"{path}: {name}") for name in ("method", "network", "network_sha256")
    )
    try:
        calibration = named_method(",".join(word.partition(":")[0] for word in method.split(",")))
    except InputError:  # such as images that were saved before
        return History(None, f"{UNKNOWN}; name their methods with --method")
    if calibration is None or digest == fingerprint(teacher.model):
        return History(calibration)
    before = None
    with suppress(InputError, OSError):
        before = history_in(Path(network.removeprefix(LOCAL)))
    if before is None or before.method is None:
        return History(None, f"{UNKNOWN}, before it was quantised; name their methods with --method")
    return History(joined([calibration, before.method]), before.reason)
