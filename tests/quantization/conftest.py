"""The files of one quantised teacher, made once per session, since every export to ONNX takes seconds."""

from pathlib import Path

import pytest
import torch

from datafree.classifier import Classifier
from datafree.quantization.choosing import split_images
from datafree.quantization.workbench import Workbench
from datafree.types import Batch


@pytest.fixture(scope="session")
def bench(teacher: Classifier, tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    torch.manual_seed(0)
    return Workbench(teacher, tmp_path_factory.mktemp("workbench"))


@pytest.fixture(scope="session")
def ranges(bench: Workbench, bars: Batch) -> Path:
    return bench.ranges("bars", split_images(bars.images)[0], "minmax")
