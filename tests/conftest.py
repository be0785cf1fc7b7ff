"""Fixtures: one seed and one thread for every test; teachers are trained once per session."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.classifier import Classifier
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.types import Batch


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bars() -> Batch:
    """The training images of the toy teachers."""
    torch.manual_seed(0)
    return toys.bars()


@pytest.fixture(scope="session")
def teacher(bars: Batch) -> Classifier:
    """A teacher of the bars; its running statistics are exactly those of the bars."""
    torch.manual_seed(0)
    return toys.teach(toys.conv_net(), bars)


@pytest.fixture(scope="session")
def plain_teacher(bars: Batch) -> Classifier:
    """A teacher of the bars without batch norm."""
    torch.manual_seed(0)
    return toys.teach(toys.plain_net(), bars)


@pytest.fixture
def student() -> Classifier:
    return toys.conv_net((4, 4))


@pytest.fixture(scope="session")
def digits_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small network trained on scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("teachers") / "digits"
    example_teacher(network="convnet_w16", data="digits", out=folder, training=TrainingConfig(steps=150, lr=1e-2))
    return folder


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an untrained network without batch norm."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teachers") / "plain"
    teachers.save_folder(teachers.create("lenet5"), folder)
    return folder


@pytest.fixture(autouse=True, scope="session")
def pools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Pools of estimates are not stored in the user's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATAFREE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium that resolves no host name."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium; `make browser` installs it")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is missing; `make browser` installs it")
    with api.sync_playwright() as driver:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
        chrome = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield chrome
        chrome.close()
