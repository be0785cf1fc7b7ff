r"""Pictures of the user: the teacher answers on unlabelled pictures from a folder.

.. math:: x \sim D, \quad y = \arg\max f_T(x)

with a folder :math:`D` of pictures that are unrelated to the teacher's classes, or of a few of the right kind. Their labels,
if there are any, are not used. The student learns from them as from synthesized images, alone or in a mixture.

**Such a run is not data-free.** Methods open no files: a run opens the folder, counts the pictures in its ledger, and hands
them to the method as a `Source`. The differences from the paper are listed in `docs/methods/pictures.md`.

References:
    | Extrapolating from a Single Image to a Thousand Classes using Distillation (Asano and Saeed, 2023)
    | https://arxiv.org/abs/2112.00725
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from datafree.classifier import Classifier, frozen
from datafree.synthesis import Method, Schedule, Synthesizer
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, Images, InputError


@runtime_checkable
class Source(Protocol):
    """Pictures that were opened for a teacher."""

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the pictures."""
        ...

    @property
    def note(self) -> str:
        """How many files could not be read so far, and why; empty if there are none."""
        ...

    def __len__(self) -> int: ...

    def read(self, indices: Tensor) -> Images:
        """Return the pictures with these indices in the teacher's shape, in [0, 1]; those that cannot be read are left out."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return which pictures were read so far."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        ...


@dataclass(frozen=True, kw_only=True)
class PicturesConfig(Method):
    """The folder, and how many pictures are read at once."""

    paper: ClassVar[str] = "Asano and Saeed 2023, arXiv 2112.00725"

    images: str = ""
    """folder of unlabelled pictures, searched with its subfolders; they are resized and cropped as the teacher needs"""

    @property
    def schedule(self) -> Schedule:
        return Schedule(warmup_batches=8, refresh_every=8, pool_batches=64)

    @property
    def passes(self) -> float:
        return 0

    @property
    def distillation(self) -> Mapping[str, Any]:
        """Shifts, and rectangles from other pictures: half of the images have one."""
        return {"augment": Augmentation(relative_shift=0.125, cutmix=0.5)}

    def opened(self, source: Source) -> "OpenedPictures":
        """Return the same settings with the pictures of the folder."""
        return OpenedPictures(source=source, **{f.name: getattr(self, f.name) for f in fields(PicturesConfig)})

    def build(self, teacher: Classifier) -> "Pictures":
        raise InputError("the pictures are not open; use a run, such as `datafree distill --method pictures:FOLDER`")


@dataclass(frozen=True, kw_only=True)
class OpenedPictures(PicturesConfig):
    """The settings with the pictures themselves; it is not stored in run folders."""

    source: Source
    """the pictures"""

    def build(self, teacher: Classifier) -> "Pictures":
        return Pictures(teacher, self)


class Pictures(Synthesizer):
    """Reads the pictures in random order, each once before any is read again, and asks the teacher."""

    def __init__(self, teacher: Classifier, config: OpenedPictures) -> None:
        self.teacher, self.config, self.source = teacher, config, config.source
        self.order = torch.empty(0, dtype=torch.long)

    @property
    def notes(self) -> tuple[str, ...]:
        honest = f"the student sees real pictures of {self.config.images}: the run is not data-free"
        return tuple(filter(None, (honest, self.source.note)))

    @property
    def dependencies(self) -> Mapping[str, str]:
        return {self.config.images: self.source.digest}

    def synthesize(self, student: nn.Module | None = None) -> Batch:
        pictures = self.read_next().to(self.teacher.device)
        with frozen(self.teacher), torch.no_grad():
            logits = self.teacher(pictures)
        return Batch(pictures, self.teacher.predict(logits), {}, logits)

    def read_next(self) -> Images:
        """Return the next pictures: a whole batch, by reading as often as files are damaged.

        Raises:
            InputError: If no picture can be read.
        """
        size, read = self.config.batch_size, 0
        found: list[Images] = []
        while (missing := size - sum(map(len, found))) > 0:
            if len(self.order) < missing:
                self.order = torch.cat([self.order, torch.randperm(len(self.source))])
            indices, self.order = self.order[:missing], self.order[missing:]
            found.append(self.source.read(indices))
            read += len(indices)
            if read >= len(self.source) and not sum(map(len, found)):
                raise InputError(f"no picture of {self.config.images} can be read; give another folder")
        return torch.cat(found)

    def state_dict(self) -> dict[str, Any]:
        return {"order": self.order, "source": self.source.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.order = state["order"]
        self.source.load_state_dict(state["source"])
