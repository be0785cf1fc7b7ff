"""Compress a trained image classifier without its training data.

A synthesizer turns the knowledge of a teacher into images. A stream decides when images are synthesized, stored and used. An
application trains a student on the stream.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from datafree.applications.amalgamation import AmalgamationConfig, amalgamate
    from datafree.applications.continual import ExtensionConfig, extend
    from datafree.applications.distillation import DistillationConfig, distill
    from datafree.applications.pruning import PruningConfig, prune
    from datafree.classifier import Classifier, ClassSubset, frozen, record
    from datafree.ensemble import Ensemble
    from datafree.estimation.estimate import estimate
    from datafree.estimation.result import Estimate
    from datafree.evaluation import crosscheck, evaluate, health, inception_score, measure
    from datafree.methods import METHODS
    from datafree.networks.blocks import Blocks
    from datafree.networks.head_surgery import widen
    from datafree.quantization import QuantizationConfig, Quantized, quantize
    from datafree.runs.experiment import Experiment, run
    from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task, create_student
    from datafree.synthesis import Method, Schedule, Stream, Synthesizer
    from datafree.synthesis.augmentation import Augmentation
    from datafree.synthesis.mixture import Mixture, Part
    from datafree.teachers.creation import create
    from datafree.teachers.folders import load_folder, save_folder
    from datafree.teachers.inspection import Inspection, inspect
    from datafree.types import Batch, Diverged, InputError

_MODULES = {
    "applications.amalgamation": ("AmalgamationConfig", "amalgamate"),
    "applications.continual": ("ExtensionConfig", "extend"),
    "applications.distillation": ("DistillationConfig", "distill"),
    "applications.pruning": ("PruningConfig", "prune"),
    "classifier": ("Classifier", "ClassSubset", "frozen", "record"),
    "ensemble": ("Ensemble",),
    "estimation.estimate": ("estimate",),
    "estimation.result": ("Estimate",),
    "evaluation": ("crosscheck", "evaluate", "health", "inception_score", "measure"),
    "methods": ("METHODS",),
    "networks.blocks": ("Blocks",),
    "networks.head_surgery": ("widen",),
    "quantization": ("QuantizationConfig", "Quantized", "quantize"),
    "runs.experiment": ("Experiment", "run"),
    "runs.tasks": ("AmalgamationTask", "ExtensionTask", "Task", "create_student"),
    "synthesis": ("Method", "Schedule", "Stream", "Synthesizer"),
    "synthesis.augmentation": ("Augmentation",),
    "synthesis.mixture": ("Mixture", "Part"),
    "teachers.creation": ("create",),
    "teachers.folders": ("load_folder", "save_folder"),
    "teachers.inspection": ("Inspection", "inspect"),
    "types": ("Batch", "Diverged", "InputError"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `datafree --help` does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'datafree' has no attribute {name!r}")
    return getattr(import_module(f"datafree.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Return all public names, also those that are not imported yet."""
    return sorted({*globals(), *__all__})
