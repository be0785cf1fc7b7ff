"""`datafree train`: an example teacher, on real images."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from datafree import report
from datafree.commands.options import parse
from datafree.commands.runs import console, refuse_existing
from datafree.training import TrainingConfig, example_teacher


@dataclass(frozen=True, kw_only=True)
class Train:
    """An example teacher."""

    network: str
    """a timm name, the papers' networks included"""
    data: str
    """real images: digits, mnist, cifar10 or folder:PATH"""
    out: Path
    """folder to write, in timm's layout; must be new"""
    data_root: str = ""
    """where data sets lie; empty: $DATAFREE_DATA, or ./data"""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """how"""
    seed: int = 0
    """of everything random"""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto: an accelerator if there is one"""
    threads: int = 1
    """on the CPU"""


def train_teacher(arguments: list[str]) -> None:
    """`datafree train`."""
    options = parse(Train, "train", arguments)
    refuse_existing(options.out)
    accuracy = example_teacher(**{f.name: getattr(options, f.name) for f in fields(options)}, console=console)
    console.print(f"teacher  {options.out}  held-out {report.percent(accuracy)}", highlight=False, soft_wrap=True)
