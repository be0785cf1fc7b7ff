r"""A network as consecutive blocks, :math:`f = A^B \circ \dots \circ A^1`, so that its last blocks can be run alone.

The network is traced to a graph of its layers. It can be split at every cut point: a node of the graph whose output is
the only tensor that passes from the layers before it to the layers after it. By default a block ends at the last cut
point of each resolution. For known families of networks it ends right before a stage (`STAGES`).

References:
    | Data-Free Knowledge Amalgamation via Group-Stack Dual-GAN (Ye et al., 2020), section 3.2
    | https://arxiv.org/abs/2003.09088
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.fx.passes.split_module import split_module

from datafree.classifier import Classifier, frozen
from datafree.types import InputError

STAGES = (
    ("layer1", "layer2", "layer3", "layer4"),
    ("stages.0", "stages.1", "stages.2", "stages.3"),
)
"""module names of the stages of known families: the ResNets of timm and torchvision, and those of `networks.zoo`"""


class Blocks(nn.ModuleList):
    """The blocks of a classifier. They share its weights; the first one includes its normalisation.

    Args:
        classifier: The classifier to split.
        count: Number of blocks. 0 uses all blocks that the stages or the resolutions of the network define; with a
            smaller count, the first blocks are merged.

    Attributes:
        shapes: Input shape `(c, h, w)` of each block.

    Raises:
        InputError: If the network cannot be traced or cannot be split into `count` blocks.
    """

    def __init__(self, classifier: Classifier, count: int = 0) -> None:
        graph = trace(classifier)
        ends = stage_ends(graph) or resolution_ends(graph)
        if not ends or count == 1 or count > len(ends) + 1:
            raise InputError(
                f"the network has {len(ends) + 1} block{'s' if ends else ''} and cannot be split into {count or 'several'}; "
                "give another number of blocks, or use a method that needs none"
            )
        if count:
            ends = ends[len(ends) + 1 - count :]
        super().__init__(split(graph, ends))
        self.shapes = (classifier.shape, *(_shape(node) for node in ends))
        self._classifier = [classifier]  # in a list, because its weights are already registered through the blocks
        self._require_same_logits()

    def _require_same_logits(self) -> None:
        """Check that the blocks compute what the network does: some networks can be traced, but not be run in pieces.

        Raises:
            InputError: If they do not.
        """
        classifier = self._classifier[0]
        images = classifier.probe_images(2)
        try:
            with frozen(classifier, self), torch.no_grad():
                same = torch.allclose(self(images), classifier(images), rtol=1e-3, atol=1e-3)
            why = "" if same else "the logits of its parts differ from its own"
        except Exception:  # a piece may raise anything, and about the graph rather than the network
            why = "its parts cannot be run alone"
        if why:
            raise InputError(f"the network cannot be split into blocks, because {why}; use a method that needs none")

    def forward(self, x: Tensor, last: int = 0) -> Tensor:
        """Return the logits.

        Args:
            x: Input of the first block that is run, of shape `(n, *shapes[-last])`; pixels if all blocks are run.
            last: Number of blocks to run, counted from the end; 0 runs all.
        """
        classifier = self._classifier[0]
        with torch.autocast(x.device.type, classifier.precision, enabled=classifier.precision != torch.float32):
            if last in (0, len(self)):
                x = classifier.normalize(x)
            for block in list(self)[-last:]:
                x = block(x)
        return classifier.to_logits(x)

    @torch.no_grad()
    def signed_inputs(self) -> list[bool]:
        """Return for each block after the first whether its input can be negative.

        It is measured on a few images. Features behind a ReLU are not negative on any image.
        """
        classifier, signed = self._classifier[0], []
        with frozen(classifier):
            x = classifier.normalize(classifier.probe_images(4))
            for block in list(self)[:-1]:
                x = block(x)
                signed.append(bool((x < 0).any()))
        return signed


class _LayerTracer(fx.Tracer):
    """Treats single layers, and modules that timm marks as untraceable, as leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        from timm.models import get_notrace_modules

        leaf = isinstance(m, (nn.modules.batchnorm._BatchNorm, *get_notrace_modules()))
        return leaf or not any(True for _ in m.children())


class _Weight(nn.Module):
    """Returns a weight that a network uses outside of its layers, so that the weight stays in the block that uses it."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        if isinstance(value, nn.Parameter):
            self.value = value
        else:
            self.register_buffer("value", value)

    def forward(self) -> Tensor:
        return cast(Tensor, self.value)


def _weights_as_modules(network: fx.GraphModule) -> None:
    """Replace each use of a weight by a call of a module; `split_module` would hand it over from the first block."""
    for node in list(network.graph.nodes):
        value = attrgetter(str(node.target))(network) if node.op == "get_attr" else None
        if isinstance(value, Tensor):
            name = f"weight_of_{str(node.target).replace('.', '_')}"
            network.add_submodule(name, _Weight(value))
            for user in list(node.users):
                with network.graph.inserting_before(user):
                    call = network.graph.call_module(name)
                call.meta = dict(node.meta)
                user.replace_input_with(node, call)
            network.graph.erase_node(node)
    network.recompile()


def trace(classifier: Classifier) -> fx.GraphModule:
    """Return the graph of a classifier's network, annotated with the shapes of all tensors.

    Raises:
        InputError: If the network does not run, or its control flow depends on its input.
    """
    with frozen(classifier), torch.no_grad():
        try:
            images = torch.full((2, *classifier.shape), 0.5, device=classifier.device)
            classifier(images)  # fails here, not in the noisy tracer, if the network does not run at all
        except Exception as fault:  # a layer may raise anything for a size it was not built for
            why = (str(fault) or type(fault).__name__).splitlines()[0]
            raise InputError(
                f"the network cannot be split into blocks ({why}); use a method that needs none"
            ) from fault
        try:
            network = fx.GraphModule(classifier.model, _LayerTracer().trace(classifier.model))
            ShapeProp(network).propagate(classifier.normalize(images))
            _weights_as_modules(network)
        except Exception as fault:  # a network's own code may raise anything when it meets a proxy
            why = _why_not_traced(classifier)
            raise InputError(
                f"the network cannot be split into blocks, because {why}; use a method that needs none"
            ) from fault
    return network


def _why_not_traced(classifier: Classifier) -> str:
    """Return why a network cannot be traced; the tracer's own messages are about proxies."""
    if not classifier.differentiable:
        return "it is forward-only"
    if not any(True for _ in classifier.model.children()):  # a function, for example
        return "it has no layers"
    return "its code depends on the values or sizes that it computes"


def cut_points(network: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes whose feature map `(c, h, w)` is the only tensor that later nodes use."""
    nodes = list(network.graph.nodes)
    position = {node: index for index, node in enumerate(nodes)}
    last_use = [max((position[user] for user in node.users), default=position[node]) for node in nodes]
    furthest, points = 0, []
    for index, node in enumerate(nodes[:-1]):
        if index and furthest <= index and len(_shape(node)) == 3:
            points.append(node)
        furthest = max(furthest, last_use[index])
    return points


def resolution_ends(network: fx.GraphModule) -> list[fx.Node]:
    """Return the last cut point of each resolution, without that of the output."""
    ends: dict[tuple[int, ...], fx.Node] = {}
    for node in cut_points(network):
        resolution = _shape(node)[1:]
        ends.pop(resolution, None)  # a resolution that occurs again ends at its last occurrence
        ends[resolution] = node
    return list(ends.values())


def stage_ends(network: fx.GraphModule) -> list[fx.Node]:
    """Return the last cut point before each stage of a known family, or an empty list for other networks."""
    modules = dict(network.named_modules())
    for names in STAGES:
        if all(name in modules for name in names):
            nodes = list(network.graph.nodes)
            position = {node: index for index, node in enumerate(nodes)}
            starts = [
                next(index for index, node in enumerate(nodes) if f"{node.target}.".startswith(f"{name}."))
                for name in names
            ]
            before = [[node for node in cut_points(network) if position[node] < start] for start in starts]
            return [max(candidates, key=position.__getitem__) for candidates in before if candidates]
    return []


def split(network: fx.GraphModule, ends: Sequence[fx.Node]) -> list[nn.Module]:
    """Split a graph after each of the given nodes and return the pieces in order."""
    block_of_end = {node: block for block, node in enumerate(ends)}
    block, assignment = 0, {}
    for node in network.graph.nodes:
        assignment[node] = block
        if node in block_of_end:
            block = block_of_end[node] + 1
    pieces = split_module(network, network, assignment.__getitem__)
    return [cast(nn.Module, pieces.get_submodule(f"submod_{block}")) for block in range(len(ends) + 1)]


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta = node.meta.get("tensor_meta")
    return tuple(getattr(meta, "shape", ())[1:])
