"""The demo's ladder over several seeds: floor, methods and ceiling on scikit-learn's digits.

python benchmarks/ladder.py --seeds 0 1 2 --out benchmarks/results/ladder.json
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
from datafree.runs.report import read_summary


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows: dict[str, list[float]] = {}
    hashes, seconds = [], []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            ladder = demo(Demo(out=Path(folder) / "demo", seed=seed), Console())
            seconds.append(round(time.monotonic() - begin, 1))
            hashes.append(read_summary(Path(folder) / "demo" / "adi")["teacher sha256"])
        for row in ladder:
            rows.setdefault(row["model"], []).append(round(100 * row["accuracy"], 2))
    table = {
        name: {"mean": round(statistics.mean(found), 2), "sd": round(statistics.stdev(found), 2), "each": found}
        for name, found in rows.items()
    }
    print(json.dumps(table, indent=2))
    if options.out:
        found = {
            "command": " ".join(["python", *sys.argv]),
            "processor": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "seeds": options.seeds,
            "teachers sha256": hashes,
            "seconds of each ladder": seconds,
            "held-out accuracy, %": table,
        }
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
