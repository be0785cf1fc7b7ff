"""Programs of `torch.export`: the graph and the weights in one file, which torch runs without the code of the network."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.comparison import verified
from datafree.export.deployment import Deployed
from datafree.export.facts import facts_of, texts
from datafree.export.faults import quiet
from datafree.export.results import Exported
from datafree.export.tracing import trace
from datafree.files.writing import atomic_file
from datafree.types import Images

METADATA = "metadata.json"
"""name of the entry of the file that has the facts"""
OTHER = "use --format timm if timm builds the network"


def export_torch(
    classifier: Classifier,
    path: str | Path,
    *,
    normalise: bool = True,
    images: Images | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a classifier as a program of `torch.export`, which `torch.export.load(path).module()` loads.

    Before the file gets its name it is loaded, and must compute the same logits as the network.

    Args:
        classifier: The classifier; it is not changed.
        path: The file to write; an existing one is replaced.
        normalise: Whether the program takes pixels in [0, 1] and normalises them. Otherwise it takes normalised images.
        images: Synthesized images for the comparison, in [0, 1]; default: procedural pictures are drawn.
        provenance: What else the entry `metadata.json` of the file says.

    Raises:
        InputError: If torch cannot trace the network (with the layer), or the program computes another function.
    """
    path = Path(path)
    network = Deployed(classifier, normalise=normalise)
    traced = trace(network, network.taken(classifier.probe_images(2).cpu()))
    with atomic_file(path) as new:
        facts = json.dumps(texts(facts_of(classifier, normalise), provenance or {}), indent=2)
        with quiet(), new.open("wb") as file:
            torch.export.save(traced.program, file, extra_files={METADATA: facts})
        with quiet(), new.open("rb") as file:
            program = torch.export.load(file).module()

        def by_program(batch: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat([program(part) for part in batch.split(traced.batch or len(batch))])

        comparison = verified(classifier, network, {"torch-export": by_program}, saved=images, other=OTHER)
        size = new.stat().st_size
    return Exported(
        path=path,
        format="torch-export",
        bytes=size,
        input="images",
        output="logits",
        shape=classifier.shape,
        batch=traced.batch,
        normalised_inside=normalise,
        notes=traced.notes,
        details={"torch": torch.__version__},
        **comparison,
    )
