"""The images that were kept: a ring in memory, from which a student's batches are drawn."""

from typing import Any

import torch
from torch import Tensor

from datafree.types import Batch


class Pool:
    """The last `keep` batches as one ring of single images.

    Images stay float32: eight bits per pixel lose exactly the detail that a teacher put there.
    """

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.images: Tensor | None = None
        self.targets: Tensor | None = None
        self.written = 0
        self.newest: Batch | None = None

    def __len__(self) -> int:
        """Single images to draw from."""
        return 0 if self.images is None else min(self.written, len(self.images))

    def add(self, batch: Batch) -> None:
        """Keeps a batch; once the ring is full it takes the place of the oldest."""
        if self.images is None or self.targets is None:
            size = self.keep * len(batch)
            self.images = batch.images.new_empty(size, *batch.images.shape[1:])
            self.targets = batch.targets.new_empty(size, *batch.targets.shape[1:])
        places = torch.arange(self.written, self.written + len(batch), device=batch.images.device) % len(self.images)
        self.images[places], self.targets[places] = batch.images, batch.targets
        self.written += len(batch)
        self.newest = batch

    def draw(self, count: int) -> Batch:
        """So many different images at random; all of them, shuffled, where there are fewer."""
        if self.images is None or self.targets is None:
            raise IndexError("the pool is empty; add a batch first")
        chosen = torch.randperm(len(self))[:count] if len(self) < 8 * count else torch.randint(len(self), (count,))
        chosen = chosen.to(self.images.device)
        return Batch(self.images[chosen], self.targets[chosen], {})

    def all(self) -> Batch:
        """Everything that is kept."""
        return self.draw(len(self))

    def state_dict(self) -> dict[str, Any]:
        if self.images is None or self.targets is None or self.newest is None:
            return {"written": 0}
        kept = {"images": self.images[: len(self)], "targets": self.targets[: len(self)]}
        return {"written": self.written, "newest": len(self.newest), **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.images = self.targets = self.newest = None
        self.written = 0
        if state["written"]:
            newest, images, targets = state["newest"], state["images"], state["targets"]
            self.add(Batch(images[:newest], targets[:newest], {}))  # allocates the ring
            assert self.images is not None and self.targets is not None
            self.images[: len(images)], self.targets[: len(targets)] = images, targets
            self.written = state["written"]
            last = torch.arange(self.written - newest, self.written, device=images.device) % len(self.images)
            self.newest = Batch(self.images[last], self.targets[last], {})
