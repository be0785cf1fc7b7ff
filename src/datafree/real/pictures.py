"""A folder of unlabelled pictures that a student is trained on, counted in the ledger."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.real.data import RealImages, open_real
from datafree.real.ledger import Ledger
from datafree.types import Images, InputError

LUMA = (0.299, 0.587, 0.114)
"""weights of red, green and blue in a grey picture (ITU-R BT.601), as in Pillow"""


class FolderPictures:
    """The pictures of a folder in the shape of a teacher; see `open_pictures`.

    Args:
        real: The pictures, with three channels.
        grey: Whether the teacher takes grey images.
    """

    def __init__(self, real: RealImages, grey: bool) -> None:
        self.real, self.grey = real, grey

    def __len__(self) -> int:
        return len(self.real)

    @property
    def digest(self) -> str:
        """SHA-256 of the names and sizes of the files."""
        return hashlib.sha256("\n".join(self.real.files).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def note(self) -> str:
        """How many files could not be read so far, and why; empty if there are none."""
        return "; ".join(self.real.notes)

    def read(self, indices: Tensor) -> Images:
        """Return the pictures with these indices, in [0, 1]; those that cannot be read are left out."""
        images = self.real.select(indices).images
        if not self.grey:
            return images
        return (images * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True).clamp_(0, 1)

    def state_dict(self) -> dict[str, Any]:
        """Return which pictures were read."""
        return self.real.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.real.load_state_dict(state)


def open_pictures(folder: str, teacher: Classifier, ledger: Ledger) -> FolderPictures:
    """Open a folder of unlabelled pictures, on which a student will be trained, and add it to the ledger.

    Args:
        folder: The folder; its subfolders are searched.
        teacher: Decides shape and preprocessing. Pictures become grey for a teacher of grey images.
        ledger: The ledger of the run.

    Raises:
        InputError: If the folder is not given or has no pictures, or the teacher takes neither 1 nor 3 channels.
    """
    if not folder:
        raise InputError("the folder of the pictures is missing; add it to the name, as in pictures:FOLDER")
    channels, height, width = teacher.shape
    if channels not in (1, 3):
        raise InputError(
            f"pictures have 1 or 3 channels, but the teacher takes {channels}; use --method procedural instead"
        )
    real = open_real(
        f"unlabelled:{folder}",
        "train",
        "student training (pictures)",
        ledger,
        shape=(3, height, width),
        preprocessing=teacher.preprocessing,
    )
    return FolderPictures(real, grey=channels == 1)
