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
        self.ring: dict[str, Tensor] = {}
        self.written = 0
        self.latest = 0

    def __len__(self) -> int:
        """Single images to draw from."""
        return min(self.written, len(self.ring["images"])) if self.ring else 0

    def add(self, batch: Batch) -> None:
        """Keeps a batch; once the ring is full it takes the place of the oldest."""
        parts = {"images": batch.images, "targets": batch.targets}
        if batch.answers is not None:
            parts["answers"] = batch.answers
        parts |= {f"features {depth}": part for depth, part in enumerate(batch.features)}
        for name, part in parts.items():
            if name not in self.ring:
                self.ring[name] = part.new_empty(self.keep * len(batch), *part.shape[1:])
            self.ring[name][self._places(self.written, len(batch))] = part
        self.written += len(batch)
        self.latest = len(batch)

    @property
    def newest(self) -> Batch:
        """The batch that was added last."""
        return self._at(self._places(self.written - self.latest, self.latest))

    def draw(self, count: int) -> Batch:
        """So many images at random: different ones while the pool is small, each drawn anew when it is large."""
        few = len(self) < 8 * count
        return self._at(torch.randperm(len(self))[:count] if few else torch.randint(len(self), (count,)))

    def all(self) -> Batch:
        """Everything that is kept, in the order of the ring."""
        return self._at(torch.arange(len(self)))

    def state_dict(self) -> dict[str, Any]:
        kept = {name: part[: len(self)] for name, part in self.ring.items()}
        size = len(self.ring["images"]) if self.ring else 0
        device = str(self.ring["images"].device) if self.ring else "cpu"
        return {"written": self.written, "latest": self.latest, "size": size, "device": device, "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.written, self.latest = state["written"], state["latest"]
        self.ring = {}
        for name, part in state["kept"].items():
            self.ring[name] = part.new_empty(state["size"], *part.shape[1:], device=state["device"])
            self.ring[name][: len(part)] = part

    def _places(self, start: int, count: int) -> Tensor:
        return torch.arange(start, start + count) % len(self.ring["images"])

    def _at(self, places: Tensor) -> Batch:
        if not self.ring:
            raise IndexError("the pool is empty; add a batch first")
        chosen = {name: part[places.to(part.device)] for name, part in self.ring.items()}
        features = tuple(part for name, part in chosen.items() if name.startswith("features"))
        return Batch(chosen["images"], chosen["targets"], {}, chosen.get("answers"), features)
