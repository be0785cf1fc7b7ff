"""A set that was written, in the place of a synthesizer: its images are handed out as if they had just been made.

It is a method like any other to a stream and to an application, but is not in `METHODS`, since it needs a folder. Only
sets of synthesized images are taken: real ones pass the gate of `datafree.real.data`, which counts them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import Ensemble
from datafree.files import sha256_of
from datafree.methods import METHODS
from datafree.sets.image_set import INDEX, read
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.types import Batch, InputError, at_least


@dataclass(frozen=True, kw_only=True)
class SavedConfig(Method):
    """Which set; the same student comes of it as of the stream that made it, where that made all images first."""

    paper: ClassVar[str] = "none, a set that was written"

    images: str = ""
    """folder that `datafree synthesize` wrote"""
    batch_size: int = 0
    """images handed out at a time, in their order and then from the beginning, where the schedule asks for more than
    one batch; 0: all at once"""

    def __post_init__(self) -> None:
        at_least(0, batch_size=self.batch_size)

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=1, refresh_every=0, pool_batches=1)

    @property
    def passes(self) -> float:
        return 0

    def build(self, teacher: Classifier) -> "Saved":
        return Saved(teacher, self)


class Saved(Synthesizer):
    """Hands out a set."""

    def __init__(self, teacher: Classifier, config: SavedConfig) -> None:
        if not config.images:
            raise InputError("the set of images is missing; name its folder with --method.images")
        self.teacher, self.config, self.made = teacher, config, read(Path(config.images))
        self.digest = sha256_of(Path(config.images) / INDEX)  # which has the hashes of all shards
        theirs, ours = tuple(self.made.batch.images.shape[1:]), teacher.shape
        if theirs != ours:
            raise InputError(f"{config.images} has images of {theirs} and the teacher takes {ours}; they must be equal")
        if len(self.made.classes) != len(teacher.classes):
            raise InputError(
                f"{config.images} has {len(self.made.classes)} classes and the teacher {len(teacher.classes)}; "
                "they must be equal"
            )
        self.count, self.place = config.batch_size or len(self.made.batch), 0
        self.found = {
            "the images were synthesized from another teacher than this one": self.made.teacher
            != fingerprint(teacher.model),
            "the images' classes have other names than the teacher's": self.made.classes != teacher.classes,
        }
        unlike = any(self.found.values()) or isinstance(teacher, Ensemble)
        self.answers = None if unlike else self.made.batch.answers
        """what the same teacher said; another one has to be asked, and so has a ensemble, which may unite otherwise"""

    @property
    def notes(self) -> tuple[str, ...]:
        made_by = (f"the images were made by {self.made.made_by}",) if self.made.made_by else ()
        return (*made_by, *(note for note, holds in self.found.items() if holds))

    @property
    def measured_from(self) -> Mapping[str, int]:
        return self.made.measured_from

    @property
    def rests_on(self) -> Mapping[str, str]:
        return {self.config.images: self.digest}

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        batch, kept, device = self.made.batch, self.answers, self.teacher.device
        places = torch.arange(self.place, self.place + self.count) % len(batch)
        self.place = (self.place + self.count) % len(batch)
        answers = None if kept is None else kept[places].to(device)
        return Batch(batch.images[places].to(device), batch.targets[places].to(device), {}, answers)

    def state_dict(self) -> dict[str, Any]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.place = state["place"]


NAMED: dict[str, Method] = METHODS | {"saved": SavedConfig()}
"""every method that can be named where images are used"""
