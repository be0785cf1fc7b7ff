"""Write the tensors of an image set in shards of limited size, one of which is in memory."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from datafree.files import sha256_of
from datafree.synthesis.image_sets.shards import Shards


class ShardWriter:
    """Writes rows in order.

    Args:
        folder: The folder of the shards.
        total: Number of rows of all shards.
        limit: Maximum size of a shard in bytes, unless a single row is larger.
    """

    def __init__(self, folder: Path, total: int, limit: int) -> None:
        self.folder, self.total, self.limit = folder, total, limit
        self.shard: dict[str, Tensor] = {}
        self.rows = self.written = 0
        self.hashes: dict[str, str] = {}

    def add(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the next rows.

        Args:
            tensors: Tensors with one row per image, by name; the names are the same in every call.
        """
        if not self.rows:
            self.rows = min(self.total, max(1, self.limit // sum(tensor[0].nbytes for tensor in tensors.values())))
            self.shard = {
                name: torch.empty(self.rows, *tensor.shape[1:], dtype=tensor.dtype) for name, tensor in tensors.items()
            }
        count, done = len(tensors["images"]), 0
        while done < count:
            filled = self.written % self.rows
            more = min(self.rows - filled, count - done)
            for name, tensor in tensors.items():
                self.shard[name][filled : filled + more] = tensor[done : done + more].detach()
            self.written, done = self.written + more, done + more
            if filled + more == self.rows or self.written == self.total:
                self.save(filled + more)

    def name(self, number: int) -> str:
        """Return the name of a shard, counted from 0."""
        return f"images-{number + 1:05d}-of-{-(-self.total // self.rows):05d}.safetensors"

    def save(self, count: int) -> None:
        """Write a shard with the rows that are in memory."""
        name = self.name(len(self.hashes))
        save_file({key: tensor[:count].contiguous() for key, tensor in self.shard.items()}, self.folder / name)
        self.hashes[name] = sha256_of(self.folder / name)

    def images(self, positions: Tensor) -> Tensor:
        """Return some of the images, after all of them were written."""
        files = Shards(self.folder)
        images = files.header(self.name(0))["images"].empty(len(positions))
        owners = torch.div(positions, self.rows, rounding_mode="floor")
        places = torch.arange(len(positions))
        files.gather(self.name, owners, positions % self.rows, {"images": images}, places)
        files.close()
        return images
