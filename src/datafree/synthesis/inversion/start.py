"""Where the optimization of images starts: from noise, from drawn pictures, or from a saved image set.

References:
    | Noise: Dreaming to Distill: Data-free Knowledge Transfer via DeepInversion (Yin et al., 2020), section 3.1
    | https://arxiv.org/abs/1912.08795
    | Pictures: Inceptionism: Going Deeper into Neural Networks (Mordvintsev et al., 2015)
    | https://research.google/blog/inceptionism-going-deeper-into-neural-networks/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from datafree import processes
from datafree.classifier import Classifier
from datafree.files import sha256_of
from datafree.synthesis.drawings import Artist
from datafree.synthesis.image_sets import StoredSet
from datafree.synthesis.image_sets.index import INDEX
from datafree.synthesis.inversion.targets import TargetChoice as TargetChoice
from datafree.synthesis.inversion.targets import nearest_targets, sample_targets
from datafree.synthesis.spectrum import noise
from datafree.types import InputError, Targets

StartChoice = Literal["noise", "natural", "procedural", "saved"]


class Start:
    """The images that an optimization starts from, batch by batch.

    Args:
        teacher: Defines shape, device and normalisation.
        choice: White noise, noise with the spectrum of photographs, procedural pictures, or the images of a saved set, in
            order and cyclic.
        folder: The folder of the saved set.

    Raises:
        InputError: If the folder is missing, given for nothing, no image set, or its images have another shape than the
            teacher's.
    """

    def __init__(self, teacher: Classifier, choice: StartChoice, folder: str = "") -> None:
        self.teacher, self.choice, self.folder = teacher, choice, folder
        if bool(folder) != (choice == "saved"):
            raise InputError(
                "start_images names an image set, but start is not saved; set start to saved (--method.start saved)"
                if folder
                else "start is saved, but the folder of the image set is missing; give it with start_images "
                "(--method.start-images)"
            )
        self.artist = Artist(teacher) if choice == "procedural" else None
        self.position = 0
        if folder:
            self.image_set = StoredSet(folder)
            self.digest = sha256_of(
                Path(folder) / INDEX, follow_links=False
            )  # covers all shards, whose hashes it lists
            if (shape := self.image_set.shape) != teacher.shape:
                raise InputError(
                    f"{folder} has images of shape {shape}, but the teacher takes {teacher.shape}; use another set as start"
                )

    @property
    def measured_images(self) -> Mapping[str, int]:
        """Number of real images by source that the statistics behind the saved set were measured on."""
        return self.image_set.index.measured_images if self.folder else {}

    @property
    def dependencies(self) -> Mapping[str, str]:
        """SHA-256 of the saved set by its folder."""
        return {self.folder: self.digest} if self.folder else {}

    def begin(
        self, count: int, targets: TargetChoice = "random", extra_label_probability: float = 0.0
    ) -> tuple[Tensor, Targets]:
        """Return the first images of a batch and what they should be predicted as.

        Args:
            count: Number of images. With several processes, each gets its part of them.
            targets: Random classes; each class equally often; or the balanced assignment nearest to the teacher's
                predictions on the images.
            extra_label_probability: If multi-label, the probability of each further label; not used with `nearest`.

        Returns:
            Images in the normalised space of the teacher, of shape `(count, c, h, w)`, and targets.
        """
        if targets == "nearest":
            first = self.draw(count)
            return first, nearest_targets(self.teacher, self.teacher.denormalize(first).clamp(0, 1))
        chosen = sample_targets(self.teacher, count, targets, extra_label_probability)
        return self.draw(count), processes.part(chosen)

    def draw(self, count: int) -> Tensor:
        """Return images in the normalised space of the teacher: those of this process among `count`."""
        return processes.part(self.draw_all(count))

    def draw_all(self, count: int) -> Tensor:
        """Return `count` images in the normalised space of the teacher, of shape `(count, c, h, w)`."""
        if self.choice == "noise":
            return noise(count, self.teacher, "white")
        if self.choice == "natural":
            return noise(count, self.teacher, "natural")
        if self.artist:
            return self.teacher.normalize(self.artist.draw(count))
        indices = torch.arange(self.position, self.position + count) % len(self.image_set)
        self.position = (self.position + count) % len(self.image_set)
        images = self.image_set.tensors(indices, ("images",))["images"]
        return self.teacher.normalize(images.to(self.teacher.device).float())

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the saved set, or the levels of procedural pictures, which were measured at random."""
        return {"position": self.position} | ({"artist": self.artist.state_dict()} if self.artist else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.position = state["position"]
        if self.artist:
            self.artist.load_state_dict(state["artist"])
