"""`datafree synthesize`: images from a teacher, to keep."""

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

from datafree import image_set
from datafree.commands.options import Flat, parse
from datafree.commands.runs import CHOOSE, console, preset, refuse_existing
from datafree.types import InputError


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Images from a teacher."""

    teacher: str
    """local-dir:FOLDER, or a timm name"""
    out: Path
    """folder to write; must be new"""
    weights: str = ""
    """a file with the teacher's weights, with a timm name"""
    images: int = 256
    """how many, at least; whole batches are made"""
    seed: int = 0
    """of everything random"""
    threads: int = 1
    """on the CPU"""


def synthesize(arguments: list[str]) -> None:
    """`datafree synthesize`."""
    method, rest = preset(arguments, "deep-inversion")
    if method is None:
        raise InputError("real images need not be synthesized; name a method")
    parts = [("task", Flat[Synthesize]), ("method", type(method), field(default=method))]
    kind = make_dataclass("Options", parts, kw_only=True)
    given = parse(kind, "synthesize", rest, more=f" {CHOOSE}")
    refuse_existing(given.task.out)
    pictures = image_set.synthesize(
        given.method, console=console, **{f.name: getattr(given.task, f.name) for f in fields(Synthesize)}
    )
    console.print(f"images   {given.task.out}  ({pictures:,})", highlight=False, soft_wrap=True)
