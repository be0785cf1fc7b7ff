"""Checkpoints as people write them: each is loaded by `teachers.load` as the function that was saved."""

import argparse
import copy
import json
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from datafree import teachers
from datafree.classifier import Classifier

SHAPE = (1, 8, 8)


@dataclass(frozen=True)
class Written:
    """A network as somebody saved it, and what has to be said to load it."""

    model: nn.Module
    spec: str
    settings: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int, int] = SHAPE
    notes: tuple[str, ...] = ()
    """parts of notes that are expected"""


Writer = Callable[[Path], Written]
WRITERS: dict[str, Writer] = {}


def writer(function: Writer) -> Writer:
    """Register a way to write a checkpoint."""
    WRITERS[function.__name__.replace("_", " ")] = function
    return function


@cache
def paper_network() -> nn.Module:
    """Return a network of the papers' with its own batch-norm statistics, of three classes."""
    return trained(timm.create_model("convnet_w16", num_classes=3))


def trained(model: nn.Module) -> nn.Module:
    """Give a network statistics that are not the initial ones, and put it into evaluation mode."""
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            value.uniform_(0.5, 1.5)
    return model.eval()


def weights(model: nn.Module | None = None) -> dict[str, Tensor]:
    return dict((model or paper_network()).state_dict())


def prefixed(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in weights().items()}


def other() -> dict[str, Tensor]:
    """Return weights that must not be taken."""
    return {name: tensor + 1 for name, tensor in weights().items()}


def container(folder: Path, content: Any, *notes: str, **settings: Any) -> Written:
    """Save something with torch, to be loaded as the weights of the papers' network."""
    torch.save(content, folder / "x.pt", **settings)
    return Written(paper_network(), "convnet_w16", {"weights": folder / "x.pt"}, notes=notes)


for title, content in {
    "bare state dict": lambda: OrderedDict(weights()),
    "state_dict entry": lambda: {"state_dict": weights(), "epoch": 3, "best_acc1": 0.5},
    "model entry": lambda: {"model": weights()},
    "net entry as of public CIFAR code": lambda: {"net": weights(), "acc": 93.2, "epoch": 199},
    "tutorial": lambda: {
        "epoch": 2,
        "model_state_dict": weights(),
        "optimizer_state_dict": torch.optim.Adam(paper_network().parameters()).state_dict(),
        "loss": torch.tensor(0.1),
    },
    "entry of another name": lambda: {"my_best_network": weights(), "epoch": 3},
    "DataParallel": lambda: {"state_dict": prefixed("module.")},
    "torch.compile": lambda: prefixed("_orig_mod."),
    "DataParallel and torch.compile": lambda: prefixed("module._orig_mod."),
    "Lightning": lambda: {
        "state_dict": prefixed("model."),
        "pytorch-lightning_version": "2.4.0",
        "hyper_parameters": {"lr": 0.1},
        "epoch": 1,
        "global_step": 10,
        "optimizer_states": [],
        "lr_schedulers": [],
    },
    "wrapped in a backbone": lambda: prefixed("backbone."),
    "nested wrappers": lambda: {"model": prefixed("module.net.")},
    "no counters of batches": lambda: {n: t for n, t in weights().items() if "num_batches" not in n},
    "float64": lambda: {n: t.double() if t.is_floating_point() else t for n, t in weights().items()},
    "parameters instead of tensors": lambda: {
        n: nn.Parameter(t, requires_grad=t.is_floating_point()) for n, t in weights().items()
    },
    "FSDP": lambda: {"model": prefixed("_fsdp_wrapped_module."), "epoch": 3},
    "DDP in a wrapper, compiled": lambda: {"state_dict": prefixed("model.module._orig_mod.")},
    "weights of another name beside an optimizer": lambda: {
        "my_network": weights(),
        "optim": torch.optim.Adam([nn.Parameter(torch.ones(2))]).state_dict(),
    },
    "tuple": lambda: (weights(), {"lr": 0.1}),
    "average in DDP": lambda: {
        "model": {f"module.{name}": tensor for name, tensor in other().items()},
        "ema": {"decay": 0.999, "module": prefixed("module.")},
        "optimizer": {"state": {}, "param_groups": []},
    },
    "AveragedModel": lambda: {"model_ema": {"n_averaged": torch.tensor(5), **prefixed("module.")}},
    "wrapper of another attribute": lambda: {"state_dict": prefixed("classifier_network.")},
}.items():
    WRITERS[title] = lambda folder, content=content: container(folder, content())

for title, pair in {"timm with EMA": ("state_dict", "state_dict_ema"), "DeiT with EMA": ("model", "model_ema")}.items():
    WRITERS[title] = lambda folder, pair=pair: container(folder, {pair[0]: other(), pair[1]: weights()}, pair[1])


@writer
def weights_beside_a_criterion(folder: Path) -> Written:
    return container(folder, {"state_dict": {**prefixed("net."), "criterion.weight": torch.ones(3)}}, "criterion")


@writer
def old_format_of_torch(folder: Path) -> Written:
    return container(folder, weights(), _use_new_zipfile_serialization=False)


@writer
def safetensors(folder: Path) -> Written:
    save_file(weights(), folder / "x.safetensors")
    return Written(paper_network(), "convnet_w16", {"weights": folder / "x.safetensors"})


@writer
def other_names_in_the_same_order(folder: Path) -> Written:
    named = enumerate(weights().items())
    renamed = {f"stage{index}.{name.rpartition('.')[2]}": tensor for index, (name, tensor) in named}
    torch.save(renamed, folder / "x.pt")
    settings = {"weights": folder / "x.pt", "match": "order"}
    return Written(paper_network(), "convnet_w16", settings, notes=("by their order and shapes",))


def training_arguments(**others: Any) -> argparse.Namespace:
    """Return some of the arguments of timm's and DeiT's training programs."""
    return argparse.Namespace(
        **{"model": "test_vit", "num_classes": None, "img_size": None, "input_size": None, "in_chans": None}
        | {"mean": None, "std": None, "lr": 0.1, "opt": "sgd", "data": "/data"}
        | others
    )


@writer
def DeiT(folder: Path) -> Written:  # noqa: N802  a name
    model = trained(timm.create_model("test_vit", num_classes=4, img_size=32))
    arguments = training_arguments(input_size=32, nb_classes=4)
    torch.save({"model": weights(model), "epoch": 1, "args": arguments, "scaler": {}}, folder / "checkpoint.pth")
    return Written(
        model, str(folder / "checkpoint.pth"), shape=(3, 32, 32), notes=("says that its network is test_vit",)
    )


@writer
def CheckpointSaver_of_timm(folder: Path) -> Written:  # noqa: N802  a name
    from timm.utils import CheckpointSaver

    model = trained(timm.create_model("test_resnet", num_classes=5, in_chans=1))
    arguments = training_arguments(model="test_resnet", num_classes=5, input_size=(1, 16, 16), mean=[0.3], std=[0.2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    saver = CheckpointSaver(model, optimizer, args=arguments, checkpoint_dir=str(folder), recovery_dir=str(folder))
    saver.save_checkpoint(epoch=0, metric=0.5)
    return Written(model, str(folder / "last.pth.tar"), shape=(1, 16, 16))


GUESSES = ("size of the teacher, 160 x 160, is timm's default", "mean and std of the teacher are timm's defaults")
"""parts of the notes on a file that says neither how its images are normalised nor how large they are"""


@writer
def training_with_defaults_of_timm(folder: Path) -> Written:
    model = trained(timm.create_model("test_resnet", num_classes=6))
    content = {"arch": "test_resnet", "state_dict": weights(model), "args": training_arguments(model="test_resnet")}
    torch.save(content, folder / "x.pth.tar")
    return Written(model, str(folder / "x.pth.tar"), shape=(3, 160, 160), notes=GUESSES)


@writer
def torchvision_network(folder: Path) -> Written:
    import torchvision

    model = trained(torchvision.models.shufflenet_v2_x0_5(num_classes=3))
    torch.save(model.state_dict(), folder / "x.pth")
    settings = {"weights": folder / "x.pth", "shape": (3, 32, 32)}
    return Written(model, "torchvision:shufflenet_v2_x0_5", settings, (3, 32, 32), ("torchvision's defaults",))


@writer
def torchvision_network_for_grey_images(folder: Path) -> Written:
    import torchvision

    model = torchvision.models.squeezenet1_1(num_classes=3)
    model.features[0] = nn.Conv2d(1, 64, 3, stride=2)  # as people do
    torch.save({"model": model.eval().state_dict()}, folder / "x.pth")
    settings = {"weights": folder / "x.pth", "mean": (0.5,), "std": (0.5,), "shape": (1, 32, 32)}
    return Written(model, "torchvision:squeezenet1_1", settings, (1, 32, 32))


@writer
def torchvision_network_that_is_not_named(folder: Path) -> Written:
    import torchvision

    model = trained(torchvision.models.shufflenet_v2_x0_5(num_classes=3))
    torch.save(model.state_dict(), folder / "x.pth")
    settings = {"shape": (3, 32, 32)}
    return Written(model, str(folder / "x.pth"), settings, (3, 32, 32), ("of torchvision:shufflenet_v2_x0_5",))


@writer
def paper_network_that_is_not_named(folder: Path) -> Written:
    torch.save({"state_dict": prefixed("module.")}, folder / "x.pth")
    return Written(paper_network(), str(folder / "x.pth"), notes=("of convnet_w16, so it is taken for one",))


def timm_folder(folder: Path, change: Callable[[dict[str, Any]], Any] = lambda _: None, **settings: Any) -> Written:
    """Save a network as timm does, and change its `config.json`."""
    model = trained(timm.create_model("test_vit", num_classes=3, img_size=32, depth=2))
    data = {"input_size": (3, 32, 32), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    options = {"safe_serialization": True} | settings
    timm.models.save_for_hf(model, folder / "net", data_config=data, **options)  # type: ignore[attr-defined]
    path = folder / "net" / "config.json"
    config = json.loads(path.read_text())
    config = change(config) or config
    path.write_text(json.dumps(config))
    return Written(model, f"local-dir:{folder / 'net'}", shape=(3, 32, 32))


def flat(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration as timm wrote it before it had `pretrained_cfg`."""
    own = {"architecture": config["architecture"], "model_args": config["model_args"], "num_classes": 3}
    return {**config["pretrained_cfg"], **own, "labels": ["a", "b", "c"]}


def classes_inside(config: dict[str, Any]) -> None:
    """Leave the number of classes in `pretrained_cfg` alone."""
    del config["num_classes"]
    config["model_args"].pop("num_classes", None)
    config["pretrained_cfg"]["num_classes"] = 3


for title, arguments in {
    "save_for_hf": {},
    "save_for_hf without safetensors": {"safe_serialization": False},
    "flat configuration": {"change": flat},
    "classes inside of pretrained_cfg": {"change": classes_inside},
    "labels with descriptions": {
        "model_config": {"label_names": ["n1", "n2", "n3"], "label_descriptions": {"n1": "one"}}
    },
    "labels by index": {"model_config": {"label_names": {"0": "zero", "2": "two"}}},
    "no normalisation": {
        "change": lambda config: [config["pretrained_cfg"].pop(word) for word in ("mean", "std")] and None
    },
}.items():
    WRITERS[title] = lambda folder, arguments=arguments: timm_folder(folder, **arguments)


def in_two_files(folder: Path) -> None:
    """Divide the weights of a folder, as transformers and timm divide those of large networks."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    places = {name: f"model-{1 + index % 2:05}-of-00002.safetensors" for index, name in enumerate(tensors)}
    for file in sorted(set(places.values())):
        save_file({name: tensors[name] for name in places if places[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / "model.safetensors").unlink()


@writer
def folder_with_several_files(folder: Path) -> Written:
    written = timm_folder(folder)
    in_two_files(folder / "net")
    return written


@writer
def path_of_a_folder(folder: Path) -> Written:
    written = timm_folder(folder)
    return Written(written.model, str(folder / "net"), shape=written.shape)


@writer
def weights_of_a_folder(folder: Path) -> Written:
    written = timm_folder(folder)
    return Written(written.model, str(folder / "net" / "model.safetensors"), shape=written.shape)


@writer
def weights_of_another_name(folder: Path) -> Written:
    written = timm_folder(folder)
    (folder / "net" / "model.safetensors").rename(folder / "net" / "my_weights.safetensors")
    return written


@writer
def weights_as_of_open_clip(folder: Path) -> Written:
    written = timm_folder(folder, safe_serialization=False)
    (folder / "net" / "pytorch_model.bin").rename(folder / "net" / "open_clip_pytorch_model.bin")
    return written


@writer
def datafree_folder(folder: Path) -> Written:
    model = copy.deepcopy(paper_network())
    teachers.save_folder(Classifier(model, shape=SHAPE, classes=("a", "b", "c")), folder / "net")
    return Written(model, f"local-dir:{folder / 'net'}")


class Logits(nn.Module):
    """The logits of an image classifier of transformers, computed by transformers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(pixel_values=images).logits


def hub_folder(folder: Path, kind: str, processor: str = "", **config: Any) -> Written:
    """Save a network of transformers, with its image processor if that is given."""
    transformers = pytest.importorskip("transformers")
    transformers.logging.disable_progress_bar()
    configuration = getattr(transformers, f"{kind}Config")(num_labels=3, num_channels=3, **config)
    network = trained(getattr(transformers, f"{kind}ForImageClassification")(configuration))
    network.save_pretrained(folder)  # type: ignore[operator]
    if processor:
        size = {"height": 32, "width": 32}
        getattr(transformers, processor)(size=size, image_mean=[0.1] * 3, image_std=[0.2] * 3).save_pretrained(folder)
    return Written(Logits(network), str(folder), {} if processor else {"shape": (3, 32, 32)}, (3, 32, 32))


VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "image_size": 32}


@writer
def ViT_of_transformers(folder: Path) -> Written:  # noqa: N802  a name
    return hub_folder(folder, "ViT", "ViTImageProcessor", **VIT, id2label={0: "cat", 1: "dog", 2: "cow"})


@writer
def ViT_of_transformers_in_several_files(folder: Path) -> Written:  # noqa: N802  a name
    written = hub_folder(folder, "ViT", "ViTImageProcessor", **VIT)
    in_two_files(folder)
    return written


@writer
def MobileNetV2_of_transformers(folder: Path) -> Written:  # noqa: N802  a name
    return hub_folder(folder, "MobileNetV2", depth_multiplier=0.35, image_size=32)


@writer
def last_layer_in_a_Sequential(folder: Path) -> Written:  # noqa: N802  a name
    model = copy.deepcopy(paper_network())
    model.head = nn.Sequential(nn.Dropout(), model.head)
    torch.save(model.eval().state_dict(), folder / "x.pt")
    return Written(model, "convnet_w16", {"weights": folder / "x.pt"}, notes=("head.1 in",))


@writer
def ResNet_of_transformers(folder: Path) -> Written:  # noqa: N802  a name
    return hub_folder(folder, "ResNet", "ViTImageProcessor", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])


@writer
def ConvNeXt_of_transformers(folder: Path) -> Written:  # noqa: N802  a name
    return hub_folder(folder, "ConvNext", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32)


@writer
def transformers_with_a_pickle_of_several_labels(folder: Path) -> Written:
    written = hub_folder(folder, "ViT", "ViTImageProcessor", **VIT, problem_type="multi_label_classification")
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return written


@pytest.mark.parametrize("name", WRITERS)
def test_every_checkpoint_is_loaded_as_the_function_that_was_saved(tmp_path: Path, name: str):
    written = WRITERS[name](tmp_path)
    loaded = teachers.load(written.spec, **written.settings)
    assert loaded.shape == written.shape
    images = torch.rand(2, *written.shape)
    with torch.no_grad():
        expected = written.model(loaded.normalize(images)).float()
        assert torch.allclose(loaded(images), expected, atol=1e-5), loaded.notes
    for part in written.notes:
        assert any(part in note for note in loaded.notes), loaded.notes


def test_there_are_forty_ways():
    assert len(WRITERS) >= 40
