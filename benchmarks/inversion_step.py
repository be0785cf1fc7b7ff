"""Compare one step of DeepInversion with its lower bound: the teacher's forward pass and the gradient of its input.

    python benchmarks/inversion_step.py --out benchmarks/results/inversion_step.json

Both are timed in turn in one process, so that noise of the machine affects both alike. The result is the median of the ratios.
"""

import argparse
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from datafree.classifier import Classifier, frozen
from datafree.files import write_json
from datafree.methods.deep_inversion import DeepInversion, DeepInversionConfig
from datafree.runs.hardware import set_threads
from datafree.synthesis import descend
from datafree.synthesis.augmentation import jitter
from datafree.teachers import create

Step = Callable[[], None]


def make_steps(network: str, batch_size: int, precision: torch.dtype, device: str) -> tuple[Classifier, Step, Step]:
    """Return the teacher, the lower bound and the step of DeepInversion."""
    torch.manual_seed(0)
    teacher = create(network, classes=10).to(device).eval()
    teacher.precision = precision
    method = DeepInversion(teacher, DeepInversionConfig(batch_size=batch_size))
    labels = torch.randint(10, (batch_size,), device=device)
    images = torch.rand(batch_size, *teacher.shape, device=device)
    images = images.to(memory_format=torch.channels_last).requires_grad_()
    pixels = torch.randn(batch_size, *teacher.shape, device=device).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05, fused=True)

    def lower_bound() -> None:
        torch.autograd.grad(F.cross_entropy(teacher(images), labels), images)

    def inversion() -> None:
        jittered = teacher.denormalize(jitter(pixels, 2, False))
        descend(method.objective(jittered, labels), optimizer)
        with torch.no_grad():
            pixels.clamp_(-3, 3)

    return teacher, lower_bound, inversion


def seconds(step: Step, device: str) -> float:
    """Time one step."""
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(options: argparse.Namespace, precision: str) -> dict[str, Any]:
    """Time both steps in one precision."""
    teacher, lower_bound, inversion = make_steps(
        options.network, options.batch_size, getattr(torch, precision), options.device
    )
    with frozen(teacher):
        for step in (lower_bound, inversion):  # warm up
            seconds(step, options.device)
        pairs = [
            (seconds(lower_bound, options.device), seconds(inversion, options.device)) for _ in range(options.repeats)
        ]
    ratios = sorted(inversion_time / bound for bound, inversion_time in pairs)
    cuda = options.device == "cuda"
    peak = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "precision": precision,
        "lower_bound_ms": round(1e3 * statistics.median(bound for bound, _ in pairs), 1),
        "inversion_ms": round(1e3 * statistics.median(inversion_time for _, inversion_time in pairs), 1),
        "ratio": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(ratios[len(ratios) // 4], 3), round(ratios[3 * len(ratios) // 4], 3)],
        "peak_memory_mb": round(peak / 1e6),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet34_cifar", help="timm name of the teacher")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--out", type=Path, help="output file")
    options = parser.parse_args()
    set_threads(options.threads)
    rows = []
    for precision in options.precisions:
        rows.append(measure(options, precision))
        print(rows[-1])
    if options.out:
        cuda = options.device == "cuda"
        processor = torch.cuda.get_device_name() if cuda else platform.processor() or platform.machine()
        command = " ".join(["python", *sys.argv])
        write_json(options.out, {"command": command, "processor": processor, "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
