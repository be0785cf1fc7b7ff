"""The graph of a network of torch, by `torch.export`, from which every other format is made."""

from typing import NamedTuple

import torch
from torch.export import Dim, ExportedProgram

from datafree.export.deployment import Deployed
from datafree.export.faults import layer_at_fault, quiet, reason
from datafree.types import Images, InputError

ANY_BATCH = 0
"""batch size of a graph that takes any number of images"""


class Traced(NamedTuple):
    """A graph, and the number of images of a batch that it takes."""

    program: ExportedProgram
    batch: int

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know about a file with the graph."""
        fixed = f"the code of the network fixes the batch size: the file takes batches of {self.batch}"
        return (fixed,) if self.batch else ()


def trace(network: Deployed, images: Images) -> Traced:
    """Return the graph of a network, for batches of any size if it takes them, else for single images.

    Args:
        network: The network.
        images: At least two images of its shape.

    Raises:
        InputError: If it cannot be traced; with the layer.
    """
    with quiet(), torch.no_grad():
        try:
            dynamic = ({0: Dim("batch")},)
            return Traced(torch.export.export(network, (images,), dynamic_shapes=dynamic, strict=False), ANY_BATCH)
        except Exception:  # the code of a network may raise anything; a fixed size may be all it takes
            pass
        try:
            return Traced(torch.export.export(network, (images[:1],), strict=False), 1)
        except Exception as fault:
            raise InputError(
                f"torch.export cannot take {layer_at_fault(network.model, fault)}: {reason(fault)}; change this code, or use "
                "--format timm if timm builds the network"
            ) from fault
