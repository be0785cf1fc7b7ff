"""Compare the steps of synthesis and training with their lower bounds, the passes through the networks that they need.

    python benchmarks/step.py --out benchmarks/results/step.json

| row | step | bare |
| --- | --- | --- |
| deep-inversion | jitter, objective, gradient, Adam, limits | forward pass of the teacher, gradient of the images |
| adi | the same with a student | forward passes of both, gradient of the images |
| generator | a step of the method `fast` | generator and teacher forward, gradient of the generator, Adam |
| distillation | a step of a student | teacher forward, student forward and backward, its optimizer |
| drawing | a batch of procedural pictures | none: it is compared with the student's step |

A step and its bound take turns, so that other work on the machine disturbs both. The figures are medians; a ratio is the
median of the ratios of neighbours. On a CPU the time is that which the processor spent on this process, in float32, on one
thread, with few images. With CUDA it is that of the clock, and the bound and the gradient of the inversion are also captured
as CUDA graphs. Weights are random, and running statistics are those of random images.
"""

import argparse
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from datafree.applications.distillation import DistillationConfig, Distiller
from datafree.classifier import Classifier, frozen
from datafree.files import write_json
from datafree.methods import METHODS
from datafree.methods.dafl import DAFL
from datafree.methods.deep_inversion import DeepInversion
from datafree.runs.hardware import set_threads
from datafree.synthesis.augmentation import jitter
from datafree.synthesis.descent import Descent
from datafree.synthesis.inversion import out_of_place
from datafree.synthesis.method import descend
from datafree.teachers import create
from datafree.types import Batch

Step = Callable[[], object]
SMALL, LARGE = (3, 32, 32), (3, 224, 224)
NETWORKS: dict[str, tuple[tuple[int, int, int], str]] = {
    "resnet34_cifar": (SMALL, "resnet18_cifar"),
    "vgg11_bn_cifar": (SMALL, "resnet18_cifar"),
    "resnet50": (LARGE, "resnet18"),
    "tf_efficientnet_lite0": (LARGE, "resnet18"),
}
"""teachers, each with the shape of its images and a student"""
ROWS = ("deep-inversion", "adi", "generator", "distillation", "drawing")
PRECISIONS = {"float32": (torch.float32, False), "tf32": (torch.float32, True), "bf16": (torch.bfloat16, False)}
"""precision of the networks, and whether float32 is computed by TF32"""


@dataclass(frozen=True)
class Bench:
    """What is measured at a time."""

    teacher: Classifier
    student: Classifier
    batch: int
    cuda: bool

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.teacher.device

    def images(self) -> torch.Tensor:
        """Return random images in the format in which convolutions are fastest."""
        images = torch.rand(self.batch, *self.teacher.shape, device=self.device)
        return images.to(memory_format=torch.channels_last)

    def labels(self) -> torch.Tensor:
        """Return random classes."""
        return torch.randint(len(self.teacher.classes), (self.batch,), device=self.device)


def inversion(bench: Bench, student: Classifier | None) -> tuple[Step, Step, Step]:
    """Return the bare step, our step, and our gradient without the optimizer."""
    method = METHODS["adi" if student else "deep-inversion"].build(bench.teacher)
    assert isinstance(method, DeepInversion)
    images, labels = bench.images().requires_grad_(), bench.labels()
    descent = Descent(torch.randn_like(images.detach()), labels, bench.teacher, method.create_optimizer)

    def bare() -> object:
        loss = F.cross_entropy(bench.teacher(images), labels)
        if student:
            loss = loss + F.cross_entropy(student(images), labels)
        return torch.autograd.grad(loss, images)

    def objective() -> dict[str, torch.Tensor]:
        jittered = jitter(descent.parameters, method.config.jitter, method.config.flip)
        return method.objective(bench.teacher.denormalize(jittered), descent.targets, student)

    def gradient() -> object:
        return torch.autograd.grad(torch.stack(list(objective().values())).sum(), descent.parameters)

    def ours() -> object:
        with out_of_place(method.activations):
            descent.take_step(objective())
        with torch.no_grad():
            return descent.parameters.clamp_(-3, 3)

    return bare, ours, gradient


def generator(bench: Bench) -> tuple[Step, Step]:
    """Return the bare step and a step of `fast`."""
    method = METHODS["fast"].build(bench.teacher)
    assert isinstance(method, DAFL)
    object.__setattr__(method.config, "batch_size", bench.batch)
    labels = bench.labels()

    def bare() -> object:
        latents = torch.randn(bench.batch, method.config.latent_size, device=bench.device)
        images = bench.teacher.denormalize(method.generator(latents)).clamp(0, 1)
        loss = F.cross_entropy(bench.teacher(images), labels) + F.cross_entropy(bench.student(images), labels)
        return descend({"loss": loss}, method.training.optimizer)

    return bare, lambda: method.step(bench.student)


def distillation(bench: Bench) -> tuple[Step, Step]:
    """Return the bare step and our step of a student."""
    config = DistillationConfig(steps=10**6)
    distiller = Distiller(bench.student, bench.teacher, config)
    images = bench.images()
    batch, optimizer = Batch(images, bench.labels(), {}), distiller.trainer.optimizer

    def bare() -> object:
        bench.student.train()
        with torch.no_grad():
            targets = bench.teacher(images).softmax(1)
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(bench.student(images), targets).backward()
        return optimizer.step()

    def ours() -> object:
        bench.student.train()
        return distiller.step(batch)

    return bare, ours


def seconds(step: Step, cuda: bool) -> float:
    """Time one step: by the clock with CUDA, else what the processor spent on it."""
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    step()
    if cuda:
        torch.cuda.synchronize()
    return clock() - start


def graphed(step: Step) -> Step:
    """Return a step that replays a CUDA graph of another one."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def compare(steps: dict[str, Step], cuda: bool, repeats: int) -> dict[str, Any]:
    """Time steps in turn; the first of them is the bound.

    Returns:
        The median milliseconds of each, and the median and the quartiles of the ratios to the first.
    """
    for step in steps.values():  # warm up
        seconds(step, cuda)
        seconds(step, cuda)
    rounds = [{name: seconds(step, cuda) for name, step in steps.items()} for _ in range(repeats)]
    result: dict[str, Any] = {}
    bound = next(iter(steps))
    for name in steps:
        result[f"{name}_ms"] = round(1e3 * statistics.median(times[name] for times in rounds), 3)
        if name != bound:
            ratios = sorted(times[name] / times[bound] for times in rounds)
            quartiles = ratios[len(ratios) // 4], ratios[(3 * len(ratios)) // 4]
            result[f"{name}_ratio"] = round(statistics.median(ratios), 3)
            result[f"{name}_quartiles"] = [round(ratio, 3) for ratio in quartiles]
    return result


def measure(bench: Bench, row: str, repeats: int) -> dict[str, Any]:
    """Return the figures of one row."""
    if row in ("deep-inversion", "adi"):
        student = bench.student if row == "adi" else None
        bare, ours, gradient = inversion(bench, student)
        with frozen(bench.teacher, student):
            steps = {"bare": bare, "ours": ours}
            result = compare(steps, bench.cuda, repeats)
            if bench.cuda:
                graphs = {"bare_graph": graphed(bare), "ours": ours, "ours_graph": graphed(gradient)}
                result |= {f"to_graph_{key}": value for key, value in compare(graphs, True, repeats).items()}
        return result
    if row == "drawing":
        method = METHODS["procedural"].build(bench.teacher)
        object.__setattr__(method.config, "batch_size", bench.batch)  # type: ignore[attr-defined]
        _, ours = distillation(bench)
        with frozen(bench.teacher):
            result = compare({"student": ours, "drawing": method.synthesize}, bench.cuda, repeats)
        return {**result, "pictures_per_second": round(1e3 * bench.batch / result["drawing_ms"])}
    with frozen(bench.teacher, bench.student if row == "generator" else None):
        bare, ours = generator(bench) if row == "generator" else distillation(bench)
        return compare({"bare": bare, "ours": ours}, bench.cuda, repeats)


def network(name: str, shape: tuple[int, int, int], device: str, batch: int) -> Classifier:
    """Return a network with random weights, and with the running statistics of random images."""
    torch.manual_seed(0)
    classifier = create(name, classes=10 if shape == SMALL else 1000, shape=shape).to(device)
    with torch.no_grad():
        classifier.train()(torch.rand(batch, *shape, device=device))
    return classifier.eval()


@contextmanager
def precision_of(name: str, *networks: Classifier) -> Iterator[None]:
    """Compute in a precision inside a `with` block."""
    dtype, tf32 = PRECISIONS[name]
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    for each in networks:
        each.precision = dtype
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def hardware(device: str, threads: int) -> dict[str, Any]:
    """Return what the figures were measured on."""
    cuda = device == "cuda"
    name = torch.cuda.get_device_name() if cuda else cpu_name()
    found = {"device": name, "torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    return {**found, "cuda": torch.version.cuda} if cuda else {**found, "threads": threads}


def cpu_name() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, help="default: float32; with CUDA all")
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="default: 32, of 224 pixels 4; with CUDA 32 and 256")
    parser.add_argument("--repeats", type=int, help="pairs of a row (default: 5; with CUDA 20)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--out", type=Path, help="output file; rows that it already has are not measured again")
    options = parser.parse_args()
    set_threads(options.threads)
    cuda = options.device == "cuda"
    precisions = options.precisions or (list(PRECISIONS) if cuda else ["float32"])
    command = " ".join(["python", "benchmarks/step.py", *sys.argv[1:]])
    rows: dict[str, Any] = {}
    for name in options.networks:
        shape, student_name = NETWORKS[name]
        for batch in options.batch_sizes or ((32, 256) if cuda else (32,) if shape == SMALL else (4,)):
            for precision in precisions:
                for row in options.rows:
                    networks = [network(each, shape, options.device, batch) for each in (name, student_name)]
                    with precision_of(precision, *networks):
                        figures = measure(Bench(*networks, batch, cuda), row, options.repeats or (20 if cuda else 5))
                    key = f"{name}, {shape[1]} px, batch {batch}, {precision}, {row}"
                    rows[key] = {**figures, "load": round(os.getloadavg()[0], 1)}
                    print(key, rows[key], flush=True)
                    if options.out:
                        peak = torch.cuda.max_memory_allocated() if cuda else max_rss()
                        found = {"hardware": hardware(options.device, options.threads), "peak_memory_mb": peak // 10**6}
                        write_json(options.out, {"command": command, **found, "rows": rows})


def max_rss() -> int:
    """Return the peak memory of this process in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
