"""Model cards of students, of trained and of imported networks: where they come from, how to load them, and privacy."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from datafree.classifier import Classifier, fingerprint
from datafree.export.cards import Header
from datafree.runs.reporting.card_header import header_of
from datafree.runs.reporting.sentences import costs, pictures, pruning, results
from datafree.runs.reporting.sentences import real_images as real_images
from datafree.sets.privacy import PRIVACY, literal
from datafree.teachers.folders import CODE as CODE_ENTRY
from datafree.teachers.folders import registering_module
from datafree.teachers.libraries import torchvision_networks
from datafree.teachers.libraries.image_processors import PROCESSOR

STUDENT = "student"
"""folder of a student's network, which the instructions for loading name"""
LOADING = """\
Load it in the folder that contains `student`:

    import timm
    {registers}
    model = timm.create_model("local-dir:student", pretrained=True)
"""
TORCHVISION = """\
Load it with torchvision, in the folder that contains `student`:

    import json, pathlib, torch, torchvision
    from safetensors.torch import load_file

    folder = pathlib.Path("student")
    config = json.loads((folder / "config.json").read_text())
    arguments = {{name: value for name, value in config["model_args"].items() if name != "in_chans"}}
    model = torchvision.models.get_model("{name}", num_classes=config["num_classes"]{settings}, **arguments)
{channels}    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
"""
CHANNELS = """\
    name, layer = next((n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.Conv2d))
    settings = {{word: getattr(layer, word) for word in ("stride", "padding", "dilation", "padding_mode")}}
    new = torch.nn.Conv2d({channels}, layer.out_channels, layer.kernel_size, bias=layer.bias is not None, **settings)
    setattr(model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2], new)
"""
TRANSFORMERS = """\
Load it with transformers, in the folder that contains `student`:

    from transformers import AutoImageProcessor, AutoModelForImageClassification
    model = AutoModelForImageClassification.from_pretrained("student")
    processor = AutoImageProcessor.from_pretrained("student")
"""
CODE = """\
Its network is built by code that is not in this folder: {where}. Load its weights into what this code builds:

    from safetensors.torch import load_file
    model.load_state_dict(load_file("student/model.safetensors"))
    model.eval()

or name the code to datafree: `--teacher {spec} --weights student/model.safetensors`.
"""
REBUILDING = """\
Its layers are narrower than those of its architecture; `config.json` has their widths. datafree loads it with
`datafree.load_folder`. To load it with timm and Torch-Pruning, in the folder that contains `student`:

    import json, pathlib, timm, torch, torch_pruning
    from safetensors.torch import load_file
    {registers}

    folder = pathlib.Path("student")
    config = json.loads((folder / "config.json").read_text())
    model = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
    images = torch.zeros(1, *config["pretrained_cfg"]["input_size"])
    graph = torch_pruning.DependencyGraph().build_dependency(model, (images,))
    for name, width in config["widths"].items():
        layer = model.get_submodule(name)
        excess = list(range(width, layer.weight.shape[0]))
        if excess:
            graph.get_pruning_group(layer, graph.get_pruner_of_module(layer).prune_out_channels, excess).prune()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.eval()
"""


SHOWN = 20
"""class names that a card lists"""


def loading(config: Mapping[str, Any]) -> str:
    """Return how to load the student without datafree, where that is possible.

    Args:
        config: Its `config.json`. An architecture that is not timm's own is registered first.
    """
    if CODE_ENTRY in config:
        return code_loading(config[CODE_ENTRY])
    name = config.get("architecture", "")
    if not name:
        return TRANSFORMERS.rstrip()
    if name.startswith(torchvision_networks.PREFIX):
        return torchvision_loading(name.removeprefix(torchvision_networks.PREFIX), config)
    home = registering_module(name)
    registers = "" if home.startswith("timm.") else f"import {home}  # registers its architecture in timm"
    lines = (REBUILDING if "widths" in config else LOADING).splitlines()
    return "\n".join(line.replace("{registers}", registers) for line in lines if registers or "{registers}" not in line)


def torchvision_loading(name: str, config: Mapping[str, Any]) -> str:
    """Return how to load one of torchvision's networks with torchvision alone."""
    shape = tuple(config["pretrained_cfg"]["input_size"])
    settings = {**torchvision_networks.size_arguments(name, shape), **torchvision_networks.fixed_arguments(name)}
    words = "".join(f", {word}={value!r}" for word, value in settings.items())
    channels = "" if shape[0] == torchvision_networks.CHANNELS else CHANNELS.format(channels=shape[0])
    return TORCHVISION.format(name=name, settings=words, channels=channels).rstrip()


def code_loading(code: Mapping[str, Any]) -> str:
    """Return which code builds a network, and what to do with it."""
    files = ", ".join(f"`{file}` (SHA-256 `{digest}`)" for file, digest in code["files"].items())
    where = f"`{code['spec'] or code['class']}`" + (f", of {files}" if files else "")
    return CODE.format(where=where, spec=code["spec"] or "FILE.py:FUNCTION").rstrip()


def library_of(config: Mapping[str, Any]) -> str:
    """Return the library that loads a student, by the name that the Hugging Face hub has for it."""
    name = config.get("architecture", "")
    if CODE_ENTRY in config or name.startswith(torchvision_networks.PREFIX):
        return "pytorch"
    return "timm" if name else "transformers"


def normalised_in(config: Mapping[str, Any]) -> str:
    """Return the file of a student's folder that has its mean and std."""
    return PROCESSOR if library_of(config) == "transformers" else "config.json"


def verdict(summary: Mapping[str, Any]) -> str:
    """Return the verdict on a run, with what was unusual about it, in sentences; nothing if it has none."""
    found = summary.get("verdict") or {}
    if not found:
        return ""
    faults = [f"{item['level'].capitalize()}: {literal(item['sentence'])}." for item in found["findings"]]
    return "\n".join([f"**{found['word'].capitalize()}**: {literal(found['sentence'])}.", *faults])


def as_sentence(note: str) -> str:
    """Return a note as a sentence of a card. It may quote a file from elsewhere, so that no markup in it works."""
    return f"Note: {literal(note)}."


def card(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the model card of a student in Markdown.

    Args:
        summary: The summary of the run.
        config: The student's `config.json`.
    """
    student, teacher = summary["student"], summary["teacher"]
    facts = [verdict(summary), pruning(summary), real_images(summary), results(summary)]
    facts += map(as_sentence, summary["notes"])
    header = header_of(summary, library_of(config))
    return f"""{header.text()}
# Student of a {"run with unlabelled pictures" if pictures(summary) else "data-free run"}

Method: *{summary["method"]}*. Synthesized images: {summary["images_synthesized"]:,}. SHA-256 of the teacher's weights:
`{summary["teacher_sha256"]}`.
{chr(10).join(filter(None, facts))}

Student: {costs(student)}. Teacher: {costs(teacher)}.

{loading(config)}

Inputs are pixels in [0, 1], normalised with the mean and std in `{normalised_in(config)}`.

{header.licence_sentence}

**Privacy.** {PRIVACY}

Settings of the run:

```json
{json.dumps(summary["experiment"], indent=2)}
```
"""


def network_card(
    classifier: Classifier, config: Mapping[str, Any], header: Header, facts: Sequence[str], folder: str
) -> str:
    """Return the model card of a network that is no student, in Markdown.

    Args:
        classifier: The network.
        config: Its `config.json`.
        header: The header.
        facts: Sentences about where its weights come from.
        folder: Name of its folder.
    """
    named = folder if re.fullmatch(r"[\w.-]+", folder) else "network"
    names = ", ".join(map(literal, classifier.classes[:SHOWN])) + (", ..." if len(classifier.classes) > SHOWN else "")
    parameters = sum(parameter.numel() for parameter in classifier.model.parameters())
    notes = "".join(f"\n{as_sentence(note)}" for note in classifier.notes)
    return f"""{header.text()}
# {literal(header.name)}

{" ".join(facts)} It has {parameters:,} parameters; SHA-256 of its weights: `{fingerprint(classifier.model)}`.{notes}

Classes ({len(classifier.classes)}): {names}.

{loading(config).replace(STUDENT, named)}

Inputs are pixels in [0, 1] of shape {classifier.shape}, normalised with the mean and std in `{normalised_in(config)}`.

{header.licence_sentence}

**Privacy.** Images that are synthesized from this network may reveal its training data.
"""
