"""Timm's weights are found where timm has put them, and a resumed run makes no request."""

import socket
from pathlib import Path

import pytest
import toys
from safetensors.torch import save_file

from datafree import teachers
from datafree.classifier import cpu_state_dict
from datafree.methods import METHODS
from datafree.runs.experiment import Experiment, set_up
from datafree.runs.tasks import AmalgamationTask, Task
from datafree.synthesis import Schedule
from datafree.teachers.hub import downloaded_weights, pretrained_source
from datafree.types import InputError

NETWORK = "test_resnet"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloads, and no network."""

    def refuse(*_: object) -> None:
        raise AssertionError("a request was made")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("DATAFREE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path / "hub"


def test_downloaded_weights_are_loaded_without_a_request(cache: Path):
    weights = cpu_state_dict(teachers.create(NETWORK).model)
    folder = cache / f"models--{pretrained_source(NETWORK).replace('/', '--')}"
    for path in (folder / "refs", folder / "snapshots" / "1"):
        path.mkdir(parents=True)
    (folder / "refs" / "main").write_text("1")
    save_file(weights, folder / "snapshots" / "1" / "model.safetensors")
    assert downloaded_weights(NETWORK).parent.name == "1"
    loaded = teachers.load(NETWORK, download=False)
    assert toys.same(cpu_state_dict(loaded.model), weights)
    assert any(f"those that timm provides ({pretrained_source(NETWORK)})" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("task", "what"),
    [
        (Task(teacher=NETWORK, student="convnet_w16"), "timm's weights of test_resnet are not on this machine"),
        (AmalgamationTask(teacher=(NETWORK, NETWORK)), "timm's weights of test_resnet are not on this machine"),
        (Task(teacher=NETWORK, data="mnist:0-4"), "mnist is not in "),
        (Task(teacher=NETWORK, data="cifar10"), "cifar10 is not in "),
    ],
)
@pytest.mark.usefixtures("cache")
def test_a_resumed_run_refuses_to_download(task: Task | AmalgamationTask, what: str):
    experiment = Experiment(task=task, method=METHODS["noise"], schedule=Schedule(), device="cpu")
    with pytest.raises(InputError, match=r"a resumed run downloads nothing; .*") as refusal:
        set_up(experiment, resuming=True)
    assert what in str(refusal.value)
