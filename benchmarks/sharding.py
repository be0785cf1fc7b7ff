"""Measure the memory of a process whose teacher is whole, and of several that shard it: in loading, after it, and in a pass.

    python benchmarks/sharding.py --out benchmarks/results/sharding.json

Memory is that of the process as Linux counts it, above what it has before the teacher is loaded. A pass is forward and
backward to the pixels of one image per process, in a network with random weights.
"""

import argparse
import ctypes
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from workers import run_workers

from datafree.classifier import frozen
from datafree.files import write_json
from datafree.processes.sharding import kept_bytes
from datafree.runs.hardware import place, place_sharded, return_freed_memory, set_threads
from datafree.runs.launching.world import create_fabric, world_of
from datafree.teachers import create

PASSES = 2
"""passes, of which the first one also allocates"""


def memory(field: str) -> int:
    """Return a memory of this process in bytes: VmRSS now, VmHWM at most since `forget_peak`."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def forget_peak() -> None:
    """Let VmHWM begin again."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measure(network: str) -> dict[str, float]:
    """Return the megabytes of this process, above those before the teacher was loaded, and the seconds of a pass."""
    set_threads(1)
    fabric: Any = create_fabric("cpu", world_of(1), "32-true")
    fabric.launch()
    import torch.distributed.fsdp  # noqa: F401  # its code is no memory of the teacher

    libc = ctypes.CDLL(None)
    libc.malloc_trim(0)
    before = memory("VmRSS")
    forget_peak()
    if fabric.world_size > 1:
        return_freed_memory()
    teacher = create(network).eval()
    if fabric.world_size > 1:
        place_sharded(teacher, "32-true", fabric)
    else:
        place(teacher, "32-true", fabric)
        libc.malloc_trim(0)
    loading, rest = memory("VmHWM"), memory("VmRSS")
    forget_peak()
    seconds = []
    with frozen(teacher):
        for _ in range(PASSES):
            images = teacher.probe_images(1).requires_grad_()
            start = time.monotonic()
            torch.autograd.grad(teacher(images).sum(), images)
            seconds.append(time.monotonic() - start)
    found = {"loading": loading - before, "rest": rest - before, "pass": memory("VmHWM") - before}
    found["weights"] = kept_bytes(teacher)
    return {name: round(size / 1e6, 1) for name, size in found.items()} | {"seconds": round(min(seconds), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="vit_base_patch16_224")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, help="JSON file with the figures")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.network)))
        return
    rows: dict[str, Any] = {}
    for processes in options.processes:
        rows[str(processes)] = run_workers(__file__, processes, ["--network", options.network])
        print(processes, json.dumps(rows[str(processes)]), flush=True)
    if options.out:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__}
        command = " ".join(["python", "benchmarks/sharding.py", *sys.argv[1:]])
        write_json(options.out, {"command": command, "network": options.network, "machine": machine, "megabytes": rows})


if __name__ == "__main__":
    main()
