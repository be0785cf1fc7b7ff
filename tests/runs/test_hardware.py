"""Devices, CPU threads and memory."""

import resource
from collections.abc import Callable

import pytest
import torch
from torch import nn

from datafree.randomness import RandomState
from datafree.runs.hardware import launch, plain_faults, set_threads, to_device
from datafree.synthesis.pool import Pool
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


def test_float16_is_refused_on_a_cpu():
    """Lightning has no loss scaling there, without which gradients become 0."""
    with pytest.raises(InputError, match="^precision 16-mixed needs a GPU; use --precision bf16-mixed"):
        launch("cpu", precision="16-mixed")


def test_a_device_whose_library_is_missing_is_refused_in_one_sentence():
    with pytest.raises(InputError, match="^device 'tpu' is not available; use --device cpu [(]"):
        to_device(nn.Linear(1, 1), "tpu")
    with pytest.raises(InputError, match="^device 'tpu' is not available; use --device cpu [(]"):
        launch("tpu")


def test_the_device_of_a_run_that_exists_is_changed_in_its_folder():
    with pytest.raises(InputError, match='or set "device" to "cpu" in its experiment.json'):
        launch("cuda" if not torch.cuda.is_available() else "abacus", resuming=True)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (lambda: torch.empty(2**47), "the memory is not sufficient .*; lower --method.batch-size or --batch-size"),
        (lambda: torch.empty(2**62, 2**62), "a number is too large .*; lower the sizes"),
        (lambda: torch.empty(10**30), "a number is too large .*; lower the sizes"),
        (
            lambda: nn.BatchNorm2d(1)(torch.zeros(1, 1, 1, 1)),
            "a batch of one image is too small .*; use a batch size of 2",
        ),
    ],
    ids=["memory", "product", "integer", "batch norm"],
)
def test_faults_of_torch_become_one_sentence_with_the_fix(fault: Callable[[], object], sentence: str):
    with pytest.raises(InputError, match=sentence), plain_faults():
        fault()


def test_other_faults_are_not_changed():
    with pytest.raises(ValueError, match="^something else$"), plain_faults():
        raise ValueError("something else")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_the_images_of_a_run_on_a_gpu_are_resumed_without_one():
    state = {"written": 1, "newest_size": 1, "size": 1, "device": "cuda:0"}
    pool, tensors = Pool(1), {"images": torch.zeros(1, 1, 2, 2), "targets": torch.zeros(1).long()}
    pool.load_state_dict({**state, "tensors": tensors})
    assert pool.all().images.device.type == "cpu"
    RandomState().load_state_dict({"cpu": torch.get_rng_state(), "cuda": [torch.get_rng_state()]})
