"""Train on a saved image set: a method whose synthesizer reads images from disk instead of synthesizing them.

Streams and applications use it like any other method. It is not in `METHODS`, because it needs a folder. It reads
synthesized images only; real images are opened by `datafree.real.data`, which counts them.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import Ensemble, whole_teacher
from datafree.files import sha256_of
from datafree.matching import match_classes
from datafree.methods import METHODS
from datafree.methods.pictures import PicturesConfig
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.image_sets import StoredSet, reordered_targets
from datafree.synthesis.image_sets.index import INDEX, Index
from datafree.types import Batch, InputError, Targets, require_at_least


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
    """Return the images of a saved set, batch by batch. The images stay on disk until they are read.

    Args:
        teacher: The classifier the student is trained to imitate.
        config: The folder and the batch size.

    Raises:
        InputError: If the folder is not given or no image set, or its images or classes do not fit the teacher.
    """

    def __init__(self, teacher: Classifier, config: SavedConfig) -> None:
        if not config.images:
            raise InputError("the folder of the image set is missing; add it to the name, as in saved:FOLDER")
        self.teacher, self.config = teacher, config
        self.stored = StoredSet(config.images)
        self.about = self.stored.index
        self.digest = sha256_of(
            Path(config.images) / INDEX, follow_links=False
        )  # covers all shards, whose hashes it lists
        require_fit(self.stored, teacher, config.images)
        # A teacher over some of its classes takes the images of these classes from a set of all classes.
        whole = teacher if set(teacher.classes) == set(self.about.classes) else whole_teacher(teacher)
        match = match_classes(whole.classes, self.about.classes, "the teacher", config.images)
        self.order = match.order if match.changes_order else None
        """for each class of the teacher, its index in the set; None if they are the same"""
        self.columns: list[int] = []
        """indices of the classes of a teacher over some of its classes"""
        self.kept: Tensor | None = None
        """positions of the images of these classes; None: all"""
        if len(teacher.classes) < len(whole.classes):
            self.columns = list(map(whole.classes.index, teacher.classes))
            self.kept = self.of_classes()
        self.count, self.position = config.batch_size or len(self), 0
        same_teacher = self.about.teacher_sha256 == fingerprint(whole_teacher(teacher).model)
        same_names = self.about.classes == teacher.classes
        self.warnings = {
            "the images were synthesized from a different teacher": not same_teacher,
            match.note: bool(match.note),
        }
        # An ensemble may combine its members in another way than when the set was written.
        self.keeps_logits = self.about.logits_kept and same_teacher and same_names and not isinstance(teacher, Ensemble)
        """whether the stored logits are used; otherwise the teacher computes them"""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.stored) if self.kept is None else len(self.kept)

    @property
    def notes(self) -> tuple[str, ...]:
        made_by = (f"images synthesized by {short(self.about)}",) if self.about.made_by else ()
        return (*made_by, *(warning for warning, applies in self.warnings.items() if applies))

    @property
    def measured_images(self) -> Mapping[str, int]:
        return self.about.measured_images

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {self.config.images: self.digest}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tensors of an image, as in a pool."""
        return ("images", "targets", *(("teacher_logits",) if self.keeps_logits else ()))

    @property
    def image_bytes(self) -> int:
        """Bytes of an image with its other tensors."""
        return self.stored.image_bytes

    @property
    def stored_images(self) -> "Saved | None":
        return self if self.count == len(self) else None

    def rows(self, positions: Tensor, names: Sequence[str] = ()) -> dict[str, Tensor]:
        """Return rows of the images, their targets or the logits, as the teacher has its classes.

        Args:
            positions: Indices of images, on the CPU.
            names: Names of the tensors; all if empty.
        """
        names = names or self.names
        stored = positions if self.kept is None else self.kept[positions]
        tensors = self.stored.tensors(stored, [STORED.get(name, name) for name in names])
        if "targets" in tensors:
            tensors["targets"] = self.own_targets(tensors["targets"])
        return {name: tensors[STORED.get(name, name)].to(self.teacher.device) for name in names}

    def own_targets(self, targets: Targets) -> Targets:
        """Return targets of the set as targets of the teacher."""
        if self.order is not None:
            targets = reordered_targets(targets, self.order)
        if self.columns:
            return targets[:, self.columns] if targets.ndim == 2 else place_of(targets, self.columns)
        return targets

    def of_classes(self) -> Tensor:
        """Return the positions of the images of some classes of the teacher.

        An image belongs to the class of its target; with soft labels to the most probable one; with several labels, to each.

        Raises:
            InputError: If the set has no image of these classes.
        """
        columns, found = torch.tensor(self.columns), []
        for start in range(0, len(self.stored), TARGETS_AT_ONCE):
            positions = torch.arange(start, min(start + TARGETS_AT_ONCE, len(self.stored)))
            targets = self.stored.tensors(positions, ("targets",))["targets"]
            targets = targets if self.order is None else reordered_targets(targets, self.order)
            labels = targets if targets.ndim == 1 else targets.argmax(1)
            has = targets[:, columns].any(1) if self.stored.multi_hot else torch.isin(labels, columns)
            found.append(positions[has])
        kept = torch.cat(found)
        if not len(kept):
            raise InputError(
                f"{self.config.images} has no image of the classes of --labels; use a set with images of these classes"
            )
        return kept

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        tensors = self.rows(torch.arange(self.position, self.position + self.count) % len(self))
        self.position = (self.position + self.count) % len(self)
        return Batch(tensors["images"], tensors["targets"], {}, tensors.get("teacher_logits"))

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


STORED = {"teacher_logits": "logits"}
"""names of tensors in the shards, where they are others than in a pool"""
TARGETS_AT_ONCE = 4096
"""targets that are read at once to find images of some classes"""


MADE_BY = re.compile(r"(\w+?)(?:Config)?\(.*\)(, seed .*)", re.DOTALL)
"""the text of `origin_of`: a method with all its settings, and the seed"""


def short(index: Index) -> str:
    """Return which method made a set, with its seed and without its settings, which the index of the set lists."""
    match = MADE_BY.fullmatch(index.made_by)
    if not match:
        return index.made_by
    return f"{'a mixture of ' + ' and '.join(index.parts) if index.parts else match[1]}{match[2]}"


def place_of(targets: Targets, columns: Sequence[int]) -> Targets:
    """Return class indices as places in a list of classes."""
    return (targets[:, None] == torch.tensor(columns)).int().argmax(1)


def require_fit(stored: StoredSet, teacher: Classifier, folder: str) -> None:
    """Check that an image set has the teacher's image shape.

    Raises:
        InputError: If it has not.
    """
    if stored.shape != teacher.shape:
        raise InputError(
            f"{folder} has images of shape {stored.shape}, but the teacher takes {teacher.shape}; use another set"
        )


ALL_METHODS: dict[str, Method] = METHODS | {"pictures": PicturesConfig(), "saved": SavedConfig()}
"""every method that can be selected by name, also those that need a folder"""
