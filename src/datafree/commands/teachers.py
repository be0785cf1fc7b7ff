"""`datafree inspect`, `import`: what a checkpoint is, and a folder from it."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree import __version__
from datafree.classifier import Classifier
from datafree.commands.options.parsing import Form, Positional
from datafree.commands.runs import console, refuse_existing
from datafree.export.cards import Header
from datafree.methods import METHODS
from datafree.runs.hardware import peak_memory, plain_faults, set_threads, to_device
from datafree.runs.planning.budget import duration, parse_budget
from datafree.runs.planning.deciding import default_budget
from datafree.runs.planning.expected import memory
from datafree.runs.planning.half_precision import bf16_ratio, note_on_bf16
from datafree.runs.planning.timing import time_synthesis
from datafree.runs.reporting.card import library_of, network_card
from datafree.runs.reporting.card_header import short_name
from datafree.runs.reporting.console import plain, say
from datafree.sets.privacy import literal
from datafree.teachers import save_folder
from datafree.teachers.candidates import LISTED, Candidate, candidates
from datafree.teachers.inspection import STEPS, Inspection, inspect, network_name
from datafree.teachers.options import TeacherOptions
from datafree.teachers.origins import origin_of
from datafree.types import InputError, require_one_of

SHOWN_CLASSES = 5
"""class names that are shown"""


@dataclass(frozen=True, kw_only=True)
class Inspect(TeacherOptions):
    """Which teacher is inspected."""

    teacher: Positional[str]
    """the network to inspect: a folder, a weights file, an ONNX file, a timm name, torchvision:NAME, transformers:NAME,
    hf-hub:NAME, or FILE.py:FUNCTION"""
    time: str = ""
    """method of which three real steps are timed, such as adi"""
    json: bool = False
    """print everything as JSON"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if available, else the CPU"""
    threads: int = 1
    """CPU threads"""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_one_of(("", *METHODS), time=self.time)


@dataclass(frozen=True, kw_only=True)
class Import(TeacherOptions):
    """Which checkpoint becomes a folder."""

    checkpoint: Positional[str]
    """the weights file, ONNX file or folder to read; or a name, see `inspect`"""
    out: Path
    """output folder; must not exist"""
    network: str = ""
    """network of a weights file that does not say which it is: a timm name, torchvision:NAME or FILE.py:FUNCTION"""


INSPECT = Form(verb="inspect", options=lambda: Inspect)
IMPORT = Form(verb="import", options=lambda: Import)
FORMS = (INSPECT, IMPORT)


def inspect_teacher(arguments: list[str]) -> None:
    """`datafree inspect`."""
    options: Inspect = INSPECT.parse(arguments)
    set_threads(options.threads)
    teacher = options.load_network(options.teacher)
    to_device(teacher, options.device)
    with plain_faults(()):
        found = inspect(teacher)
        timing = timed(teacher, options.time) if options.time else {}
        students = possible_students(teacher)
        ratio = bf16_ratio(teacher.device)
    if options.json:
        listed = {"students": [asdict(student) for student in students], "bf16_ratio": round(ratio, 3)}
        print(json.dumps(found.to_json() | timing | listed, indent=2))
        return
    for label, text in facts(found):
        say(console, label, text)
    default = parse_budget(default_budget(teacher.device))
    say(console, "a run", f"takes {default} without --method and --budget; its method is chosen by the teacher")
    say(console, "", f"with a named method, {STEPS:,} steps and a student as large as the teacher it takes about:")
    console.print(methods_table(found))
    for text in refusals(found):
        say(console, "not", text)
    names = [f"{student.name} ({student.parameters:,} parameters)" for student in students]
    say(console, "students", ", ".join(names) or "none of the list is small enough; name one with --student")
    if note := note_on_bf16(ratio):
        say(console, "bf16", note)
    if timing:
        say(
            console,
            "timed",
            "{method}: {seconds:.3g} s per batch of {images} images, and a peak memory of {memory}".format(
                memory=memory(timing["timed"]["bytes"]), **timing["timed"]
            ),
        )


def possible_students(teacher: Classifier) -> list[Candidate]:
    """Return the largest networks that `--student auto` may choose for a teacher."""
    try:
        return candidates(teacher)[:LISTED]
    except InputError:
        return []


def timed(teacher: Classifier, name: str) -> dict[str, Any]:
    """Return the time of a batch of a method, and the peak memory of the process."""
    method = METHODS[name]
    seconds = time_synthesis(method, teacher, teacher).batch
    peak = peak_memory() * 10**6
    return {"timed": {"method": name, "seconds": seconds, "images": method.images_per_batch, "bytes": peak}}


def facts(found: Inspection) -> Iterator[tuple[str, str]]:
    """Yield the lines about a teacher: a label of up to eight letters, and a text."""
    operations = "MACs not counted" if found.macs is None else f"{found.macs:,} MACs per image"
    yield "network", f"{found.network}, {found.parameters:,} parameters, {operations}"
    yield "input", size_of(found.shape)
    yield "mean", " ".join(f"{value:g}" for value in found.mean)
    yield "std", " ".join(f"{value:g}" for value in found.std)
    more = f", ... ({len(found.classes)} in all)" if len(found.classes) > SHOWN_CLASSES else ""
    names = (
        f"only numbers: 0 to {len(found.classes) - 1}"
        if found.numbered
        else ", ".join(found.classes[:SHOWN_CLASSES]) + more
    )
    yield "classes", names + (", several per image" if found.multi_label else "")
    yield (
        "outputs",
        found.outputs + ("" if found.types in ((), ("float32",)) else f", weights {', '.join(found.types)}"),
    )
    empty = f", {found.untrained_batch_norms} of them without statistics" if found.untrained_batch_norms else ""
    yield "layers", f"{found.batch_norms} of batch norm{empty}"
    if found.training_mode:
        yield "training", f"another output in training mode, by {', '.join(found.training_mode)}"
    yield (
        "has",
        ", ".join(sorted(found.capabilities)) or "only outputs: no gradients, no batch-norm statistics, no last layer",
    )
    yield "runs on", ", ".join(found.processors)
    for note in found.notes:
        yield "note", note


def size_of(shape: tuple[int, int, int]) -> str:
    """Return a phrase for the channels, height and width of an image."""
    channels, height, width = shape
    return f"{channels} {'channel' if channels == 1 else 'channels'} of {height} x {width} pixels"


def refusals(found: Inspection) -> list[str]:
    """Return one text for each reason why methods do not support a teacher: their names, and the reason."""
    names: dict[str, list[str]] = {}
    for fit in found.methods:
        if fit.reason:
            names.setdefault(fit.reason, []).append(fit.name)
    return [f"{', '.join(methods)}: {reason}" for reason, methods in names.items()]


def methods_table(found: Inspection) -> Table:
    """Return the table of the methods that support a teacher, with the expected time and memory of a run."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method")
    for column in ("time", "more memory"):
        table.add_column(column, justify="right", no_wrap=True)
    for fit in found.methods:
        if fit.seconds is not None and fit.bytes is not None:
            table.add_row(plain(fit.name), duration(fit.seconds), memory(fit.bytes))
    return table


def import_checkpoint(arguments: list[str]) -> None:
    """`datafree import`."""
    options: Import = IMPORT.parse(arguments)
    refuse_existing(options.out)
    if options.weights and options.network:
        raise InputError("two networks are given: as the argument and with --network; leave --network out")
    spec = options.network or options.checkpoint
    weights = options.checkpoint if options.network else options.weights
    network = replace(options, weights=weights).load_network(spec)
    save_folder(network, options.out, lambda config: imported_card(network, config, spec, weights, options.out))
    for label, text in imported(network, options):
        say(console, label, text)
    say(console, "teacher", options.out)


def imported_card(network: Classifier, config: Mapping[str, Any], spec: str, weights: str, out: Path) -> str:
    """Return the model card of an imported network: its weights are those of the checkpoint."""
    library, origin = library_of(config), origin_of(spec, weights)
    header = Header(name=out.name, library=library, tags=(library,), origins=(origin,), source="checkpoint")
    source = literal(Path(weights).name) if weights else literal(short_name(spec))
    facts = [f"Imported from {source} with datafree {__version__}; the weights are those of the checkpoint."]
    return network_card(network, config, header, facts, out.name)


def imported(network: Classifier, options: TeacherOptions) -> Iterator[tuple[str, str]]:
    """Yield what was found out about an imported network, and where each value came from."""

    def origin(option: str, word: str = "") -> str:
        if getattr(options, option) or (option == "classes" and options.class_names):
            return "given"
        guessed = any(f"--{word or option}" in note and "default" in note for note in network.notes)
        return "a default, not read from the file" if guessed else "read from the file or the network"

    yield "network", network_name(network)
    yield "input", f"{size_of(network.shape)} ({origin('input')})"
    for name, values in (("mean", network.mean), ("std", network.std)):
        yield name, f"{' '.join(f'{value:g}' for value in values.flatten().tolist())} ({origin(name)})"
    yield "classes", f"{len(network.classes)} ({origin('classes')})"
    for note in network.notes:
        yield "note", note
