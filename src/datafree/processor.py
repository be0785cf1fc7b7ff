"""How a process uses the CPU: so many threads, and memory that is kept once it was asked for."""

import ctypes
import platform

import torch


def use(threads: int) -> None:
    """Sets the number of threads, and keeps freed memory in the process.

    The C library gives large blocks back to the system when they are freed. A step of descent frees and asks for the same
    blocks again and again, and every page of them is then cleared anew: a third of the time of a step, on one thread.
    """
    torch.set_num_threads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""names of malloc.h"""
