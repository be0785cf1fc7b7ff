"""A teacher that is divided among the processes of a run, and what of the run then needs all of it."""

import os
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from datafree.applications.trainer import Fabric
from datafree.classifier import Classifier, frozen
from datafree.processes.sharding import gathered_tensors, same_tensors, shard, units_of
from datafree.runs.launching.world import FSDP, STRATEGY
from datafree.types import InputError

LARGEST = 0.9
"""fraction of all weights that one layer may have: such a layer is gathered as a whole, so dividing it saves nothing"""
TOLERANCE = 0.05
"""largest difference between the logits before and after, relative to the largest logit: processors differ in precision"""
FAULTS = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, KeyError, NotImplementedError)
"""what a network raises that uses its weights outside of its layers"""


def wants_shards(shard_teacher: bool) -> bool:
    """Return whether the teacher is to be sharded.

    Args:
        shard_teacher: The setting; `fabric run --strategy fsdp` means the same.
    """
    return shard_teacher or os.environ.get(STRATEGY) == FSDP


def require_shardable(processes: int, *, resuming: bool = False, merges: bool = False, halves: bool = False) -> None:
    """Check that a run can shard its teacher.

    Args:
        processes: Number of processes.
        resuming: Whether the run exists: one process may continue it, with a whole teacher.
        merges: Whether the student takes over layers of its teachers.
        halves: Whether the batch size is halved until a step fits into the memory.

    Raises:
        InputError: If it cannot.
    """
    if processes == 1 and not resuming:
        raise InputError(
            "--shard-teacher divides the teacher among processes, but there is one; add --devices 2 or more"
        )
    if merges:
        raise InputError(
            "the student of an amalgamation takes over layers of its teachers, which must be whole; leave --shard-teacher out"
        )
    if halves:
        raise InputError(
            "a batch size that is found by trying needs a whole teacher; give --method.batch-size as a number, or leave "
            "--shard-teacher out"
        )


def shard_teacher(teacher: Classifier, fabric: Fabric) -> Classifier:
    """Divide the weights of a teacher among the processes, in place, and move its part to the device of each.

    Args:
        teacher: The teacher on the CPU, in its precision. All processes get the weights of the first one.
        fabric: The processes.

    Returns:
        The teacher without its weights; see `whole_again`.

    Raises:
        InputError: If it has nothing that can be divided, or uses its weights outside of its layers.
    """
    same_tensors(teacher, fabric.device)
    skeleton = without_weights(teacher)
    before = _answers(teacher)
    try:
        everyone = [part for part in teacher.modules() if isinstance(part, Classifier)]
        parts = [
            part for part in everyone if not isinstance(part.model, nn.ModuleList)
        ]  # an ensemble has none of its own
        units = [units_of(part.model, lambda: _answers(teacher)) for part in parts]
        for part, own in zip(parts, units, strict=True):
            _require_worthwhile(part.model, own)
            shard(part.model, own, fabric.device, part.precision)
        fabric.to_device(teacher)
        after = _answers(teacher)
        with torch.no_grad():
            agree = all(_close(logits, before) for logits in (after, _answers(teacher)))
    except FAULTS as fault:
        if isinstance(fault, (InputError, torch.OutOfMemoryError)):
            raise
        reason = str(fault).strip().splitlines()[0][:150] if str(fault).strip() else type(fault).__name__
        raise InputError(f"the teacher cannot be sharded ({reason}); leave --shard-teacher out") from fault
    if not agree:
        raise InputError("the teacher gives other logits once it is sharded; leave --shard-teacher out")
    return skeleton


def _answers(teacher: Classifier) -> Tensor:
    """Return the logits of a few images; with a gradient to the images if gradients are enabled."""
    images = teacher.probe_images().requires_grad_(torch.is_grad_enabled())
    with frozen(teacher):
        logits = teacher(images)
    if logits.requires_grad:
        torch.autograd.grad(logits.sum(), images, allow_unused=True)
    return logits.detach().cpu().double()


def _close(logits: Tensor, before: Tensor) -> bool:
    return bool((logits - before).abs().max() <= TOLERANCE * before.abs().max())


def _require_worthwhile(network: nn.Module, units: Mapping[nn.Module, list[nn.Parameter]]) -> None:
    """Check that a network has several layers with weights.

    Raises:
        InputError: If nearly all weights are gathered at once.
    """
    everything = sum(parameter.numel() for parameter in network.parameters())
    largest = max((sum(parameter.numel() for parameter in own) for own in units.values()), default=everything)
    if largest > LARGEST * everything or not everything:
        raise InputError(
            "the teacher cannot be sharded, since nearly all of its weights are in one layer; leave --shard-teacher out"
        )


def without_weights(teacher: Classifier) -> Classifier:
    """Return a copy of a teacher whose weights have shapes and no values."""
    memo: dict[int, Any] = {
        id(parameter): nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
        for parameter in teacher.parameters()
    }
    return deepcopy(teacher, memo)


def whole_again(teacher: Classifier, skeleton: Classifier, fabric: Fabric) -> Classifier | None:
    """Return a sharded teacher as a whole, in the first process; None in all others. All processes must call this.

    Args:
        teacher: The sharded teacher, which stays as it is.
        skeleton: What `shard_teacher` has returned; it gets the weights.
        fabric: The processes.

    Returns:
        The teacher on the device of the process, or on the CPU if it does not fit there.
    """
    tensors = gathered_tensors(teacher, keep=fabric.is_global_zero)
    if not fabric.is_global_zero:
        return None
    for name, parameter in skeleton.named_parameters(remove_duplicate=False):  # in its memory format
        tensors[name] = torch.empty_like(parameter, device="cpu").copy_(tensors[name])
    skeleton.load_state_dict(tensors, assign=True)
    try:
        fabric.to_device(skeleton)
    except torch.OutOfMemoryError:
        skeleton.cpu()
    return skeleton
