"""What a process does with the CPU."""

import resource

import torch

from datafree.runs.hardware import set_threads


def test_the_number_of_threads_is_set():
    set_threads(1)
    assert torch.get_num_threads() == 1


def test_freed_memory_is_asked_for_once():
    set_threads(1)
    for _ in range(3):
        torch.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**23)
    pages = 10 * 4 * 2**23 // resource.getpagesize()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 0.9 * pages
