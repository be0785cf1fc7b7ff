"""Folders that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads, without datafree."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.comparison import verified
from datafree.export.deployment import Deployed
from datafree.export.results import Exported
from datafree.teachers.folders import CODE, LOCAL, registering_module, save_folder
from datafree.teachers.folders.saving import Card, config_of
from datafree.teachers.libraries.torchvision_networks import PREFIX as TORCHVISION
from datafree.teachers.libraries.transformers_networks import TransformersNetwork
from datafree.types import Images, InputError

OTHER = "use --format onnx or torch-export"


def export_timm(
    classifier: Classifier, folder: str | Path, *, images: Images | None = None, card: Card = ""
) -> Exported:
    """Write a classifier as a folder in timm's layout. timm alone loads it, and must compute the same logits.

    Args:
        classifier: The classifier; it is not changed.
        folder: The output folder; an existing one is replaced.
        images: Synthesized images for the comparison, in [0, 1]; default: procedural pictures are drawn.
        card: Text of the model card; see `save_folder`.

    Raises:
        InputError: If timm alone cannot load the network, or loads another function.
    """
    import timm

    folder = Path(folder)
    require_timm(classifier)

    def text(config: dict[str, Any]) -> str:
        if "widths" in config:
            raise refusal("its layers are narrower than those of its architecture")
        return card(config) if callable(card) else card

    save_folder(classifier, folder, text)
    loaded = timm.create_model(f"{LOCAL}{folder}", pretrained=True).eval()
    network = Deployed(classifier, normalise=False)

    def by_timm(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return network.to_logits(loaded(batch))

    comparison = verified(classifier, network, {"timm": by_timm}, saved=images, other=OTHER)
    return Exported(
        path=folder,
        format="timm",
        bytes=sum(file.stat().st_size for file in folder.iterdir()),
        input="images",
        output="logits",
        shape=classifier.shape,
        batch=0,
        normalised_inside=False,
        notes=notes_on(classifier),
        details={"timm": timm.__version__},
        **comparison,
    )


def require_timm(classifier: Classifier) -> None:
    """Check that timm builds a network.

    Raises:
        InputError: If another library or datafree does.
    """
    if isinstance(classifier.model, TransformersNetwork):
        raise refusal("transformers builds it")
    config = config_of(classifier)
    if CODE in config:
        raise refusal(f"the code of {config[CODE]['class']} builds it")
    name = config["architecture"]
    if name.startswith(TORCHVISION):
        raise refusal("torchvision builds it")
    home = registering_module(name)
    if not home.startswith("timm."):
        raise refusal(f"{name} is registered by {home}")


def refusal(reason: str) -> InputError:
    """Return the error for a network that timm alone does not load."""
    return InputError(f"timm alone cannot load this network, because {reason}; {OTHER}")


def notes_on(classifier: Classifier) -> tuple[str, ...]:
    """Return what to know about the folder."""
    if classifier.outputs == "logits":
        return ()
    return (f"the network in the folder returns probabilities ({classifier.outputs}), not logits",)
