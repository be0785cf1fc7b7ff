"""Measure how many procedural pictures are drawn per second, by family and size, or show them.

    python benchmarks/drawing.py --out benchmarks/results/drawing.json
    python benchmarks/drawing.py --sheet docs/pictures/procedural.png

Seconds are those of the process, so that other work on the machine matters little.
"""

import argparse
import platform
import time
from pathlib import Path

import torch

from datafree.files import write_json
from datafree.runs.hardware import set_threads
from datafree.sets.contact_sheet import contact_sheet
from datafree.synthesis.drawings import DRAWINGS, PHOTOGRAPHS, draw
from datafree.types import Batch

SIZES = (16, 28, 32, 64, 224)
PIXELS = 2**21
"""pixels of the pictures that are timed"""


def pictures_per_second(size: int, families: dict[str, float], device: str) -> int:
    """Return the number of colour pictures of `size` x `size` that are drawn per second."""
    count = max(16, PIXELS // size**2)
    draw(min(count, 64), (3, size, size), families, device=device)
    start = time.process_time()
    draw(count, (3, size, size), families, device=device).sum().item()
    return round(count / (time.process_time() - start))


def sheet(out: Path) -> None:
    """Write a picture with a row of 32 x 32 pictures for each family."""
    images = torch.cat([draw(16, (3, 32, 32), {family: 1}) for family in DRAWINGS])
    rows = torch.arange(len(DRAWINGS)).repeat_interleave(16)
    contact_sheet(Batch(images, rows, {}), rows=len(DRAWINGS)).save(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file with the figures")
    parser.add_argument("--sheet", type=Path, help="PNG file with a row of pictures for each family")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    set_threads(1)
    torch.manual_seed(0)
    if options.sheet:
        sheet(options.sheet)
        return
    rows = {name: {name: 1.0} for name in DRAWINGS} | {"photographs": dict(PHOTOGRAPHS)}
    print("family      " + "".join(f"{size:>9}" for size in SIZES))
    speeds: dict[str, dict[str, int]] = {}
    for name, families in rows.items():
        speeds[name] = {str(size): pictures_per_second(size, families, options.device) for size in SIZES}
        print(f"{name:<12}" + "".join(f"{speed:>9,}" for speed in speeds[name].values()))
    if options.out:
        write_json(options.out, {"pictures per second": speeds, "processor": platform.processor(), "threads": 1})


if __name__ == "__main__":
    main()
