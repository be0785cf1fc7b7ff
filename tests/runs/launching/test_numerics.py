"""The precision of matrix products is chosen on CUDA only, and deterministic kernels are set and restored."""

import os

import pytest
import torch

from datafree.runs.launching.numerics import (
    CUBLAS_WORKSPACE,
    choose_matmul_precision,
    deterministic_kernels,
    numerics,
)


def state() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        os.environ.get(CUBLAS_WORKSPACE),
    )


def test_deterministic_kernels_are_set_and_restored(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(CUBLAS_WORKSPACE, raising=False)
    before = state()
    with deterministic_kernels(False):
        assert state() == before and numerics()["deterministic"] is False
    with pytest.raises(KeyError), deterministic_kernels(True):
        assert state() == (True, True, False, True, False, ":4096:8") and numerics()["deterministic"] is True
        raise KeyError
    assert state() == before


def test_a_workspace_that_the_user_has_set_is_kept(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(CUBLAS_WORKSPACE, ":16:8")
    with deterministic_kernels(True):
        assert os.environ[CUBLAS_WORKSPACE] == ":16:8"
    assert os.environ[CUBLAS_WORKSPACE] == ":16:8"


def test_matrix_products_change_on_cuda_only(monkeypatch: pytest.MonkeyPatch):
    before = torch.get_float32_matmul_precision()
    try:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        choose_matmul_precision("auto")
        assert torch.get_float32_matmul_precision() == before == "highest"
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        choose_matmul_precision("cpu")
        assert numerics()["float32_matmul"] == "highest"
        choose_matmul_precision("auto")
        assert numerics()["float32_matmul"] == "high"
    finally:
        torch.set_float32_matmul_precision(before)
