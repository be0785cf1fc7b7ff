"""`datafree statistics`: what a teacher's features look like on real images, for teachers without batch norm."""

from dataclasses import dataclass
from pathlib import Path

from datafree import features, processor, teachers
from datafree.commands.options import parse
from datafree.commands.runs import console, refuse_existing
from datafree.measuring import measure_some
from datafree.types import at_least, is_seed


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is measured, on which images."""

    teacher: str
    """local-dir:FOLDER, or a timm name"""
    data: str
    """real images, of their train split: digits, mnist, cifar10 or folder:PATH"""
    out: Path
    """file to write, .safetensors; must be new"""
    weights: str = ""
    """a file with the teacher's weights, with a timm name"""
    images: int = 1000
    """how many are looked at, chosen at random; all if there are fewer"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    seed: int = 0
    """of the choice"""
    device: str = "cpu"
    """cpu, cuda, mps, or auto for the best there is"""
    threads: int = 1
    """on the CPU"""

    def __post_init__(self) -> None:
        at_least(2, images=self.images)
        is_seed(self.seed)


def measure_statistics(arguments: list[str]) -> None:
    """`datafree statistics`."""
    options = parse(Statistics, "statistics", arguments)
    refuse_existing(options.out)
    processor.use(options.threads)
    teacher = teachers.load(options.teacher, weights=options.weights)
    processor.put(teacher, options.device)
    found = measure_some(teacher, options.data, options.images, options.seed, options.data_root)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    features.save(found, options.out)
    numbers = sum(2 * len(mean) for mean, _ in found.layers.values())
    console.print(
        f"measured {options.out}  ({len(found.layers)} layers, {numbers:,} numbers, from {found.images:,} real images)",
        highlight=False,
        soft_wrap=True,
    )
