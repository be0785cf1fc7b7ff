"""Devices, CPU threads and memory."""

import resource

import pytest
import torch
from torch import nn

from datafree.runs.hardware import launch, set_threads, to_device
from datafree.types import InputError


def test_the_number_of_threads_is_set():
    set_threads(1)
    assert torch.get_num_threads() == 1


def test_freed_memory_is_reused():
    set_threads(1)
    for _ in range(3):
        torch.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**23)
    pages = 10 * 4 * 2**23 // resource.getpagesize()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 0.9 * pages


def test_an_unavailable_device_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="^device 'abacus' is not available; use --device cpu [(]"):
        to_device(nn.Linear(1, 1), "abacus")


def test_an_unavailable_device_is_refused_with_every_setting_that_may_be_the_cause():
    with pytest.raises(InputError, match="use --device cpu or --precision 32-true or --devices 1 [(]"):
        launch("abacus", devices=2, precision="bf16-mixed")
