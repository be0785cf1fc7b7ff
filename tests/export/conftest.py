"""Exports in less time: the table of torch's operators is read once, and latencies are measured briefly."""

from collections.abc import Iterator
from functools import cache

import pytest
from torch.onnx._internal.exporter import _registration

from datafree.export import comparison


@pytest.fixture(autouse=True, scope="session")
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        registry = _registration.ONNXRegistry
        patch.setattr(registry, "from_torchlib", staticmethod(cache(registry.from_torchlib)))
        patch.setattr(comparison, "SECONDS", 0.0)
        patch.setattr(comparison, "MOST", 16)
        yield
