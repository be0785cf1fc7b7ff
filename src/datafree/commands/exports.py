"""`datafree export`: a network for other tools and devices."""

from dataclasses import dataclass
from pathlib import Path

import torch

from datafree.classifier import Classifier
from datafree.commands.options.parsing import Form, Positional
from datafree.commands.runs import console, refuse_existing, upload
from datafree.export.comparison import MOST
from datafree.export.hub import require_repository
from datafree.export.results import Exported
from datafree.export.writing import LIBRARIES, SUFFIXES, Format, export, require_fit
from datafree.progress import emit
from datafree.runs.hardware import set_threads
from datafree.runs.reporting.console import say
from datafree.runs.reporting.provenance import provenance_of
from datafree.sets.saved import require_fit as require_same_shape
from datafree.synthesis.image_sets import StoredSet
from datafree.teachers.options import TeacherOptions
from datafree.types import Images, InputError


@dataclass(frozen=True, kw_only=True)
class Export(TeacherOptions):
    """Which network is written, and how."""

    network: Positional[str]
    """the network to export: a folder, a weights file, a timm name, torchvision:NAME, transformers:NAME, hf-hub:NAME, or
    FILE.py:FUNCTION"""
    out: Path
    """output; must not exist: a folder with a model card, or one file if the name ends in .onnx or .pt2"""
    format: Format = "onnx"
    """onnx; torch-export: a program that torch runs without the code of the network; timm: a folder that timm loads"""
    normalise: bool = True
    """whether the file takes pixels in [0, 1] and normalises them; otherwise it takes normalised images"""
    images: str = ""
    """folder that `datafree synthesize` wrote, for the comparison with torch; default: procedural pictures"""
    push_to_hub: str = ""
    """repository of the Hugging Face hub that the folder is uploaded to at the end; it is created as a private one"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.push_to_hub and self.out.suffix in SUFFIXES:
            raise InputError("a single file has no model card to upload; give --out the name of a folder")


EXPORT = Form(verb="export", options=lambda: Export)
FORMS = (EXPORT,)


def export_network(arguments: list[str]) -> None:
    """`datafree export`."""
    options: Export = EXPORT.parse(arguments)
    refuse_existing(options.out)
    require_fit(options.out, options.format)
    if options.push_to_hub:
        require_repository(options.push_to_hub)
    set_threads(options.threads)
    classifier = options.load_network(options.network)
    images = saved_images(options.images, classifier) if options.images else None
    provenance = provenance_of(options.network, classifier, weights=options.weights, library=LIBRARIES[options.format])
    exported = export(
        classifier,
        options.out,
        options.format,
        normalise=options.normalise,
        images=images,
        header=provenance.header,
        provenance=provenance.facts,
    )
    for note in (*classifier.notes, *exported.notes):
        say(console, "note", note)
    show(exported)
    upload(options.out, options.push_to_hub)


def saved_images(folder: str, classifier: Classifier) -> Images:
    """Return the first images of a set, as many as are compared at most.

    Raises:
        InputError: If the folder is no image set, or its images have another shape than those of the network.
    """
    stored = StoredSet(folder)
    require_same_shape(stored, classifier, folder)
    return stored.read(torch.arange(min(MOST, len(stored)))).images


def show(exported: Exported) -> None:
    """Print how an exported network compares with torch, and where it is."""
    say(console, "compared", exported.sentence)
    say(console, "latency", exported.latency)
    say(console, "written", f"{exported.path}  ({exported.bytes:,} bytes)")
    emit(console, "result", exported=exported.as_dict())
