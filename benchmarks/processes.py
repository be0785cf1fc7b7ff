"""Measure the images per second of one process and of several, side by side: synthesis by DeepInversion, and distillation.

    python benchmarks/processes.py --out benchmarks/results/processes.json

Each process has one thread. The configurations take turns, so that other work on the machine disturbs all of them. Where it
does, the seconds of the clock say little: the seconds that the processes computed say what dividing a batch costs. The limit
is what processes reach that do not know of each other, each with its part of the batch: they share the memory and its caches.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from workers import run_workers

from datafree.applications.distillation import DistillationConfig
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.files import write_json
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.hardware import set_threads
from datafree.runs.launching.world import create_fabric, world_of
from datafree.synthesis import Schedule, Stream
from datafree.teachers import create
from datafree.types import Terms

WORK = ("deep-inversion", "distillation")
WARM = 2
"""steps that are not timed"""


class Clock(Callback):
    """Notes the time of the clock and of this process after each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def on_step(self) -> None:
        self.times.append((time.monotonic(), time.process_time()))

    def log(self, step: int, terms: Terms) -> None:
        self.on_step()

    def per_step(self) -> tuple[float, float]:
        """Return the seconds per step: of the clock, and of this process."""
        first, last = self.times[WARM], self.times[-1]
        steps = len(self.times) - 1 - WARM
        return (last[0] - first[0]) / steps, (last[1] - first[1]) / steps


def measure(network: str, batch: int, steps: int, work: str) -> dict[str, float]:
    """Return the seconds per step of this process."""
    set_threads(1)
    fabric: Any = create_fabric("cpu", world_of(1), "32-true")
    fabric.launch()
    torch.manual_seed(0)
    teacher, student, clock = untrained(network), untrained(network), Clock()
    if work == "deep-inversion":
        method = DeepInversionConfig(batch_size=batch, steps=(steps + WARM + 1,))
        stream = Stream.of(method, teacher, None, Schedule(batch_size=batch), clock)
        clock.log = lambda step, terms: None  # type: ignore[method-assign]
        application = DistillationConfig(steps=1)
    else:
        stream = Stream.of(METHODS["noise"], teacher, None, Schedule(pool_batches=2, refresh_every=0, batch_size=batch))
        application = DistillationConfig(steps=steps + WARM + 1)
    application.build()(student, teacher, stream, fabric=fabric, callback=clock)
    clock_seconds, process_seconds = clock.per_step()
    return {"clock": clock_seconds, "process": process_seconds}


def untrained(network: str) -> Classifier:
    """Return a network with random weights, whose running statistics are not the initial ones."""
    classifier = create(network)
    with torch.no_grad():
        classifier.train()(torch.rand(8, *classifier.shape))
    return classifier.eval()


def together(processes: int, arguments: list[str], *, divides: bool = True) -> dict[str, float]:
    """Run this script in several processes, and return the clock of the slowest and the sum of their computing."""
    results = run_workers(__file__, processes, arguments, divides=divides)
    return {
        "clock": max(result["clock"] for result in results),
        "process": sum(result["process"] for result in results),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="wrn_16_1")
    parser.add_argument("--batch-size", type=int, default=64, help="images of the whole batch")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--out", type=Path, help="JSON file with the figures")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.network, options.batch_size, options.steps, options.worker)))
        return
    settings = ["--network", options.network, "--steps", str(options.steps)]
    whole, part = (
        ["--batch-size", str(size)] for size in (options.batch_size, options.batch_size // options.processes)
    )
    rows: dict[str, Any] = {}
    for work in options.work:
        one, several, apart, loads = [], [], [], []
        for _ in range(options.repeats):
            loads.append(os.getloadavg()[0])
            one.append(together(1, [work, *settings, *whole]))
            several.append(together(options.processes, [work, *settings, *whole]))
            apart.append(together(options.processes, [work, *settings, *part], divides=False))
        rates = [round(median(options.batch_size / each["clock"] for each in of), 1) for of in (one, several)]
        speedups, limits = ([a["clock"] / b["clock"] for a, b in zip(one, of, strict=True)] for of in (several, apart))
        overhead = median(b["process"] / a["process"] for a, b in zip(one, several, strict=True))
        rows[work] = {
            "images_per_second": {"1": rates[0], str(options.processes): rates[1]},
            "speedup": round(median(speedups), 3),
            "speedups": [round(ratio, 3) for ratio in speedups],
            "limit": round(median(limits), 3),
            "limits": [round(ratio, 3) for ratio in limits],
            "computing_of_all_over_one": round(overhead, 3),
            "load": [round(load, 1) for load in loads],
        }
        print(work, json.dumps(rows[work]), flush=True)
        if options.out:
            machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
            command = " ".join(["python", "benchmarks/processes.py", *sys.argv[1:]])
            write_json(
                options.out, {"command": command, "settings": [*settings, *whole], "machine": machine, "rows": rows}
            )


if __name__ == "__main__":
    main()
