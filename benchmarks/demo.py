"""Run `datafree demo` with several seeds: the noise floor, three methods and the real-image ceiling on scikit-learn's digits.

python benchmarks/demo.py --seeds 0 1 2 --out benchmarks/results/demo.json
"""

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from datafree.benchmarks.demo import Demo, demo
from datafree.files import write_json
from datafree.runs.reporting.report import read_summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="random seeds, at least two")
    parser.add_argument("--out", type=Path, help="output file")
    options = parser.parse_args()
    accuracies: dict[str, list[float]] = {}
    hashes, seconds = [], []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            rows = demo(Demo(out=Path(folder) / "demo", seed=seed), Console())
            seconds.append(round(time.monotonic() - start, 1))
            hashes.append(read_summary(Path(folder) / "demo" / "adi")["teacher_sha256"])
        for row in rows:
            accuracies.setdefault(row["model"], []).append(round(100 * row["accuracy"], 2))
    table = {
        name: {"mean": round(statistics.mean(each), 2), "sd": round(statistics.stdev(each), 2), "each": each}
        for name, each in accuracies.items()
    }
    print(json.dumps(table, indent=2))
    if options.out:
        result = {
            "command": " ".join(["python", *sys.argv]),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "seeds": options.seeds,
            "teacher_sha256": hashes,
            "seconds": seconds,
            "accuracy_percent": table,
        }
        write_json(options.out, result)


if __name__ == "__main__":
    main()
