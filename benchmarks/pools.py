"""Measure a pool on disk: how fast it is written and drawn from, and how much memory it takes, beside a pool in memory.

    python benchmarks/pools.py --out benchmarks/results/pools.json

The sizes: 100,000 images of 32 x 32, which the page cache holds, and as many of 224 x 224 as are more than the memory of the
machine (--large). Each measurement is a process of its own, so that its peak memory is its own. `mapped` draws from the same
files through safetensors' mapping of them into memory. A step of the student is timed beside them, on one thread.

    python benchmarks/pools.py --sets 4000 --memory 1e8 --out benchmarks/results/sets.json

measures image sets of 224 x 224 instead, with two numbers of images: `datafree synthesize` by the cheapest method, noise,
and a student that draws from the set with `--method saved`.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors import safe_open

from datafree.applications.distillation import DistillationConfig
from datafree.applications.trainer import Fabric
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.files import write_json
from datafree.methods import METHODS
from datafree.runs.hardware import set_threads
from datafree.runs.launching.world import create_fabric, world_of
from datafree.runs.synthesizing.job import synthesize
from datafree.sets.on_disk import DiskStorage, Origin
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.pool import Pool
from datafree.teachers import create, load, save_folder
from datafree.types import Batch, Terms

BATCH = 128
"""images of a draw"""
DRAWS = 40


def peak() -> int:
    """Return the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def batches(count: int, size: int) -> Any:
    """Yield batches of different images that cost little to make."""
    base = torch.rand(256, 3, size, size)
    for start in range(0, count, 256):
        yield Batch(base[: count - start] * (1 - start / count / 2), torch.zeros(min(256, count - start)).long(), {})


def disk_storage(folder: Path, memory: float) -> DiskStorage:
    """Return the storage of a run in a folder."""
    origin = Origin(classes=("one", "two"), teacher_sha256="0" * 64, made_by=lambda part: "the benchmark of pools")
    return DiskStorage(root=folder, folder=folder / "pool", memory=memory, origin=origin, note=lambda note: None)


def fill(folder: Path, count: int, size: int, memory: float) -> dict[str, float]:
    """Write a pool, and return its rate and the memory that it took."""
    storage = disk_storage(folder, memory)
    pool, start, spent, before = Pool(-(-count // 256), storage), time.monotonic(), 0.0, peak()
    for batch in batches(count, size):
        begin = time.monotonic()
        pool.add(batch)
        spent += time.monotonic() - begin
    storage.finish()
    size_of_all = count * (3 * size * size * 4 + 8)
    return {
        "seconds": round(time.monotonic() - start, 1),
        "images_per_second": round(count / spent),
        "bytes": size_of_all,
        "memory": peak() - before,
    }


def draw_from_disk(folder: Path, mapped: bool) -> dict[str, float]:
    """Draw random batches from a set on disk."""
    from datafree.synthesis.image_sets.index import read_index
    from datafree.synthesis.image_sets.shards import Shards

    names = list(read_index(folder / "pool").shards)
    files = Shards(folder / "pool")
    ends = torch.tensor([files.header(name)["images"].shape[0] for name in names]).cumsum(0)
    like = files.header(names[0])["images"]
    opened: dict[int, Any] = {}
    seconds, before = [], peak()
    for _ in range(DRAWS):
        positions = torch.randint(int(ends[-1]), (BATCH,))
        begin = time.monotonic()
        owners = torch.bucketize(positions, ends, right=True)
        rows = positions - torch.cat([torch.zeros(1, dtype=torch.long), ends])[owners]
        output = like.empty(BATCH)
        if mapped:
            for owner in map(int, owners.unique()):
                if owner not in opened:
                    opened[owner] = safe_open(folder / "pool" / names[owner], "pt").__enter__().get_tensor("images")
                places = (owners == owner).nonzero()[:, 0]
                output[places] = opened[owner][rows[places]]
        else:
            files.gather(lambda n: names[n], owners, rows, {"images": output}, torch.arange(BATCH))
        seconds.append(time.monotonic() - begin)
    return described(seconds, peak() - before)


def draw_from_memory(count: int, size: int) -> dict[str, float]:
    """Draw random batches from a pool in memory."""
    before, pool = peak(), Pool(-(-count // 256))
    for batch in batches(count, size):
        pool.add(batch)
    seconds = []
    for _ in range(DRAWS):
        begin = time.monotonic()
        pool.draw(BATCH)
        seconds.append(time.monotonic() - begin)
    return described(seconds, peak() - before)


def described(seconds: list[float], memory: int) -> dict[str, float]:
    """Return the rate of draws: that of the median, and of all."""
    return {
        "images_per_second": round(BATCH / median(seconds)),
        "images_per_second_of_all": round(BATCH * len(seconds) / sum(seconds)),
        "memory": memory,
    }


class Clock(Callback):
    """Notes when each step of the student ends."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def log(self, step: int, terms: Terms) -> None:
        self.times.append(time.monotonic())


def student_step(network: str, shape: tuple[int, int, int], batch: int) -> dict[str, float]:
    """Return how many images a student learns from per second, with a teacher of the same kind."""
    fabric: Fabric = create_fabric("cpu", world_of(1), "32-true")
    fabric.launch()  # type: ignore[attr-defined]
    teacher: Classifier = create(network, shape=shape)
    student: Classifier = create(network, shape=shape)
    clock = Clock()
    stream = Stream.of(METHODS["noise"], teacher, None, Schedule(pool_batches=1, refresh_every=0, batch_size=batch))
    DistillationConfig(steps=4).build()(student, teacher, stream, fabric=fabric, callback=clock)
    steps = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return {"images_per_second": round(batch / median(steps), 1)}


def teacher_of(folder: Path, size: int) -> Classifier:
    """Return a teacher of narrow layers, which costs little beside what is measured, saved beside the set."""
    if not (folder / "teacher").exists():
        folder.mkdir(exist_ok=True)
        save_folder(create("convnet_w16", shape=(3, size, size), arguments={"widths": [2, 2, 2]}), folder / "teacher")
    return load(f"local-dir:{folder / 'teacher'}")


def synthesize_set(folder: Path, count: int, size: int, memory: float) -> dict[str, float]:
    """Synthesize a set of noise and write it."""
    teacher_of(folder, size)
    start, before = time.monotonic(), peak()
    synthesize(
        replace(METHODS["noise"], batch_size=64),
        teacher=f"local-dir:{folder / 'teacher'}",
        out=folder / "set",
        images=count,
        format=(),
        memory=f"{memory:.0f}B",
    )
    seconds = time.monotonic() - start
    return {"seconds": round(seconds, 1), "images_per_second": round(count / seconds), "memory": peak() - before}


def train_on_set(folder: Path, size: int, memory: float) -> dict[str, float]:
    """Open a set and draw batches from it, as a student does."""
    teacher = teacher_of(folder, size)
    start, before = time.monotonic(), peak()
    stream = Stream.of(
        SavedConfig(images=str(folder / "set")), teacher, None, Schedule(refresh_every=0, batch_size=BATCH)
    )
    stream.keep_pools_in(disk_storage(folder, memory))
    next(stream)
    opened, seconds = time.monotonic() - start, []
    for _ in range(DRAWS):
        begin = time.monotonic()
        next(stream)
        seconds.append(time.monotonic() - begin)
    return {"seconds_to_open": round(opened, 1), **described(seconds, peak() - before)}


def work(name: str, folder: Path, count: int, size: int, memory: float) -> dict[str, float]:
    """Carry out one measurement in this process."""
    set_threads(1)
    torch.manual_seed(0)
    match name:
        case "write":
            return fill(folder, count, size, memory)
        case "memory":
            return draw_from_memory(count, size)
        case "synthesize":
            return synthesize_set(folder, count, size, memory)
        case "saved":
            return train_on_set(folder, size, memory)
        case "student":
            small = size == 32
            return student_step("wrn_16_1" if small else "resnet18", (3, size, size), 128 if small else 8)
        case _:
            return draw_from_disk(folder, name == "mapped")


def measure(count: int, size: int, folder: Path, memory: float, names: list[str]) -> dict[str, Any]:
    """Carry out measurements, each in a process of its own."""
    results: dict[str, Any] = {"images": count, "size": size, "memory_for_pools": memory}
    for name in names:
        words = [sys.executable, __file__, "--work", name, "--folder", str(folder)]
        words += ["--count", str(count), "--size", str(size), "--memory", str(memory)]
        output = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout
        results[name.partition(" ")[0]] = json.loads(output.splitlines()[-1])
        print(size, name, results[name.partition(" ")[0]], flush=True)
    shutil.rmtree(folder)
    return results


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    load = os.getloadavg()[1]
    return {"processor": platform.machine(), "cores": os.cpu_count(), "memory": memory, "load": round(load, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pools.json"))
    parser.add_argument("--folder", type=Path, default=Path("pools-benchmark"), help="where the pools are written")
    parser.add_argument("--small", type=int, default=100_000, help="images of 32 x 32")
    parser.add_argument("--large", type=int, default=42_000, help="images of 224 x 224")
    parser.add_argument("--memory", type=float, default=10**9, help="bytes for a pool in memory")
    parser.add_argument("--sets", type=int, default=0, help="images of a set of 224 x 224, measured instead of pools")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.work, given.folder, given.count, given.size, given.memory)))
        return
    results: dict[str, Any] = {"machine": machine(), "batch": BATCH, "draws": DRAWS}
    if given.sets:
        for count in (given.sets // 4, given.sets):
            results.setdefault("sets", []).append(
                measure(count, 224, given.folder, given.memory, ["synthesize", "saved"])
            )
            write_json(given.out, results)
        return
    results["pools"] = []
    everything = ["write", "disk", "mapped", "memory", "student"]
    for count, size, names in (
        (given.small, 32, everything),
        (given.large, 224, [name for name in everything if name != "memory"]),
    ):
        results["pools"].append(measure(count, size, given.folder, given.memory, names))
        write_json(given.out, results)


if __name__ == "__main__":
    main()
