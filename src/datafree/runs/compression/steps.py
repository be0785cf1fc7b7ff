"""The steps of a compression, such as `distill:resnet18,prune:0.5,quantize:w8a8,export:onnx`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from datafree.applications.pruning import PruningConfig
from datafree.export.writing import Format
from datafree.quantization.schemes import parse_bits
from datafree.types import InputError, suggestion

EXAMPLES = {
    "distill": "distill:resnet18",
    "prune": "prune:0.5",
    "quantize": "quantize:w8a8",
    "export": "export:onnx",
}
"""kind of step: how it is written"""
TRAINING = ("distill", "prune")
MOST = 12
"""steps at most"""


@dataclass(frozen=True)
class Step:
    """One step."""

    kind: str
    value: str
    """the student, the ratio or goal of pruning, the bits, or the format"""

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}"

    @property
    def trains(self) -> bool:
        """Whether the step trains a network, and so takes a part of the budget."""
        return self.kind in TRAINING


def parse_steps(text: str) -> tuple[Step, ...]:
    """Read the steps of a compression.

    Raises:
        InputError: If a step is unknown or has no valid value, or the steps cannot follow each other.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise InputError(f"steps is empty; write it as {','.join(EXAMPLES.values())}")
    if len(words) > MOST:
        raise InputError(f"there are {len(words)} steps; give at most {MOST}")
    steps = tuple(parse_step(word) for word in words)
    require_order(steps)
    return steps


def parse_step(word: str) -> Step:
    """Read one step.

    Raises:
        InputError: If it is unknown or has no valid value.
    """
    kind, _, value = word.partition(":")
    if kind not in EXAMPLES:
        hint = suggestion(kind, EXAMPLES) or f"; choose among {', '.join(EXAMPLES)}"
        raise InputError(f"step {word[:60]!r} is unknown{hint}")
    if not value:
        raise InputError(f"step {kind!r} has no value; write it as {EXAMPLES[kind]}")
    if kind == "prune":
        pruning(value)
    elif kind == "quantize":
        parse_bits(value)
    elif kind == "export" and value not in get_args(Format):
        formats = get_args(Format)
        hint = suggestion(value, formats) or f"; choose one of {', '.join(formats)}"
        raise InputError(f"step {word!r} has an unknown format{hint}")
    return Step(kind, value)


def pruning(value: str) -> PruningConfig:
    """Return the settings of a step of pruning: a fraction of the filters, or a goal such as `macs:0.5`.

    Raises:
        InputError: If the value is neither.
    """
    if ":" in value:
        return PruningConfig(target=value)
    try:
        ratio = float(value)
    except ValueError as fault:
        raise InputError(
            f"step 'prune:{value}' has no number; write it as prune:0.5, the fraction of the filters to remove, or as "
            "prune:macs:0.5"
        ) from fault
    return PruningConfig(ratio=ratio)


def require_order(steps: Sequence[Step]) -> None:
    """Check that each step can use what the one before it has made.

    Raises:
        InputError: Names the first step that cannot.
    """
    before = ""
    for step in steps:
        if before in ("quantize", "export") and (step.trains or step.kind == "quantize"):
            change = "trained" if step.trains else "quantised"
            fix = f"put {step.kind} before {before}" if step.kind != before else f"leave out one {step.kind}"
            raise InputError(f"{step} comes after {before}, whose file cannot be {change}; {fix}")
        if before == "quantize" and step.kind == "export" and step.value != "onnx":
            raise InputError(
                f"{step} comes after quantize, which makes an ONNX file; use export:onnx, or export before"
            )
        before = step.kind
