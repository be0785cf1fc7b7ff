"""Inspection of a teacher: what it is, how it behaves, and which methods support it, before anything is spent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from datafree.classifier import Classifier, batch_norms
from datafree.ensemble import Ensemble
from datafree.evaluation import count_macs, count_parameters
from datafree.matching import is_numbered
from datafree.methods import METHODS
from datafree.randomness import RandomNumbers
from datafree.synthesis import Method
from datafree.synthesis.method import capabilities, is_untrained
from datafree.synthesis.outputs import inspect_teachers, is_log_softmax, probe_outputs
from datafree.teachers.costs import Learner, estimate_run, pass_cost, processors
from datafree.teachers.probing import findings, training_mode
from datafree.types import InputError

STEPS = 2000
"""steps of the student in the run that time and memory are estimated for"""


@dataclass(frozen=True)
class MethodFit:
    """Whether a method supports a teacher."""

    name: str
    """of the method, as in `METHODS`"""
    reason: str
    """why it does not; empty if it does"""
    seconds: float | None = None
    """expected duration of a run with the schedule of the method, 2,000 steps, and a student as large as the teacher; None
    if it does not"""
    bytes: int | None = None
    """expected memory of this run, besides that of the process and the networks"""


@dataclass(frozen=True)
class Inspection:
    """What is known about a teacher after a few forward passes."""

    network: str
    """architecture: its timm name, or the type of the network"""
    parameters: int
    """number of learned parameters; running statistics are not included"""
    macs: int | None
    """multiply-accumulate operations for one image; None if they cannot be counted, as in a forward-only network"""
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    mean: tuple[float, ...]
    """mean of the pixels, per channel or for all"""
    std: tuple[float, ...]
    """standard deviation of the pixels, per channel or for all"""
    classes: tuple[str, ...]
    """class names in the order of the logits"""
    numbered: bool
    """whether these names are only numbers: then classes are matched by position"""
    multi_label: bool
    """whether an image can have several labels"""
    outputs: str
    """what the network returns: logits, softmax, log-softmax or sigmoid"""
    types: tuple[str, ...]
    """data types of the weights"""
    training_mode: tuple[str, ...]
    """types of layers that change the output in training mode; empty if it is the same"""
    batch_norms: int
    """number of layers with running statistics"""
    untrained_batch_norms: int
    """number of these layers whose running statistics have their initial values, mean 0 and variance 1"""
    capabilities: frozenset[str]
    """what the teacher offers, in the words of `Method.needs`; see `datafree.synthesis.method.capabilities`"""
    methods: tuple[MethodFit, ...]
    """all methods, and why those do not support the teacher that do not"""
    processors: tuple[str, ...]
    """processors of this machine"""
    notes: tuple[str, ...]
    """what to know: how the network was read, and what is unusual about it"""

    def to_json(self) -> dict[str, Any]:
        """Return the inspection as JSON values."""
        return asdict(self) | {"capabilities": sorted(self.capabilities)}


def inspect(teacher: Classifier, methods: Mapping[str, Method] | None = None) -> Inspection:
    """Inspect a teacher: run it on a few images, and build each method for it. It is not changed.

    Args:
        teacher: The teacher. If it returns probabilities, its `outputs` are set so that its logits are their logarithm.
        methods: The methods to look at, by name; `METHODS` by default.

    Raises:
        InputError: If it does not accept images of its shape, or does not return one finite number per class.
    """
    methods = METHODS if methods is None else methods
    inspect_teachers(teacher)
    logits, _ = probe_outputs(teacher, "the teacher")
    layers = batch_norms(teacher)
    kind = teacher.outputs
    parameters = count_parameters(teacher)
    cost = pass_cost(teacher)
    return Inspection(
        network=network_name(teacher),
        parameters=parameters,
        macs=count_macs(teacher) or None,
        shape=teacher.shape,
        mean=_numbers(teacher.mean),
        std=_numbers(teacher.std),
        classes=teacher.classes,
        numbered=is_numbered(teacher.classes),
        multi_label=teacher.multi_label,
        outputs="log-softmax" if kind == "logits" and not teacher.multi_label and is_log_softmax(logits) else kind,
        types=tuple(sorted({str(weight.dtype).removeprefix("torch.") for weight in teacher.parameters()})),
        training_mode=training_mode(teacher),
        batch_norms=len(layers),
        untrained_batch_norms=sum(map(is_untrained, layers)),
        capabilities=capabilities(teacher),
        methods=tuple(_fit(name, method, teacher, Learner(cost, parameters)) for name, method in methods.items()),
        processors=processors(),
        notes=notes_of(teacher),
    )


def notes_of(teacher: Classifier) -> tuple[str, ...]:
    """Return what to know about a teacher, or about each teacher of an ensemble: how it was read, and what is unusual."""
    members = teacher.teachers if isinstance(teacher, Ensemble) else [teacher]
    sentences: list[str] = []
    for number, member in enumerate(members, 1):
        name = "the teacher" if len(members) == 1 else f"teacher {number}"
        sentences += [*member.notes, *(f"{name}: {finding}" for finding in findings(member))]
    return tuple(dict.fromkeys(sentences))


def _fit(name: str, method: Method, teacher: Classifier, learner: Learner) -> MethodFit:
    if reason := why_not(method, teacher):
        return MethodFit(name, reason)
    expected = estimate_run(method, method.schedule, STEPS, teacher.shape, learner.cost, learner)
    return MethodFit(name, "", expected.seconds, expected.bytes)


def network_name(teacher: Classifier) -> str:
    """Return the timm name of a teacher's architecture, or the type of its network."""
    if isinstance(teacher, Ensemble):
        return " + ".join(network_name(member) for member in teacher.teachers)
    config = getattr(teacher.model, "pretrained_cfg", None)
    name = config.get("architecture") if isinstance(config, Mapping) else None
    return str(name or type(teacher.model).__name__)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(round(value, 6) for value in values.flatten().tolist())


def usable_methods(teacher: Classifier) -> list[str]:
    """Return the names of the methods that support this teacher."""
    return [name for name, method in METHODS.items() if not why_not(method, teacher)]


def why_not(method: Method, teacher: Classifier) -> str:
    """Return why a method cannot be built for this teacher; empty if it can. No number of the global generator is drawn."""
    try:
        with RandomNumbers(0):
            method.build(teacher)
    except InputError as fault:
        return str(fault)
    return ""


def require_capabilities(teacher: Classifier, method: Method) -> None:
    """Check that a teacher has what a method needs.

    Raises:
        InputError: If it does not. The message names what is missing and the methods that support the teacher.
    """
    if missing := method.missing(teacher):
        raise InputError(
            f"the teacher has no {' and no '.join(missing)}; methods that work with it: "
            f"{', '.join(usable_methods(teacher))}, pictures, saved"
        )
