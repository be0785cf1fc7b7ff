"""Checkpoints written the way people write them: the right tensors are read, and what the container says is known."""

import argparse
import collections
import types
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import toys
from safetensors.torch import save_file
from timm.utils import CheckpointSaver, ModelEmaV3  # type: ignore[attr-defined]
from torch import Tensor, nn

from datafree.networks.building import blueprint
from datafree.types import InputError
from datafree.weights.containers import Checkpoint
from datafree.weights.matching import match
from datafree.weights.reading import read_checkpoint

NETWORK = "convnet_w16"
Write = Callable[[Path, nn.Module, nn.Module], None]


@cache
def network(seed: int = 0) -> nn.Module:
    """Return a network that no test changes."""
    torch.manual_seed(seed)
    return timm.create_model(NETWORK)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


def prefixed(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}


def optimizer(model: nn.Module) -> dict[str, Any]:
    """Return the state of an optimizer after a step of a copy of the network."""
    model = deepcopy(model)
    made = torch.optim.AdamW(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()  # type: ignore[union-attr]
    made.step()
    return made.state_dict()


def saved(content: Callable[[nn.Module, nn.Module], Any]) -> Write:
    """Return a function that saves the content made from the last weights and their average."""
    return lambda path, last, average: torch.save(content(last, average), path)


def by_timm(average: bool) -> Write:
    """Save as timm's train.py does: options as `argparse.Namespace`, the metric as a number of numpy."""

    def write(path: Path, last: nn.Module, ema: nn.Module) -> None:
        folder = path.parent / "saver"
        folder.mkdir()
        options = argparse.Namespace(
            model=NETWORK,
            num_classes=10,
            img_size=None,
            input_size=[1, 8, 8],
            mean=[0.1],
            std=[0.2],
            model_kwargs={"act": "relu"},
            lr=np.float64(0.1),
        )
        moving = ModelEmaV3(ema) if average else None
        saver = CheckpointSaver(last, torch.optim.SGD(last.parameters()), options, moving, checkpoint_dir=str(folder))
        saver.save_checkpoint(0, np.float32(0.5))
        (folder / "last.pth.tar").rename(path)

    return write


LIGHTNING: dict[str, Any] = {"epoch": 1, "pytorch-lightning_version": "2.5", "loops": {}, "hparams_name": "kwargs"}

LAST: dict[str, Write] = {
    "a state dict": saved(lambda last, _: last.state_dict()),
    "an old format": lambda path, last, _: torch.save(last.state_dict(), path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path, last, _: save_file(weights(last), path),
    "a dictionary": saved(lambda last, _: dict(last.state_dict())),
    "parameters with gradients": saved(lambda last, _: dict(last.named_parameters()) | dict(last.named_buffers())),
    "the only entry": saved(lambda last, _: {"student_of_mine": weights(last), "accuracy": 0.9}),
    "net": saved(lambda last, _: {"net": prefixed("module.", last), "acc": 93.1, "epoch": 7}),
    "a tutorial": saved(
        lambda last, _: {
            "epoch": 3,
            "model_state_dict": weights(last),
            "optimizer_state_dict": optimizer(last),
            "loss": torch.tensor(0.5),
        }
    ),
    "torch's ImageNet example": saved(
        lambda last, _: {
            "epoch": 3,
            "arch": NETWORK,
            "state_dict": prefixed("module.", last),
            "best_acc1": torch.tensor(70.0),
            "optimizer": optimizer(last),
        }
    ),
    "DataParallel": saved(lambda last, _: prefixed("module.", last)),
    "torch.compile": saved(lambda last, _: prefixed("_orig_mod.", last)),
    "compile in DataParallel": saved(lambda last, _: prefixed("module._orig_mod.", last)),
    "compile of one layer": saved(
        lambda last, _: {k.replace("blocks.", "blocks._orig_mod."): v for k, v in weights(last).items()}
    ),
    "FSDP": saved(lambda last, _: prefixed("_fsdp_wrapped_module.", last)),
    "module.model": saved(lambda last, _: prefixed("module.model.", last)),
    "a backbone": saved(lambda last, _: prefixed("backbone.", last)),
    "backbone and classifier": saved(
        lambda last, _: {k if k.startswith("head.") else f"backbone.{k}": v for k, v in weights(last).items()}
    ),
    "containers in each other": saved(lambda last, _: {"state": {"model": {"state_dict": prefixed("net.", last)}}}),
    "two networks": saved(lambda last, _: {"generator": {"fc.weight": torch.ones(3, 3)}, "classifier": weights(last)}),
    "parts by name": saved(
        lambda last, _: {part: getattr(last, part).state_dict() for part in ("blocks", "head")} | {"epoch": 3}
    ),
    "values beside tensors": saved(lambda last, _: {**weights(last), "epoch": 3, "best": 0.9}),
    "without counters": saved(
        lambda last, _: {k: v for k, v in weights(last).items() if not k.endswith("num_batches_tracked")}
    ),
    "arrays of numpy": saved(lambda last, _: {name: tensor.numpy() for name, tensor in weights(last).items()}),
    "arrays in columns": saved(
        lambda last, _: {"weights": {name: np.asfortranarray(tensor.numpy()) for name, tensor in weights(last).items()}}
    ),
    "thop's counters": saved(
        lambda last, _: {**weights(last), "total_ops": torch.zeros(1), "head.total_params": torch.zeros(1)}
    ),
    "Lightning": saved(
        lambda last, _: {
            **LIGHTNING,
            "state_dict": {
                **prefixed("model.", last),
                "criterion.weight": torch.ones(10),
                "train_acc.tp": torch.ones(10),
            },
            "optimizer_states": [optimizer(last)],
            "hyper_parameters": {"arch": NETWORK, "num_classes": 10, "folder": Path("/data/x"), "lr": 1e-3},
        }
    ),
    "Lightning, layers at the top": saved(
        lambda last, _: {**LIGHTNING, "state_dict": {**weights(last), "loss_fn.pos_weight": torch.ones(10)}}
    ),
    "odd options": saved(
        lambda last, _: {
            "model": weights(last),
            "args": types.SimpleNamespace(a=1, where=Path("x")),
            "history": collections.defaultdict(list, {"loss": [np.float32(1)]}),
            "best": np.int64(3),
            "confusion": np.eye(3),
            "words": np.array(["a"], dtype=object),
            "seen": {1, 2},
        }
    ),
    "timm, without average": by_timm(average=False),
    "half precision": saved(lambda last, _: deepcopy(last).half().state_dict()),
    "no batch norm counters in a container": saved(
        lambda last, _: {"network": {k: v for k, v in weights(last).items() if not k.endswith("tracked")}}
    ),
}
"""each saves the last weights"""

AVERAGES: dict[str, Write] = {
    "timm": by_timm(average=True),
    "DeiT": saved(
        lambda last, average: {
            "model": weights(last),
            "optimizer": optimizer(last),
            "lr_scheduler": {"best": np.float64(3)},
            "epoch": 1,
            "model_ema": weights(average),
            "scaler": {},
            "args": argparse.Namespace(model=NETWORK, nb_classes=10, input_size=8),
        }
    ),
    "torchvision's references": saved(
        lambda last, average: {
            "model": weights(last),
            "model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.", average)},
            "args": argparse.Namespace(model=NETWORK, train_crop_size=8),
        }
    ),
    "an average alone": saved(lambda _, average: {"state_dict_ema": weights(average), "epoch": 1}),
    "AveragedModel": saved(lambda _, average: torch.optim.swa_utils.AveragedModel(average).state_dict()),
    "an average of parameters": saved(
        lambda last, average: {
            "state_dict": {**weights(last), **dict(average.named_buffers())},
            "ema": dict(average.named_parameters()),
        }
    ),
    "Lightning with an average": saved(
        lambda last, average: {
            **LIGHTNING,
            "state_dict": {**prefixed("model.", last), **prefixed("ema_model.module.", average)},
        }
    ),
}
"""each saves the moving average too"""


def read(tmp_path: Path, write: Write) -> tuple[Checkpoint, dict[str, Tensor], tuple[str, ...]]:
    """Write a checkpoint; return it, its weights by the names of the network, and all notes."""
    write(tmp_path / "x.pt", network(1), network(2))
    checkpoint = read_checkpoint(tmp_path / "x.pt")
    found = match(blueprint(NETWORK), checkpoint.tensors, "x.pt", keys=checkpoint.keys)
    return checkpoint, found.weights, (*checkpoint.notes, *found.notes)


def equal(found: Mapping[str, Tensor], model: nn.Module) -> bool:
    own = model.state_dict()
    counted = [name for name in own if not name.endswith("num_batches_tracked")]
    return found.keys() == own.keys() and all(torch.equal(found[name].float(), own[name].float()) for name in counted)


@pytest.mark.parametrize("write", LAST.values(), ids=LAST)
def test_weights_are_read(tmp_path: Path, write: Write):
    half = write is LAST["half precision"]
    _, found, _ = read(tmp_path, write)
    assert equal(found, deepcopy(network(1)).half() if half else network(1))
    blueprint(NETWORK).load_state_dict(found, assign=True)


@pytest.mark.parametrize("write", AVERAGES.values(), ids=AVERAGES)
def test_the_moving_average_is_taken(tmp_path: Path, write: Write):
    _, found, notes = read(tmp_path, write)
    assert equal(found, network(2))
    if write is not AVERAGES["AveragedModel"]:
        assert "moving average" in " ".join(notes)


def test_the_note_says_which_weights_were_taken(tmp_path: Path):
    _, _, notes = read(tmp_path, AVERAGES["timm"])
    assert notes == (
        f"{tmp_path}/x.pt: the moving average of the weights ('state_dict_ema') was taken instead of the last weights "
        "('state_dict')",
    )
    (tmp_path / "x.pt").unlink()
    _, _, notes = read(tmp_path, AVERAGES["an average of parameters"])
    assert "with 9 tensors that have no average, such as blocks.0.2.running_mean" in notes[0]


def test_what_was_left_out_is_said(tmp_path: Path):
    notes = [read(tmp_path, LAST[name])[2] for name in ("Lightning", "values beside tensors", "two networks")]
    assert "not part of the network and were left out: criterion.weight, train_acc.tp" in notes[0][0]
    assert "entries that are not tensors were left out: epoch, best" in notes[1][0]
    assert "left out: generator.fc.weight" in notes[2][0]
    assert not read(tmp_path, LAST["DataParallel"])[2]


def test_the_same_network_twice_is_refused(tmp_path: Path):
    torch.save({"student": weights(network(1)), "teacher": weights(network(2))}, tmp_path / "x.pt")
    checkpoint = read_checkpoint(tmp_path / "x.pt")
    with pytest.raises(
        InputError, match=r"contains the network 2 times, under the prefixes 'student\.' and 'teacher\.'"
    ):
        match(blueprint(NETWORK), checkpoint.tensors, "x.pt")


def test_what_timm_says_about_the_network_is_known(tmp_path: Path):
    description = read(tmp_path, by_timm(average=True))[0].description
    assert (description.architecture, description.classes, description.arguments) == (NETWORK, 10, {"act": "relu"})
    assert (description.channels, description.size, description.mean, description.std) == (1, (8, 8), (0.1,), (0.2,))


def test_what_other_containers_say_is_known(tmp_path: Path):
    deit = read(tmp_path, AVERAGES["DeiT"])[0].description
    assert (deit.architecture, deit.classes, deit.channels, deit.size) == (NETWORK, 10, None, (8, 8))
    lightning = read(tmp_path, LAST["Lightning"])[0]
    assert (lightning.description.architecture, lightning.description.classes) == (NETWORK, 10)
    assert {"epoch", "state_dict", "hyper_parameters"} <= set(lightning.keys)
    assert read(tmp_path, LAST["a state dict"])[0].keys == ()


@pytest.mark.parametrize(
    "entry",
    [
        {"class_names": ["cat", "dog", "owl"]},
        {"class_to_idx": {"dog": 1, "owl": 2, "cat": 0}},
        {"idx_to_class": {0: "cat", 2: "owl", 1: "dog"}},
        {"hyper_parameters": {"classes": ("cat", "dog", "owl")}},
        {"id2label": {"0": "cat", "1": "dog", "2": "owl"}},
    ],
)
def test_names_of_classes_are_known(tmp_path: Path, entry: dict[str, Any]):
    torch.save({"state_dict": weights(network()), **entry}, tmp_path / "x.pt")
    description = read_checkpoint(tmp_path / "x.pt").description
    assert (description.class_names, description.classes) == (("cat", "dog", "owl"), 3)


@pytest.mark.parametrize(
    "entry",
    [
        {"arch": "../../x", "num_classes": -1, "img_size": 10**9, "mean": "half", "std": [0.0], "crop_pct": 1e9},
        {"arch": 3, "num_classes": True, "img_size": [1, 2, 3, 4], "mean": [float("nan")], "in_chans": 10**6},
        {"class_names": ["a", "a"], "class_to_idx": {"a": 0, "b": 2}, "idx_to_class": {0: 1}, "interpolation": "x/y"},
        {"args": [1], "hyper_parameters": None, "mean": [0.1, 0.1], "std": [0.1], "model_kwargs": {"a.b c": 1}},
        {"args": argparse.Namespace(args=argparse.Namespace(model=NETWORK)), "model_kwargs": {"a": {"b": 1}}},
    ],
)
def test_values_that_cannot_be_meant_are_ignored(tmp_path: Path, entry: dict[str, Any]):
    torch.save({"state_dict": weights(network()), **entry}, tmp_path / "x.pt")
    assert read_checkpoint(tmp_path / "x.pt").description == Checkpoint({}).description


def test_names_with_control_characters_are_harmless(tmp_path: Path):
    entry = {"class_names": ["a\x1b[31m", "b"], "k\x1b[2J": 1}
    torch.save({"state_dict": weights(network()), **entry}, tmp_path / "x.pt")
    checkpoint = read_checkpoint(tmp_path / "x.pt")
    assert "\x1b" not in repr(checkpoint.description.class_names) + "".join(checkpoint.keys)


def test_the_order_of_the_file_is_kept_where_it_has_one(tmp_path: Path):
    saved = weights(network())
    torch.save(saved, tmp_path / "x.pt")
    save_file(saved, tmp_path / "x.safetensors")
    pickled, sorted_ = read_checkpoint(tmp_path / "x.pt"), read_checkpoint(tmp_path / "x.safetensors")
    assert pickled.ordered and list(pickled.tensors) == list(saved)
    assert not sorted_.ordered and toys.same(dict(sorted_.tensors), saved)
