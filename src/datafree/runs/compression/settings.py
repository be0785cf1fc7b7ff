"""The settings of a compression: what is compressed, in which steps, and what it may cost."""

from dataclasses import dataclass
from pathlib import Path

from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.runs.compression.folder import SCHEMA, SETTINGS
from datafree.runs.compression.steps import parse_steps
from datafree.runs.hardware import require_threads
from datafree.runs.planning.budget import parse_time
from datafree.runs.serialization import from_json, serializable
from datafree.teachers.options import TeacherOptions
from datafree.types import InputError, require_at_least, require_seed


@serializable
@dataclass(frozen=True, kw_only=True)
class CompressionConfig(TeacherOptions):
    """What is compressed, in which steps."""

    checkpoint: str
    """the network to compress: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    steps: str
    """the steps, in order: distill:NETWORK, prune:RATIO or prune:macs:0.5, quantize:BITS, export:FORMAT; such as
    distill:resnet18,prune:0.5,quantize:w8a8,export:onnx"""
    budget: str = "30m"
    """time for everything, such as 10m or 2h; it is divided over the images and the steps"""
    method: str = "auto"
    """how the images are synthesized, once for all steps: the name of a method, or auto"""
    images: int = 0
    """number of images; 0: as many as a part of the budget allows"""
    data: str = ""
    """real images for the accuracy of each step: digits, mnist, cifar10 or folder:PATH; default: none"""
    data_root: str = ""
    """folder of the data sets; default: $DATAFREE_DATA, else ./data"""
    seed: int = 0
    """random seed"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_steps(self.steps)
        parse_time(self.budget)
        require_at_least(0, images=self.images)
        require_seed(self.seed)
        require_threads(self.threads)


def is_compression(path: Path) -> bool:
    """Return whether a folder holds a compression, finished or not."""
    return (path / SETTINGS).is_file()


def read_settings(path: Path) -> CompressionConfig:
    """Read the settings of a compression from its folder.

    Raises:
        InputError: If the file is damaged.
    """
    file = path / SETTINGS
    content = from_plain(dict[str, object], read_json(file), str(file))
    if content.pop("schema", None) != SCHEMA:
        raise InputError(f"{file} was written by another version of datafree; use that version, or give another --out")
    config = from_json(content, str(file))
    if not isinstance(config, CompressionConfig):
        raise InputError(f"{file}: its content is no compression; restore it from a copy")
    return config
