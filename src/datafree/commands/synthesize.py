"""`datafree synthesize`: images from a teacher, to keep."""

from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path

from datafree import making
from datafree.commands.options import Flat, parse
from datafree.commands.runs import CHOOSE, console, preset, refuse_existing
from datafree.image_set import Format
from datafree.saved import SavedConfig
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
    student: str = ""
    """at whom adaptive methods look: local-dir:FOLDER, or a timm name, untrained then; empty: at nobody"""
    images: int = 256
    """how many, at least; whole batches are made"""
    format: tuple[Format, ...] = ("folder",)
    """what is written beside the exact tensors: folder (PNG files by class), parquet (for Hugging Face's datasets)"""
    seed: int = 0
    """of everything random"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""


def synthesize(arguments: list[str]) -> None:
    """`datafree synthesize`."""
    method, rest = preset(arguments, "deep-inversion")
    if method is None or isinstance(method, SavedConfig):
        raise InputError("real images and saved ones need not be synthesized; name a method")
    parts = [("task", Flat[Synthesize]), ("method", type(method), field(default=method))]
    kind = make_dataclass("Options", parts, kw_only=True)
    given = parse(kind, "synthesize", rest, more=f" {CHOOSE}")
    refuse_existing(given.task.out)
    pictures = making.synthesize(
        given.method, console=console, **{f.name: getattr(given.task, f.name) for f in fields(Synthesize)}
    )
    console.print(f"images   {given.task.out}  ({pictures:,})", highlight=False, soft_wrap=True)
