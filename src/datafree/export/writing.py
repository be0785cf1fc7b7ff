"""One function for all formats: a folder with the exported network, its comparison with torch, and a model card."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from datafree.classifier import Classifier
from datafree.export.cards import Header
from datafree.export.onnx_file import export_onnx, require_exporter
from datafree.export.results import Exported
from datafree.export.timm_folder import export_timm
from datafree.export.torch_program import export_torch
from datafree.files import write_json
from datafree.files.writing import atomic_folder
from datafree.sets.privacy import PRIVACY, literal
from datafree.types import Images, InputError

Format = Literal["onnx", "torch-export", "timm"]
FILES = {"onnx": "model.onnx", "torch-export": "model.pt2"}
"""format: name of the file in the output folder"""
RESULT = "export.json"
"""file of the output folder with the comparison"""
LIBRARIES = {"onnx": "onnx", "torch-export": "pytorch", "timm": "timm"}
"""format: the library that loads it, by its name on the hub"""
LOADING = {
    "onnx": """\
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = np.zeros((1, {channels}, {height}, {width}), np.float32)
(logits,) = session.run(["logits"], {{"images": images}})""",
    "torch-export": """\
import torch

model = torch.export.load("model.pt2").module()
logits = model(torch.zeros(1, {channels}, {height}, {width}))""",
    "timm": """\
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()""",
}


def export(
    classifier: Classifier,
    out: str | Path,
    format: Format = "onnx",
    *,
    normalise: bool = True,
    images: Images | None = None,
    header: Header | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Exported:
    """Write a classifier for other tools: a folder with the network, `export.json` and a model card, or one file.

    Args:
        classifier: The classifier; it is not changed.
        out: The output. A name that ends in .onnx or .pt2 is one file without card; any other is a folder.
        format: onnx, torch-export, or timm.
        normalise: Whether the file takes pixels in [0, 1] and normalises them. timm's folders never do.
        images: Synthesized images for the comparison, in [0, 1]; default: procedural pictures are drawn.
        header: Of the model card; default: one that says nothing about the teachers.
        provenance: What else the metadata of the file say.

    Raises:
        InputError: If the format does not fit the output or cannot take the network; nothing is written then.
    """
    out = Path(out)
    require_fit(out, format)
    write = writer(format, normalise=normalise, images=images, provenance=provenance)
    if out.suffix in SUFFIXES:
        return write(classifier, out)
    with atomic_folder(out) as new:
        place = new / FILES[format] if format in FILES else new
        exported = write(classifier, place)
        exported = replace(exported, path=out / place.relative_to(new))
        write_json(new / RESULT, exported.as_dict())
        text = card(exported, classifier, header or Header(name=out.name, library=LIBRARIES[format]))
        (new / "README.md").write_text(text, encoding="utf-8")
    return exported


SUFFIXES = {Path(name).suffix: format for format, name in FILES.items()}
"""suffix of an output that is one file: its format"""
OTHER_FILES = {".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".txt", ".json", ".zip", ".tflite", ".engine"}
"""suffixes of files that no format writes; other names with a dot, such as resnet18.a1_in1k, are folders"""


def require_fit(out: Path, format: str) -> None:
    """Check that an output and a format fit, and that the packages of the format are installed.

    Raises:
        InputError: If not.
    """
    if out.suffix in OTHER_FILES:
        raise InputError(
            f"{out} is the name of a file that export does not write; end it in .onnx or .pt2, or name a folder"
        )
    named = SUFFIXES.get(out.suffix, format)
    if named != format:
        raise InputError(f"{out} is the name of a file of the format {named}; give --format {named} or another --out")
    if format == "onnx":
        require_exporter()


def writer(format: Format, **settings: Any) -> Callable[[Classifier, Path], Exported]:
    """Return the function that writes a format."""
    if format == "timm":
        return lambda classifier, path: export_timm(classifier, path, images=settings["images"])
    by_format = {"onnx": export_onnx, "torch-export": export_torch}
    return lambda classifier, path: by_format[format](classifier, path, **settings)


def card(exported: Exported, classifier: Classifier, header: Header) -> str:
    """Return the model card of an exported network in Markdown."""
    channels, height, width = exported.shape
    code = LOADING[exported.format].format(channels=channels, height=height, width=width)
    names = ", ".join(map(literal, classifier.classes[:20])) + (", ..." if len(classifier.classes) > 20 else "")
    several = "; an image can have several labels" if classifier.multi_label else ""
    notes = "".join(f"\nNote: {literal(note)}.\n" for note in (*classifier.notes, *exported.notes))
    return f"""{header.text()}
# {literal(header.name)} as {exported.format}

```python
{code}
```

{taken(exported, classifier)} Outputs are logits in float32, one per class{several}.
Classes ({len(classifier.classes)}): {names}.

Compared with the network in torch: {exported.sentence}. {exported.latency}, on the machine of the export.
{notes}
{header.licence_sentence}

**Privacy.** {PRIVACY}
"""


def taken(exported: Exported, classifier: Classifier) -> str:
    """Return one or two sentences about the images that an exported network takes."""
    channels, height, width = exported.shape
    size = (
        f"`images` of shape (n, {channels}, {height}, {width})"
        if not exported.batch
        else (f"`images` of shape ({exported.batch}, {channels}, {height}, {width})")
    )
    mean, std = (
        " ".join(f"{value:g}" for value in values.flatten().tolist()) for values in (classifier.mean, classifier.std)
    )
    if exported.normalised_inside:
        return f"Inputs are {size}, pixels in [0, 1]; the file normalises them (mean {mean}, standard deviation {std})."
    return f"Inputs are {size}, pixels in [0, 1] normalised with mean {mean} and standard deviation {std}."
