"""Devices, processes, precision, CPU threads and memory."""

import ctypes
import platform
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from datafree import __version__
from datafree.applications.trainer import Fabric
from datafree.classifier import Classifier
from datafree.runs.launching.numerics import numerics
from datafree.runs.launching.sharding import shard_teacher
from datafree.runs.launching.world import create_fabric, world_of
from datafree.types import InputError, OutOfMemory, require_at_least, require_at_most

PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""mixed precisions by their names in Lightning Fabric, with the type of convolutions and matrix products"""
DOUBLE = "64-true"
"""precision in which several processes compute what one computes, to the last bits"""
MAX_THREADS = 1024
"""upper bound on CPU threads, to catch typing errors"""
MAX_DEVICES = 64
"""upper bound on processes, to catch typing errors"""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
"""option numbers of `mallopt`, from malloc.h"""


def launch(device: str, *, devices: int = 1, precision: str = "32-true", resuming: bool = False) -> Fabric:
    """Start the processes of a run with Lightning Fabric.

    Args:
        device: cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU.
        devices: Number of processes with one device each.
        precision: Precision by its name in Lightning Fabric.
        resuming: Whether the run exists, so that its settings are those in its folder.

    Raises:
        InputError: If the device or the precision is not available on this machine.
    """
    if precision == DOUBLE and (device == "mps" or (device == "auto" and torch.backends.mps.is_available())):
        raise InputError("precision 64-true needs a CPU or a CUDA device; use --device cpu")
    if precision == "16-mixed" and (device == "cpu" or (device == "auto" and not has_accelerator())):
        raise InputError("precision 16-mixed needs a GPU; use --precision bf16-mixed or --precision 32-true")
    world = world_of(devices)
    with _available(device, precision, devices, resuming):
        fabric = create_fabric(device, world, precision)
        fabric.launch()  # type: ignore[attr-defined]
    return fabric


def to_device(model: nn.Module, device: str) -> None:
    """Move a network to a device: cpu, cuda, mps, or auto for an accelerator if available.

    Raises:
        InputError: If the device is not available on this machine.
    """
    if device == "cpu" or (device == "auto" and not has_accelerator()):
        model.to("cpu")
        return
    with _available(device):
        from lightning_fabric import Fabric as LightningFabric

        LightningFabric(accelerator=device, devices=1).to_device(model)


def has_accelerator() -> bool:
    """Return whether this machine has a GPU that torch can use."""
    return torch.cuda.device_count() > 0 or torch.backends.mps.is_available()


@contextmanager
def _available(device: str, precision: str = "32-true", devices: int = 1, resuming: bool = False) -> Iterator[None]:
    """Turn what Lightning Fabric and torch raise if a device is not available into an error that names the fix."""
    try:
        yield
    except (ImportError, LookupError, ValueError, RuntimeError, AssertionError) as fault:
        raise _unavailable(device, precision, devices, fault, resuming) from fault
    except Exception as fault:
        if type(fault).__name__ != "MisconfigurationException":  # of Lightning; its base class is Exception
            raise
        raise _unavailable(device, precision, devices, fault, resuming) from fault


def _unavailable(device: str, precision: str, devices: int, fault: Exception, resuming: bool = False) -> InputError:
    fixes = ["--device cpu"]
    fixes += ["--precision 32-true"] if precision != "32-true" else []
    fixes += ["--devices 1"] if devices > 1 else []
    fix = f"use {' or '.join(fixes)}"
    if resuming:
        fix = "resume this run on a machine that has it"
        fix += ', or set "device" to "cpu" in its experiment.json' if precision == "32-true" and devices == 1 else ""
    why = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return InputError(f"device {device!r} is not available; {fix} ({why})")


MEMORY = "allocate memory|out of memory|not enough memory"
"""pattern of what torch says if the memory is not sufficient"""
FAULTS = {
    MEMORY: ("the memory is not sufficient", "{smaller}"),
    "overflow|too large to convert|unpack.* long|cannot fit": (
        "a number is too large",
        "lower the sizes and the numbers of steps and batches",
    ),
    "Expected more than 1 value per channel": (
        "a batch of one image is too small for a network with batch norm",
        "use a batch size of 2 or more",
    ),
}
"""patterns in the messages of torch, each with the fault in plain words and its fix"""
BATCH_SIZES = ("--method.batch-size", "--batch-size")
"""the options of a run that decide how much memory it takes"""


@contextmanager
def plain_faults(batch_sizes: Sequence[str] = BATCH_SIZES, where: str = "") -> Iterator[None]:
    """Turn what torch says about memory, sizes and batches of one into an error that names the fix, in a `with` block.

    Args:
        batch_sizes: The options to lower if the memory is not sufficient.
        where: What the fix ends with.

    Raises:
        OutOfMemory: If the memory is not sufficient.
        InputError: Instead of the other errors.
    """
    try:
        yield
    except InputError:
        raise
    except (MemoryError, OverflowError, RuntimeError, TypeError, ValueError) as fault:
        text = "out of memory" if isinstance(fault, (MemoryError, torch.OutOfMemoryError)) else str(fault)
        smaller = f"lower {' or '.join(batch_sizes)}" if batch_sizes else "use a machine with more memory"
        for pattern, (what, fix) in FAULTS.items():
            if re.search(pattern, text, re.IGNORECASE):
                allocated = re.search(r"allocate ([0-9]+) bytes", text)
                reason = f"{int(allocated[1]) / 1e9:,.1f} GB at once" if allocated else text.splitlines()[0][:150]
                kind = OutOfMemory if pattern == MEMORY else InputError
                raise kind(f"{what} ({reason}); {fix.format(smaller=smaller)}{where}") from fault
        raise


def place(model: Classifier, precision: str, fabric: Fabric) -> Classifier:
    """Move a classifier to the device of its process, set its precision, and copy its weights to all processes."""
    fabric.to_device(model)
    set_precision(model, precision)
    if fabric.world_size > 1:
        model.load_state_dict(fabric.broadcast(model.state_dict()))
    return model


def place_sharded(teacher: Classifier, precision: str, fabric: Fabric) -> Classifier:
    """Divide a teacher among the processes, in place, in the precision of the run.

    Args:
        teacher: The teacher, on the CPU; loaded after `return_freed_memory`.
        precision: Precision by its name in Lightning Fabric.
        fabric: The processes.

    Returns:
        The teacher without its weights; see `whole_again`.

    Raises:
        InputError: If it cannot be divided.
    """
    set_precision(teacher, precision)
    skeleton = shard_teacher(teacher, fabric)
    return_freed_memory()  # that of the weights, which were loaded before
    return skeleton


def set_precision(model: Classifier, precision: str) -> None:
    """Set the precision of a classifier, and of those in it if it is an ensemble."""
    for module in model.modules():
        if isinstance(module, Classifier):
            module.precision = PRECISIONS.get(precision, torch.float32)
    if precision == DOUBLE:
        model.double()


def return_freed_memory() -> None:
    """Return memory that was freed to the system, now and from now on, which `set_threads` has stopped.

    Call it before a teacher is loaded that will be sharded: weights that were loaded before leave room that is used again and
    not returned. Layers of a sharded teacher are gathered and freed between activations that stay. If the process kept their
    memory, the activations would take the room of the next layer, and the process would grow by all layers.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 2**16)
        libc.mallopt(M_MMAP_THRESHOLD, 2**20)  # blocks of a megabyte or more are returned one by one
        libc.mallopt(M_TRIM_THRESHOLD, 2**20)
        libc.malloc_trim(0)


@contextmanager
def double_precision(precision: str) -> Iterator[None]:
    """Create tensors in float64 inside a `with` block if that is the precision of a run."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if precision == DOUBLE else before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def require_threads(threads: int) -> None:
    """Check a number of CPU threads.

    Raises:
        InputError: If it is below 1 or above 1024.
    """
    require_at_least(1, threads=threads)
    require_at_most(MAX_THREADS, threads=threads)


def set_threads(threads: int) -> None:
    """Set the number of CPU threads, and keep freed memory in the process.

    By default the C library returns large freed blocks to the system. Every optimizer step frees and allocates the same
    blocks, and the system clears each page again: a third of the time of a step on one thread.

    Raises:
        InputError: If the number is below 1 or above 1024.
    """
    require_threads(threads)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory() -> int:
    """Return the peak memory of this process in MB: GPU memory if CUDA is in use, else main memory."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) // 10**6


def environment(threads: int, fabric: "Fabric") -> dict[str, Any]:
    """Return versions and hardware, on which the numbers of a run depend besides its settings."""
    return {
        "datafree": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": str(fabric.device),
        "processor": torch.cuda.get_device_name() if fabric.device.type == "cuda" else platform.machine(),
        "threads": threads,
        "processes": fabric.world_size,
        **numerics(),
    }
