"""Measure the processor time that the checks of a run take: safe reading, hashes, probes, and the comparison when it is saved.

A short distillation is profiled for a small teacher and for one like a ResNet-50. What is done once for each run, and for each
checkpoint, is then given as a share of a run of ten minutes with a checkpoint every 20 seconds.

    python benchmarks/checks.py --out benchmarks/results/checks.json
"""

import argparse
import cProfile
import json
import pstats
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from datafree import teachers
from datafree.benchmarks.results import write_script_result
from datafree.commands.main import main as datafree

CHECKS = {
    "hashes of files": ("sha256_of",),
    "hashes of networks": ("fingerprint",),
    "bounds before a network is created": ("require_buildable",),
    "finite weights": ("require_finite",),
    "outputs of the teacher": ("inspect_outputs",),
    "memory format": ("runs_in_channels_last",),
    "network built again when it is saved": ("_rebuild", "rebuild", "_checked"),
    "two networks compared when it is saved": ("require_same_function",),
    "own files, owner": ("require_own_files", "require_owner"),
}
"""what is checked: the functions that do it; of those with several names the slowest one counts"""
NETWORKS = {
    "small": ("convnet_w64", {"classes": 10, "shape": (1, 8, 8)}, "convnet_w16"),
    "like ResNet-50": ("resnet50", {"classes": 1000}, "resnet18"),
}
"""teacher: its timm name, its arguments, and its student"""
RUN, INTERVAL = 600.0, 20.0
"""seconds of the run that the share is of, and between its checkpoints"""


def profile(words: list[str]) -> tuple[dict[str, float], float, float]:
    """Return the processor time of each check in a command, that of its child processes, and that of the whole command."""
    profiler, begin = cProfile.Profile(time.process_time), time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    code = profiler.runcall(datafree, words)
    total, after = time.process_time() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if code:
        sys.exit(code)
    seconds: dict[str, float] = {}
    for (file, _, function), (*_, cumulative, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        for check, names in CHECKS.items():
            if function in names and "datafree" in file:
                seconds[check] = max(seconds.get(check, 0.0), cumulative)
    isolated = after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime
    return seconds, isolated, total


def measure(teacher: str, arguments: dict[str, Any], student: str, root: Path) -> dict[str, Any]:
    """Profile a run whose teacher comes from a pickled file, which is read in a child process, and one from a folder."""
    torch.manual_seed(0)
    network = teachers.create(teacher, **arguments).eval()
    teachers.save_folder(network, root / "teacher")
    torch.save(network.model.state_dict(), root / "teacher.pth")
    common = [
        "--student",
        student,
        "--method",
        "noise",
        "--method.batch-size",
        "4",
        "--batch-size",
        "4",
        "--device",
        "cpu",
    ]
    sizes = ["--input", *map(str, network.shape), "--classes", str(len(network.classes))]
    from_file = [
        "distill",
        "--teacher",
        teacher,
        "--weights",
        str(root / "teacher.pth"),
        *sizes,
        *common,
        "--steps",
        "2",
    ]
    _, isolated, _ = profile([*from_file, "--out", str(root / "first")])
    folder = ["distill", "--teacher", f"local-dir:{root / 'teacher'}", *common, "--steps", "4"]
    once, _, total = profile([*folder, "--checkpoint-interval", "1000", "--out", str(root / "second")])
    often, _, _ = profile([*folder, "--checkpoint-interval", "0", "--out", str(root / "third")])
    per_checkpoint = max(0.0, often["hashes of files"] - once["hashes of files"]) / 4
    seconds = sum(once.values()) + isolated + per_checkpoint * RUN / INTERVAL
    return {
        "once": {name: round(value, 3) for name, value in once.items()} | {"isolated child": round(isolated, 3)},
        "hashes_of_a_checkpoint": round(per_checkpoint, 3),
        "percent_of_ten_minutes": round(100 * seconds / RUN, 2),
        "whole_command": round(total, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="output file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name, (teacher, arguments, student) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as root:
            results[name] = measure(teacher, arguments, student, Path(root))
    print(json.dumps(results, indent=2))
    write_script_result(options.out, processor_seconds=results)


if __name__ == "__main__":
    main()
