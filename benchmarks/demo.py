"""Run `datafree demo` with several seeds: the noise floor, three methods and the real-image ceiling on scikit-learn's digits.

python benchmarks/demo.py --seeds 0 1 2 --out benchmarks/results/demo.json
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console

from datafree.benchmarks.demo import Demo, demo
from datafree.benchmarks.results import write_script_result
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
    write_script_result(
        options.out, seeds=options.seeds, teacher_sha256=hashes, seconds=seconds, accuracy_percent=table
    )


if __name__ == "__main__":
    main()
