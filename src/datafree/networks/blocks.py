r"""A network as consecutive blocks: :math:`f = A^B \circ \dots \circ A^1`, so that its last j blocks stand by themselves.

The network is traced to a graph of its layers. It can be cut wherever one single tensor passes from what lies before
to what lies behind. A block ends where its resolution does, at the last such place, unless the family of the network is
known to begin its blocks elsewhere (`BEGINNINGS`).

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2
    | https://arxiv.org/abs/2003.09088
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.passes.split_module import split_module

from datafree.classifier import Classifier, frozen
from datafree.types import InputError

BEGINNINGS = (
    ("layer1", "layer2", "layer3", "layer4"),
    ("stages.0", "stages.1", "stages.2", "stages.3"),
)
"""modules before which a block begins: ResNets as timm and torchvision write them, and the papers' own"""


class Blocks(nn.ModuleList):
    """The blocks of a classifier, which share its weights; its normalisation belongs to the first.

    Args:
        classifier: Whose network is cut.
        count: How many blocks. If not given, as many as its family or its resolutions make; if fewer are wanted, the
            first ones are joined.

    Raises:
        InputError: If the network cannot be traced, or not be cut into so many blocks.
    """

    def __init__(self, classifier: Classifier, count: int = 0) -> None:
        graph = trace(classifier)
        places = beginnings(graph) or resolutions(graph)
        if not places or count == 1 or count > len(places) + 1:
            raise InputError(
                f"the network falls into {len(places) + 1} blocks and cannot be used as {count or 'several'}; "
                "give another number of blocks, or use a method that needs none"
            )
        chosen = places[len(places) + 1 - count :] if count else places
        super().__init__(cut(graph, chosen))
        self.shapes = (classifier.shape, *(_shape(place) for place in chosen))
        self._classifier = [classifier]  # in a list, since its weights are the blocks' already

    def forward(self, x: Tensor, last: int = 0) -> Tensor:
        """The logits.

        Args:
            x: What the first of the blocks takes, of shape `(n, *shapes[-last])`; pixels, if it is the first of all.
            last: How many blocks, counted from the end; all if not given.
        """
        classifier = self._classifier[0]
        with torch.autocast(x.device.type, classifier.precision, enabled=classifier.precision != torch.float32):
            if last in (0, len(self)):
                x = classifier.normalize(x)
            for block in list(self)[-last:]:
                x = block(x)
        return x.float()


class _Layers(fx.Tracer):
    """Single layers are not looked into, nor what timm says cannot be."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from timm.models import get_notrace_modules

        whole = isinstance(m, (nn.modules.batchnorm._BatchNorm, *get_notrace_modules()))
        return whole or not any(True for _ in m.children())


def trace(classifier: Classifier) -> fx.GraphModule:
    """The graph of a classifier's network, with the shapes of what passes through it.

    Raises:
        InputError: If its course depends on its input.
    """
    with frozen(classifier), torch.no_grad():
        try:
            images = torch.full((2, *classifier.shape), 0.5, device=classifier.device)
            classifier(images)  # what cannot run at all is not to be blamed on the tracer, which prints its faults
            network = fx.GraphModule(classifier.model, _Layers().trace(classifier.model))
            ShapeProp(network).propagate(classifier.normalize(images))
        except Exception as fault:  # whatever a network's own code raises when it meets a proxy
            why = (str(fault) or type(fault).__name__).splitlines()[0]
            raise InputError(f"the network cannot be cut into blocks ({why}); use a method that needs none") from fault
    return network


def places(network: fx.GraphModule) -> list[fx.Node]:
    """The feature maps through which everything passes: nothing else made before them is used behind them."""
    nodes = list(network.graph.nodes)
    order = {node: place for place, node in enumerate(nodes)}
    last_use = [max((order[user] for user in node.users), default=order[node]) for node in nodes]
    furthest, found = 0, []
    for place, node in enumerate(nodes[:-1]):
        if place and furthest <= place and len(_shape(node)) == 3:
            found.append(node)
        furthest = max(furthest, last_use[place])
    return found


def resolutions(network: fx.GraphModule) -> list[fx.Node]:
    """The last place of each resolution, but that of the output."""
    found: dict[tuple[int, ...], fx.Node] = {}
    for node in places(network):
        found.pop(_shape(node)[1:], None)  # a resolution that comes back ends where it is met last
        found[_shape(node)[1:]] = node
    return list(found.values())


def beginnings(network: fx.GraphModule) -> list[fx.Node]:
    """The last places before the modules of a known family; none if it is no such family."""
    modules = dict(network.named_modules())
    for family in BEGINNINGS:
        if all(name in modules for name in family):
            nodes = list(network.graph.nodes)
            order = {node: place for place, node in enumerate(nodes)}
            firsts = [
                next(place for place, node in enumerate(nodes) if f"{node.target}.".startswith(f"{name}."))
                for name in family
            ]
            before = [[place for place in places(network) if order[place] < first] for first in firsts]
            return [max(some, key=order.__getitem__) for some in before if some]
    return []


def cut(network: fx.GraphModule, chosen: Sequence[fx.Node]) -> list[nn.Module]:
    """The parts between the places, each a module of its own."""
    ends = {node: number for number, node in enumerate(chosen)}
    number, part = 0, {}
    for node in network.graph.nodes:
        part[node] = number
        if node in ends:
            number = ends[node] + 1
    parts = split_module(network, network, part.__getitem__)
    return [cast(nn.Module, parts.get_submodule(f"submod_{place}")) for place in range(len(chosen) + 1)]


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    return tuple(getattr(meta, "shape", ())[1:])
