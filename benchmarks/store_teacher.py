"""Store a trained teacher in half precision, for the tables that come with one: `benchmarks/teachers`.

    datafree train resnet10_cifar_w16 --data cifar10 --input 3 16 16 --out teacher16 ...
    python benchmarks/store_teacher.py teacher16 benchmarks/teachers/cifar10-16

The weights are rounded once. Everything that uses the stored folder computes in single precision with the rounded weights.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from datafree import load_folder
from datafree.evaluation import count_parameters
from datafree.files import atomic_folder, sha256_of
from datafree.real.ledger import LEDGER
from datafree.runs.training import TRAINING
from datafree.teachers.folders import WEIGHTS

MANIFEST = "manifest.json"


def store(source: Path, target: Path) -> str:
    """Write a folder with the rounded weights, and return the SHA-256 of its weights file."""
    weights = load_file(source / WEIGHTS)
    rounded = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    with atomic_folder(target) as new:
        for name in ("config.json", LEDGER, TRAINING):
            shutil.copy(source / name, new / name)
        save_file(rounded, new / WEIGHTS)
        manifest = {name: sha256_of(new / name) for name in json.loads((source / MANIFEST).read_text())}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return sha256_of(target / WEIGHTS)


def main() -> None:
    """Store a teacher, and say how much its predictions change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder written by datafree train")
    parser.add_argument("target", type=Path, help="folder to write")
    options = parser.parse_args()
    digest = store(options.source, options.target)
    before, after = load_folder(options.source).eval(), load_folder(options.target).eval()
    torch.manual_seed(0)
    images = torch.rand(256, *before.shape)
    with torch.no_grad():
        same = (before(images).argmax(1) == after(images).argmax(1)).float().mean()
    size = (options.target / WEIGHTS).stat().st_size
    print(f"{options.target}: {count_parameters(after):,} parameters, {size:,} bytes, SHA-256 {digest}")
    print(f"same prediction on {same:.1%} of {len(images)} random images")


if __name__ == "__main__":
    main()
