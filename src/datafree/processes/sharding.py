"""A frozen network of which every process keeps a part of the weights: PyTorch's FSDP2, one unit per large layer.

The weights of a unit are gathered before its forward pass and before its backward pass, and freed after each. Each process
runs the network on images of its own, and all of them run it equally often. Statistics and small weights are whole in every
process.

References:
    | PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel (Zhao et al., 2023)
    | https://arxiv.org/abs/2304.11277
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
import torch.distributed as distributed
from torch import Tensor, nn
from torch.utils._pytree import tree_map

SMALL = 1e-3
"""fraction of all weights below which a tensor is not divided: many small exchanges would take longer than they save"""
AUTOCAST = (nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward, nn.Linear.forward)
"""layers that autocast computes in half precision; their weights are gathered in it"""


def gathered(tensor: Tensor) -> Tensor:
    """Return all of a tensor that is divided among the processes, which must all call this; any other tensor unchanged."""
    whole = getattr(tensor, "full_tensor", None)
    return tensor if whole is None else whole()


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process has; a tensor that is not divided unchanged."""
    part = getattr(tensor, "to_local", None)
    return tensor if part is None else part()


def is_sharded(network: nn.Module) -> bool:
    """Return whether weights of a network are divided among the processes."""
    return any(hasattr(parameter, "full_tensor") for parameter in network.parameters())


def kept_bytes(network: nn.Module) -> int:
    """Return the bytes of the weights that this process keeps."""
    return sum(part.numel() * part.element_size() for part in map(local, network.parameters()))


def units_of(network: nn.Module, run: Callable[[], object]) -> dict[nn.Module, list[nn.Parameter]]:
    """Return the modules that are gathered one at a time, each with its weights.

    A weight belongs to the innermost module around all its places whose forward pass is called: a layer may use the weights of
    a layer inside it without calling that layer, as attention does.

    Args:
        network: The network.
        run: Runs it, forward only and with a gradient: a network may take another way without one.
    """
    called = _called(network, run)
    paths: dict[nn.Parameter, list[list[nn.Module]]] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        for parameter in module.parameters(recurse=False):
            paths.setdefault(parameter, []).append(_path(network, name))
    least = SMALL * sum(parameter.numel() for parameter in paths)
    units: dict[nn.Module, list[nn.Parameter]] = {}
    for parameter, places in paths.items():
        if parameter.is_floating_point() and parameter.ndim and parameter.numel() >= least:
            around = [module for module in reversed(places[0]) if all(module in place for place in places[1:])]
            units.setdefault(next(module for module in around if module in called), []).append(parameter)
    return units


def _path(network: nn.Module, name: str) -> list[nn.Module]:
    """Return the modules from the network to one of its modules."""
    names = name.split(".") if name else []
    return [network.get_submodule(".".join(names[:depth])) for depth in range(len(names) + 1)]


def _called(network: nn.Module, run: Callable[[], object]) -> set[nn.Module]:
    """Return the modules that a network calls, with and without a gradient; at least the network itself."""
    calls: dict[bool, set[nn.Module]] = {False: {network}, True: {network}}

    def see(module: nn.Module, inputs: object) -> None:
        calls[torch.is_grad_enabled()].add(module)

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(see).remove)
        for gradient in calls:
            with torch.set_grad_enabled(gradient):
                run()
    return calls[False] & calls[True]


def shard(
    network: nn.Module,
    units: Mapping[nn.Module, Sequence[nn.Parameter]],
    device: torch.device,
    compute: torch.dtype = torch.float32,
) -> None:
    """Divide the weights of a network among all processes, in place, and move each part to the device of its process.

    The network is frozen for good. A device never has more than its parts and the weights of one unit.

    Args:
        network: The network, the same one in every process.
        units: See `units_of`.
        device: The device of this process.
        compute: The data type of autocast; float32: there is none.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
    network.requires_grad_(False)
    weights = set(network.parameters())
    for module in reversed(list(network.modules())):  # a module comes before those inside it
        own = set(units.get(module, ()))
        if not own and module is not network:
            continue
        for parameter in own:
            parameter.data = parameter.data.contiguous()  # FSDP takes no other format
        casts = compute != torch.float32 and getattr(type(module), "forward", None) in AUTOCAST
        policy = MixedPrecisionPolicy(param_dtype=compute if casts else None, cast_forward_inputs=False)
        module.register_forward_hook(_without_views)  # before that of FSDP
        name = type(module).__name__
        fully_shard(module, mesh=mesh, reshard_after_forward=True, mp_policy=policy, ignored_params=weights - own)
        type(module).__name__ = name  # FSDP makes a subclass; reports name the network
    if hasattr(network, "reset_iter_state"):
        network.register_forward_hook(_forget_order)


def _without_views(module: nn.Module, inputs: object, output: object) -> object:
    """Return the outputs of a unit, copied if they are views: FSDP loses a view that the next layer changes in place."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) and leaf._base is not None else leaf, output)


def _forget_order(network: nn.Module, inputs: object, output: object) -> None:
    """Forget the order of the layers, which only a backward pass needs, and which otherwise grows with every pass."""
    if not torch.is_grad_enabled():
        cast(Any, network).reset_iter_state()


def same_tensors(network: nn.Module, device: torch.device) -> None:
    """Copy the weights and statistics of the first process to all others, one tensor at a time.

    Args:
        network: The network of this process, changed in place.
        device: The device that tensors are sent from.
    """
    for tensor in network.state_dict().values():
        if isinstance(tensor, Tensor):
            sent = tensor.detach().to(device, memory_format=torch.contiguous_format, copy=True)
            distributed.broadcast(sent, 0)
            tensor.copy_(sent)


def gathered_tensors(network: nn.Module, keep: bool) -> dict[str, Tensor]:
    """Return all weights and statistics of a sharded network on the CPU, in the processes that keep them.

    Args:
        network: The network. All processes must call this.
        keep: Whether this process keeps them; otherwise the result is empty.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        whole = gathered(tensor.detach())
        if keep:
            tensors[name] = whole.cpu()
    return tensors
