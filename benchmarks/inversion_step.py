"""How near one step of DeepInversion is to the least it must do: the teacher's forward pass and the gradient of its input.

    python benchmarks/inversion_step.py --out benchmarks/results/inversion_step.json

Both are timed in turn in one process, so that a noisy machine is noisy for both; the median of the ratios counts.
"""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from datafree.classifier import frozen
from datafree.methods.deep_inversion import DeepInversion, DeepInversionConfig
from datafree.runs.hardware import set_threads
from datafree.synthesis import descend
from datafree.synthesis.augmentation import jitter
from datafree.teachers import create


def steps(network: str, batch: int, precision: torch.dtype, device: str):
    """The two things to compare, as functions of no argument."""
    torch.manual_seed(0)
    teacher = create(network, classes=10).to(device).eval()
    teacher.precision = precision
    method = DeepInversion(teacher, DeepInversionConfig(batch=batch))
    labels = torch.randint(10, (batch,), device=device)
    bare_images = (
        torch.rand(batch, *teacher.shape, device=device).to(memory_format=torch.channels_last).requires_grad_()
    )
    pixels = torch.randn(batch, *teacher.shape, device=device).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05, fused=True)

    def bare() -> None:
        torch.autograd.grad(F.cross_entropy(teacher(bare_images), labels), bare_images)

    def inversion() -> None:
        shown = teacher.denormalize(jitter(pixels, 2, False))
        descend(method.objective(shown, labels), optimizer)
        with torch.no_grad():
            pixels.clamp_(-3, 3)

    return teacher, bare, inversion


def seconds(step, device: str) -> float:
    begin = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet34_cifar")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    set_threads(options.threads)
    rows = []
    for precision in options.precisions:
        teacher, bare, inversion = steps(options.network, options.batch_size, getattr(torch, precision), options.device)
        with frozen(teacher):
            for step in (bare, inversion):
                seconds(step, options.device)
            pairs = [
                (seconds(bare, options.device), seconds(inversion, options.device)) for _ in range(options.repeats)
            ]
        ratios = sorted(slow / fast for fast, slow in pairs)
        cuda = options.device == "cuda"
        peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        rows.append(
            {
                "precision": precision,
                "bare ms": round(1e3 * statistics.median(fast for fast, _ in pairs), 1),
                "inversion ms": round(1e3 * statistics.median(slow for _, slow in pairs), 1),
                "ratio": round(statistics.median(ratios), 3),
                "ratio quartiles": [round(ratios[len(ratios) // 4], 3), round(ratios[3 * len(ratios) // 4], 3)],
                "peak memory MB": round(peak / 1e6),
            }
        )
        print(rows[-1])
    if options.out:
        name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
        command = " ".join(["python", *sys.argv])
        found = {"command": command, "processor": name, "torch": torch.__version__, "rows": rows}
        options.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
