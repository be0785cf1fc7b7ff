"""`config.json` of a folder in timm's layout: everything that timm reads in it, checked.

The layout has changed over the years. `pretrained_cfg` may be missing, and its entries then stand at the top; the number and
the names of the classes may stand in either; `model_args` may give channels and classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.teachers.creation import preprocessing_from_config
from datafree.teachers.weights_files import Facts
from datafree.types import InputError

CONFIG = "config.json"
SEPARATE_ARGUMENTS = ("in_chans", "num_classes", "widths")
"""entries of `model_args` that are not passed to timm: other entries define the first two, and widths must be checked"""
IGNORED_ARGUMENTS = (
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "pretrained",
    "scriptable",
    "exportable",
    "no_jit",
)
"""entries of `model_args` without an effect on the trained network"""

Names = tuple[str, ...] | dict[str, str] | None
"""names of classes in order, or by their index"""


@dataclass(frozen=True)
class PretrainedConfig:
    """The entries of `pretrained_cfg` that are used."""

    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    num_classes: int | None = None
    label_names: Names = None
    global_pool: str | None = None


@dataclass(frozen=True)
class ModelConfig:
    """The entries of `config.json` that are used."""

    architecture: str
    pretrained_cfg: PretrainedConfig
    num_classes: int | None = None
    label_names: Names = None
    multi_label: bool = False
    model_args: dict[str, Any] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...] | int | None:
        """Names of the classes, or their number; None if there is neither.

        Raises:
            ValueError: If they contradict each other.
        """
        numbers = (self.num_classes, self.model_args.get("num_classes"), self.pretrained_cfg.num_classes)
        number = next((number for number in numbers if number is not None), None)
        names = self.label_names or self.pretrained_cfg.label_names or ()
        if isinstance(names, dict):
            count = len(names) if number is None else number
            if any(not key.isdecimal() or int(key) >= count for key in names):
                raise ValueError(f"label_names has keys that are no indices of {count} classes")
            names = tuple(names.get(str(index), str(index)) for index in range(count))
        if names and number not in (None, len(names)):
            raise ValueError(f"label_names has {len(names)} names for {number} classes")
        return names or number

    @property
    def facts(self) -> Facts:
        """What the configuration says of the network.

        Raises:
            ValueError: If entries contradict each other.
            InputError: If the preprocessing is none of timm's.
        """
        cfg, args = self.pretrained_cfg, self.model_args
        channels, size = (cfg.input_size[0], cfg.input_size[1:]) if cfg.input_size else (None, None)
        side = args.get("img_size")
        if isinstance(side, (int, list)):
            size = (side, side) if isinstance(side, int) else tuple(side)
            if len(size) != 2 or not all(type(number) is int for number in size):
                raise ValueError(f"img_size of model_args is {side}")
        channels = args.get("in_chans", channels)
        if channels is not None and type(channels) is not int:
            raise ValueError(f"in_chans of model_args is {channels!r}")
        pooling = {"global_pool": cfg.global_pool} if cfg.global_pool and not self.widths else {}
        own = {name: value for name, value in args.items() if name not in (*SEPARATE_ARGUMENTS, *IGNORED_ARGUMENTS)}
        resizing = {name: getattr(cfg, name) for name in ("crop_pct", "crop_mode", "interpolation")}
        return Facts(
            classes=self.classes,
            channels=channels,
            size=size,
            mean=_for_channels(cfg.mean, channels),
            std=_for_channels(cfg.std, channels),
            preprocessing=preprocessing_from_config(resizing),
            arguments=pooling | own,
            multi_label=self.multi_label,
        )


def _for_channels(values: tuple[float, ...] | None, channels: int | None) -> tuple[float, ...]:
    """Average three values per channel to a single one for another number of channels: timm's configurations may say so."""
    averaged = values and channels and len(values) == 3 != channels
    return (sum(values) / len(values),) if values and averaged else values or ()


def read_plain(path: Path) -> dict[str, Any]:
    """Read a `config.json` as plain values, unchecked.

    Raises:
        InputError: If the file is missing or not an object in JSON.
    """
    if not path.exists():
        graph = path.parent / "model.onnx"  # of `datafree quantize` or `datafree export`
        fix = f"give {graph}" if graph.is_file() else f"give a folder with {CONFIG} and a weights file"
        raise InputError(f"{path} does not exist; {fix}")
    return from_plain(dict[str, Any], read_json(path, follow_links=True), str(path))


def parse(plain: Mapping[str, Any], where: str) -> ModelConfig:
    """Return a configuration of timm's with the types of its entries checked.

    Args:
        plain: The content of a `config.json`. Untrusted.
        where: The file, for the error message.

    Raises:
        InputError: If it is not a configuration of a network.
    """
    plain = dict(plain)
    if "pretrained_cfg" not in plain:
        flat = {
            name: value for name, value in plain.items() if name not in ("architecture", "model_args", "multi_label")
        }
        plain["pretrained_cfg"] = {**flat, "label_names": flat.get("label_names", flat.get("labels"))}
    if plain.get("model_args", {}) is None:
        plain["model_args"] = {}
    return from_plain(ModelConfig, plain, where, ignore_unknown=True)
