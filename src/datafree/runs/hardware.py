"""What a process computes on: a device; or so many threads of the CPU, and memory that is kept once it was asked for."""

import ctypes
import platform

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from datafree.types import InputError, at_least, at_most


def to_device(model: nn.Module, device: str) -> None:
    """Moves a network to a device: cpu, cuda, mps, or auto for the best there is.

    Raises:
        InputError: If it is not to be had here.
    """
    try:
        Fabric(accelerator=device, devices=1).to_device(model)
    except (ValueError, RuntimeError, MisconfigurationException) as fault:
        raise InputError(f"device {device!r} is not to be had ({str(fault).splitlines()[0]})") from fault


def set_threads(threads: int) -> None:
    """Sets the number of threads, and keeps freed memory in the process.

    The C library gives large blocks back to the system when they are freed. A step of descent frees and asks for the same
    blocks again and again, and every page of them is then cleared anew: a third of the time of a step, on one thread.

    Raises:
        InputError: If there are none, or more than any processor has.
    """
    at_least(1, threads=threads)
    at_most(MOST_THREADS, threads=threads)
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


MOST_THREADS = 1024
"""over which it is a slip of the finger; each has a stack of its own"""
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""names of malloc.h"""
