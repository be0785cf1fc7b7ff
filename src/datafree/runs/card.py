"""The model card of a student: how it came to be, what it costs, how it is loaded, what it may reveal."""

from collections.abc import Mapping
from typing import Any

from datafree.evaluation import score
from datafree.sets.image_set import PRIVACY

LOADING = """\
Where its folder `student` lies:

    import timm
    {registers}
    model = timm.create_model("local-dir:student", pretrained=True)
"""
REBUILDING = """\
Its layers are narrower than its architecture's: `config.json` has their widths. With datafree it loads as any other
(`datafree.load_folder`). By timm and Torch-Pruning, where its folder `student` lies:

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


def percent(value: float | None) -> str:
    """A part of one, for people."""
    return "-" if value is None else f"{100 * value:.2f} %"


def size_of(network: Mapping[str, Any]) -> str:
    """What a network costs, in a clause."""
    return (
        f"{network['parameters']:,} parameters, {network['macs']:,} MACs, {network['milliseconds']:.2f} ms for one image "
        "on the machine of the run"
    )


def made(summary: Mapping[str, Any]) -> str:
    """How the student came to be, in a clause."""
    pruned = summary.get("pruned")
    if not pruned:
        return "Made from a teacher"
    before, after = pruned["filters before"], pruned["filters after"]
    part = f"{percent(1 - after / before)} of the filters ({before - after:,} of {before:,})"
    return f"Pruned, by {part} in {pruned['rounds']} rounds, from a teacher"


def seen_by_student(summary: Mapping[str, Any]) -> str:
    """How many real images there were, in one sentence; the new classes' images are those that it was given to learn."""
    seen, new = summary["real images seen by the student"], summary.get("real images of new classes")
    if new is None:
        said = f"Real images seen by the student: {seen:,}."
    else:
        said = f"Real images of old classes seen by the student: {seen:,}; of the new classes, which it was to learn: {new:,}."
    measured = summary.get("real images measured", 0)
    more = f" Real images from which statistics of the teacher's features were measured: {measured:,}."
    return said + more if measured else said


def on_parts(found: Mapping[str, Any]) -> str:
    """Accuracy on old and on new classes, in one sentence; nothing where there are none."""
    if not found.get("parts"):
        return ""
    old, new = found["parts"]
    return f"Old classes {percent(old)}, new classes {percent(new)}, mean of both {percent((old + new) / 2)}."


def loading(narrowed: bool, home: str) -> str:
    """How it is loaded; an architecture that timm does not bring along is registered first."""
    registers = "" if home.startswith("timm.") else f"import {home}  # registers its architecture in timm"
    lines = (REBUILDING if narrowed else LOADING).splitlines()
    return "\n".join(line.replace("{registers}", registers) for line in lines if registers or "{registers}" not in line)


def card(summary: Mapping[str, Any], narrowed: bool = False, home: str = "timm.models") -> str:
    """The student's model card.

    Args:
        summary: Of the run.
        narrowed: Whether `config.json` has widths layer by layer, which timm does not read.
        home: The module that makes its architecture.
    """
    student, teacher = summary["student"], summary["teacher"]
    measure = "mean average precision" if student.get("average_precision") else "accuracy"
    accuracy = (
        f"Held-out {measure} {percent(score(student))}, the teacher's {percent(score(teacher))}, measured once, at "
        f"the end, on {student['images']} real images. {on_parts(student)}".strip()
        if "accuracy" in student
        else "No real images were given to evaluate it."
    )
    return f"""---
library_name: timm
tags: [image-classification, timm, data-free, {"pruning" if "pruned" in summary else "knowledge-distillation"}]
datasets: []
---
# A student made without training data

{made(summary)} (SHA-256 of its weights `{summary["teacher sha256"]}`) by *{summary["method"]}*, on
{summary["images synthesized"]:,} synthesized images.
{seen_by_student(summary)}
{accuracy}

{size_of(student)}; the teacher: {size_of(teacher)}.

{loading(narrowed, home)}

It takes images with the mean and standard deviation of `config.json` taken off.

**Privacy.** {PRIVACY}

How it was made:

    {summary["experiment"]}
"""
