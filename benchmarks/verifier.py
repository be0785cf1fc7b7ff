"""How many images of each method networks of other families recognise: scikit-learn's digits, several seeds.

python benchmarks/verifier.py --seeds 0 1 2 --out benchmarks/results/verifier.json
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from datafree import METHODS, Classifier, Stream, crosscheck
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.real.data import Ledger, open_real
from datafree.runs.hardware import set_threads
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Schedule
from datafree.teachers import load_folder
from datafree.types import Batch

TEACHER = "convnet_w64"
JUDGES = (TEACHER, "convnet_w16", "resnet_w16")
"""the teacher itself, and two that were trained apart from it, of a narrower network and of another family"""
INVERSION = DeepInversionConfig(batch_size=512, steps=(110,), jitter=1)
SETS = {
    "noise": replace(METHODS["noise"], batch_size=512),
    "deep-dream": replace(INVERSION, statistics=0.0),
    "deep-inversion": INVERSION,
}


def sets(teacher: Classifier) -> dict[str, list[Batch]]:
    """512 images of each method, and the real ones that no network was trained on."""
    once = Schedule(warmup_batches=1, refresh_every=0, pool_batches=1, batch_size=512)
    made = {name: [next(Stream.of(method, teacher, schedule=once))] for name, method in SETS.items()}
    return {**made, "held-out images": list(open_real("digits", "test", "evaluation", Ledger()).once())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    set_threads(1)
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            networks = {}
            for number, name in enumerate(JUDGES):
                place = Path(folder) / name
                example_teacher(
                    network=name, data="digits", out=place, training=TrainingConfig(), seed=10 * seed + number
                )
                networks[name] = load_folder(place).eval()
        torch.manual_seed(seed)
        for images, batches in sets(networks[TEACHER]).items():
            for name, network in networks.items():
                judged = crosscheck(network, batches)
                row = found.setdefault(images, {}).setdefault(name, {"recognised, %": [], "score": []})
                row["recognised, %"].append(round(100 * judged.recognised, 2))
                row["score"].append(round(judged.inception_score, 2))
        print(f"seed {seed} done", flush=True)
    table = Table("images", *JUDGES)
    for images, row in found.items():
        means = [[statistics.mean(numbers) for numbers in row[name].values()] for name in JUDGES]
        table.add_row(images, *(f"{recognised:.1f} %, score {score:.2f}" for recognised, score in means))
    Console().print(table)
    if options.out:
        told = {
            "command": " ".join(["python", *sys.argv]),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "seeds": options.seeds,
            "teacher": TEACHER,
            "images by method": 512,
            "recognised by": found,
        }
        options.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
