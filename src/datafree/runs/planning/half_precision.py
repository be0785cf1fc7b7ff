"""Whether a processor computes bf16 faster than float32, or by emulation."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

SLOW = 1.2
"""ratio of times from which bf16 is called slow"""
REPEATS = 5


def bf16_ratio(device: torch.device | str = "cpu", clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the time of a convolution, its gradient and a matrix product in bf16, relative to float32.

    It takes about a tenth of a second. No random number is drawn.

    Args:
        device: The device to measure.
        clock: Returns seconds.
    """
    device = torch.device(device)
    seconds = [_seconds(dtype, device, clock) for dtype in (torch.bfloat16, torch.float32)]
    return seconds[0] / max(seconds[1], 1e-9)


def note_on_bf16(ratio: float) -> str:
    """Return a sentence for a ratio of `bf16_ratio`; empty if bf16 is not slow."""
    if ratio < SLOW:
        return ""
    return f"this processor takes {ratio:.1f} times as long in bf16 as in float32; leave --precision 32-true"


def _seconds(dtype: torch.dtype, device: torch.device, clock: Callable[[], float]) -> float:
    """Return the shortest time of several, after one that is not counted."""
    images = torch.ones(16, 16, 16, 16, dtype=dtype, device=device)
    images = images.to(memory_format=torch.channels_last).requires_grad_()
    kernel = torch.ones(16, 16, 3, 3, dtype=dtype, device=device)
    matrix = torch.ones(256, 256, dtype=dtype, device=device)
    times = []
    for _ in range(REPEATS + 1):
        _wait(device)
        start = clock()
        torch.autograd.grad(F.conv2d(images, kernel, padding=1).sum(), images)
        torch.mm(matrix, matrix)
        _wait(device)
        times.append(clock() - start)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
