"""Compress a trained image classifier when its training data is gone.

A teacher knows a data set we do not have. A synthesizer turns what it knows into images. A stream decides when images
are made, kept and shown. An application uses the stream.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from datafree.applications.amalgamation import AmalgamationConfig, amalgamate
    from datafree.applications.continual import ExtensionConfig, extend
    from datafree.applications.distillation import DistillationConfig, distill
    from datafree.applications.pruning import PruningConfig, prune
    from datafree.augmentation import Augmentation
    from datafree.blocks import Blocks
    from datafree.classifier import Classifier, Part, frozen, record
    from datafree.committee import Committee
    from datafree.evaluation import evaluate, health, inception_score, measure, verify
    from datafree.experiment import Experiment, run
    from datafree.methods import METHODS
    from datafree.synthesis import Method, Schedule, Stream, Synthesizer
    from datafree.tasks import AmalgamationTask, ExtensionTask, Task, student_of
    from datafree.teachers import create, load_folder, save_folder
    from datafree.types import Batch, Diverged, InputError
    from datafree.widening import widen

_PLACES = {
    "Classifier": "classifier",
    "Part": "classifier",
    "Committee": "committee",
    "Blocks": "blocks",
    "AmalgamationConfig": "applications.amalgamation",
    "amalgamate": "applications.amalgamation",
    "frozen": "classifier",
    "record": "classifier",
    "ExtensionConfig": "applications.continual",
    "extend": "applications.continual",
    "DistillationConfig": "applications.distillation",
    "distill": "applications.distillation",
    "PruningConfig": "applications.pruning",
    "prune": "applications.pruning",
    "Augmentation": "augmentation",
    "evaluate": "evaluation",
    "health": "evaluation",
    "inception_score": "evaluation",
    "measure": "evaluation",
    "verify": "evaluation",
    "Experiment": "experiment",
    "AmalgamationTask": "tasks",
    "ExtensionTask": "tasks",
    "Task": "tasks",
    "run": "experiment",
    "student_of": "tasks",
    "METHODS": "methods",
    "Method": "synthesis",
    "Schedule": "synthesis",
    "Stream": "synthesis",
    "Synthesizer": "synthesis",
    "create": "teachers",
    "load_folder": "teachers",
    "save_folder": "teachers",
    "Batch": "types",
    "Diverged": "types",
    "InputError": "types",
    "widen": "widening",
}

__all__ = ["__version__", *_PLACES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Public names are imported when they are first used, so that `datafree --help` need not wait for torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'datafree' has no attribute {name!r}")
    return getattr(import_module(f"datafree.{_PLACES[name]}"), name)
