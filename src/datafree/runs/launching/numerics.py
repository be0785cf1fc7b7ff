"""How a device computes: the precision of its matrix products, and kernels that give the same result each time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

MATMUL_PRECISION = "high"
"""float32 matrix products on CUDA, by the name of `torch.set_float32_matmul_precision`: TF32, which torch uses for float32
convolutions anyway"""
CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
"""environment variable without which CUDA has no deterministic matrix products"""
_settings: Any = torch.utils.deterministic


def choose_matmul_precision(device: str) -> None:
    """Choose the precision of matrix products before Lightning advises to do so, if the device may be one of CUDA.

    The products of other devices are not changed.

    Args:
        device: The device as it was asked for: cpu, cuda, auto, ...
    """
    if device in ("auto", "cuda", "gpu") and torch.cuda.device_count():
        torch.set_float32_matmul_precision(MATMUL_PRECISION)


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """Let torch use kernels that give the same result each time inside a `with` block, where there are such kernels.

    Torch warns of an operation that has none. All settings are restored when the block ends.

    Args:
        wanted: Whether to do so; if not, nothing is changed.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    enabled, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled, convolutions, searches = _settings.fill_uninitialized_memory, cudnn.deterministic, cudnn.benchmark
    workspace = os.environ.get(CUBLAS_WORKSPACE)
    try:
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        _settings.fill_uninitialized_memory = False  # for finding errors; it would write all new memory twice
        cudnn.deterministic, cudnn.benchmark = True, False
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warns)
        _settings.fill_uninitialized_memory = filled
        cudnn.deterministic, cudnn.benchmark = convolutions, searches
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)


def numerics() -> dict[str, str | bool]:
    """Return how this process computes now, for the environment of a run."""
    return {
        "float32_matmul": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
