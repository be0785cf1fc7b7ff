"""Crosscheck images of several methods with networks of other families: scikit-learn's digits, several seeds.

python benchmarks/crosscheck.py --seeds 0 1 2 --out benchmarks/results/crosscheck.json
"""

import argparse
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from datafree import METHODS, Classifier, Stream, crosscheck
from datafree.benchmarks.results import write_script_result
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.hardware import set_threads
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Schedule
from datafree.teachers import load_folder
from datafree.types import Batch

TEACHER = "convnet_w64"
NETWORKS = (TEACHER, "convnet_w16", "resnet_w16")
"""the teacher itself, a narrower network and one of another family; trained with different seeds"""
IMAGES = 512
INVERSION = DeepInversionConfig(batch_size=IMAGES, steps=(110,), jitter=1)
METHODS_BY_NAME = {
    "noise": replace(METHODS["noise"], batch_size=IMAGES),
    "deep-dream": replace(INVERSION, statistics=0.0),
    "deep-inversion": INVERSION,
}


def train_networks(seed: int) -> dict[str, Classifier]:
    """Train the teacher and the other networks."""
    networks = {}
    with tempfile.TemporaryDirectory() as root:
        for number, name in enumerate(NETWORKS):
            folder = Path(root) / name
            example_teacher(network=name, data="digits", out=folder, training=TrainingConfig(), seed=10 * seed + number)
            networks[name] = load_folder(folder).eval()
    return networks


def image_batches(teacher: Classifier) -> dict[str, list[Batch]]:
    """Synthesize images with each method, and open the held-out real images."""
    schedule = Schedule(warmup_batches=1, refresh_every=0, pool_batches=1, batch_size=IMAGES)
    synthesized = {
        name: [next(Stream.of(method, teacher, schedule=schedule))] for name, method in METHODS_BY_NAME.items()
    }
    return {**synthesized, "held-out images": list(open_real("digits", "test", "evaluation", Ledger()).batches())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds")
    parser.add_argument("--out", type=Path, help="output file")
    options = parser.parse_args()
    set_threads(1)
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for seed in options.seeds:
        networks = train_networks(seed)
        torch.manual_seed(seed)
        for images, batches in image_batches(networks[TEACHER]).items():
            for name, network in networks.items():
                checked = crosscheck(network, batches)
                scores = results.setdefault(images, {}).setdefault(
                    name, {"recognised_percent": [], "inception_score": []}
                )
                scores["recognised_percent"].append(round(100 * checked.recognised, 2))
                scores["inception_score"].append(round(checked.inception_score, 2))
        print(f"seed {seed} done", flush=True)
    table = Table("images", *NETWORKS)
    for images, row in results.items():
        means = [[statistics.mean(numbers) for numbers in row[name].values()] for name in NETWORKS]
        table.add_row(images, *(f"{recognised:.1f} %, score {score:.2f}" for recognised, score in means))
    Console().print(table)
    write_script_result(options.out, seeds=options.seeds, teacher=TEACHER, images_per_method=IMAGES, results=results)


if __name__ == "__main__":
    main()
