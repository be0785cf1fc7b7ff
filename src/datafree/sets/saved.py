"""Train on a saved image set: a method whose synthesizer reads images from disk instead of synthesizing them.

Streams and applications use it like any other method. It is not in `METHODS`, because it needs a folder. It reads
synthesized images only; real images are opened by `datafree.real.data`, which counts them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import Ensemble, whole_teacher
from datafree.files import sha256_of
from datafree.matching import match_classes
from datafree.methods import METHODS
from datafree.methods.pictures import PicturesConfig
from datafree.sets.contact_sheet import labels_of
from datafree.sets.image_set import ImageSet, read, reordered
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.image_sets.index import INDEX
from datafree.types import Batch, InputError, require_at_least


@dataclass(frozen=True, kw_only=True)
class SavedConfig(Method):
    """Read the images of a saved set.

    The student is the same as that of the stream that synthesized the set, if that stream synthesized all images first.
    """

    paper: ClassVar[str] = "none, a saved image set"

    images: str = ""
    """folder written by `datafree synthesize`"""
    batch_size: int = 0
    """images per batch, in order and cyclic, if the schedule asks for more than one batch; 0: all images"""

    def __post_init__(self) -> None:
        require_at_least(0, batch_size=self.batch_size)

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=1, refresh_every=0, pool_batches=1)

    @property
    def passes(self) -> float:
        return 0

    def build(self, teacher: Classifier) -> "Saved":
        return Saved(teacher, self)


class Saved(Synthesizer):
    """Return the images of a saved set, batch by batch.

    Args:
        teacher: The classifier the student is trained to imitate.
        config: The folder and the batch size.

    Raises:
        InputError: If the folder is not given or no image set, or its images or classes do not fit the teacher.
    """

    def __init__(self, teacher: Classifier, config: SavedConfig) -> None:
        if not config.images:
            raise InputError("the folder of the image set is missing; give it with --method.images")
        self.teacher, self.config, self.image_set = teacher, config, read(config.images)
        self.digest = sha256_of(
            Path(config.images) / INDEX, follow_links=False
        )  # covers all shards, whose hashes it lists
        require_fit(self.image_set, teacher, config.images)
        # A teacher over some of its classes takes the images of these classes from a set of all classes.
        whole = teacher if set(teacher.classes) == set(self.image_set.classes) else whole_teacher(teacher)
        match = match_classes(whole.classes, self.image_set.classes, "the teacher", config.images)
        self.batch = reordered(self.image_set.batch, match.order) if match.changes_order else self.image_set.batch
        if len(teacher.classes) < len(whole.classes):
            self.batch = of_classes(self.batch, list(map(whole.classes.index, teacher.classes)), config.images)
        self.count, self.position = config.batch_size or len(self.batch), 0
        same_teacher = self.image_set.teacher_sha256 == fingerprint(whole_teacher(teacher).model)
        same_names = self.image_set.classes == teacher.classes
        self.warnings = {
            "the images were synthesized from a different teacher": not same_teacher,
            match.note: bool(match.note),
        }
        # An ensemble may combine its members in another way than when the set was written.
        reusable = same_teacher and same_names and not isinstance(teacher, Ensemble)
        self.logits = self.batch.teacher_logits if reusable else None
        """stored teacher logits; None if the teacher must compute them"""

    @property
    def notes(self) -> tuple[str, ...]:
        made_by = (f"images synthesized by {self.image_set.made_by}",) if self.image_set.made_by else ()
        return (*made_by, *(warning for warning, applies in self.warnings.items() if applies))

    @property
    def measured_images(self) -> Mapping[str, int]:
        return self.image_set.measured_images

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {self.config.images: self.digest}

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        batch, device = self.batch, self.teacher.device
        indices = torch.arange(self.position, self.position + self.count) % len(batch)
        self.position = (self.position + self.count) % len(batch)
        logits = None if self.logits is None else self.logits[indices].to(device)
        return Batch(batch.images[indices].to(device), batch.targets[indices].to(device), {}, logits)

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def of_classes(batch: Batch, classes: Sequence[int], folder: str) -> Batch:
    """Return the images of some classes, with targets over these classes and without logits.

    An image belongs to the class of its target; with soft labels to the most probable one; with several labels, to each.

    Args:
        batch: The images of a set.
        classes: The indices of the classes, in the order of the new targets.
        folder: The set, for the error message.

    Raises:
        InputError: If the set has no image of these classes.
    """
    columns, targets = torch.tensor(classes), batch.targets
    several = targets.ndim == 2 and bool(((targets == 0) | (targets == 1)).all())
    kept = targets[:, columns].any(1) if several else torch.isin(labels_of(batch), columns)
    if not kept.any():
        raise InputError(f"{folder} has no image of the classes of --labels; use a set with images of these classes")
    indices = (targets[:, None] == columns).int().argmax(1) if targets.ndim == 1 else targets[:, columns]
    return Batch(batch.images[kept], indices[kept], {})


def require_fit(image_set: ImageSet, teacher: Classifier, folder: str) -> None:
    """Check that an image set has the teacher's image shape.

    Raises:
        InputError: If it has not.
    """
    shape = tuple(image_set.batch.images.shape[1:])
    if shape != teacher.shape:
        raise InputError(
            f"{folder} has images of shape {shape}, but the teacher takes {teacher.shape}; use another set"
        )


ALL_METHODS: dict[str, Method] = METHODS | {"pictures": PicturesConfig(), "saved": SavedConfig()}
"""every method that can be selected by name, also those that need a folder"""
