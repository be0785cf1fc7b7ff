"""How much memory the pools of a run may take, and where they lie if that is not enough."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import torch

from datafree.applications.trainer import Fabric
from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import whole_teacher
from datafree.runs.reading.layout import POOL
from datafree.runs.settings import Experiment
from datafree.sets.collecting import origin_of
from datafree.sets.on_disk import DiskStorage, Origin
from datafree.synthesis import Stream
from datafree.synthesis.mixture import Mixture

SHARE = 0.5
"""part of the free memory that pools may take by default"""
UNKNOWN = 8 * 10**9
"""bytes that are taken as free where the system does not say"""
MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")


def pool_memory(memory: int, device: torch.device, processes: int) -> float:
    """Return the bytes that the pools of one process may take.

    Args:
        memory: The setting in bytes; 0 for a part of what is free.
        device: The device of this process.
        processes: Number of processes; those on one CPU share its memory.
    """
    if memory:
        return memory
    if device.type == "cuda":
        return SHARE * torch.cuda.mem_get_info(device)[0]
    return SHARE * free_memory() / int(os.environ.get("LOCAL_WORLD_SIZE", processes))


def free_memory() -> float:
    """Return the bytes of main memory that are free: those of the machine, or of the container if it has fewer."""
    return min(free_on_machine(), free_in_container())


def free_on_machine() -> float:
    """Return the bytes of main memory that a program can get without another one losing any."""
    try:
        match = re.search(r"^MemAvailable:\s*([0-9]+) kB", MEMINFO.read_text(encoding="ascii"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    return int(match[1]) * 1024 if match else UNKNOWN


def free_in_container() -> float:
    """Return the bytes that the control group of this process leaves; infinite without a limit."""
    try:
        limit, used = ((CGROUP / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current"))
        inactive = re.search(
            r"^inactive_file ([0-9]+)", (CGROUP / "memory.stat").read_text(encoding="ascii"), re.MULTILINE
        )
        return max(0, int(limit) - int(used) + int(inactive[1] if inactive else 0))
    except (OSError, ValueError):  # no control groups, or `max`
        return float("inf")


def keep_pools(
    stream: Stream,
    experiment: Experiment,
    teacher: Classifier,
    fabric: Fabric,
    run: Path,
    note: Callable[[str], None],
) -> None:
    """Keep the pools of a run in memory, or in its folder if they are larger than the memory for them.

    Args:
        stream: The stream of the run, before its first batch.
        experiment: The settings.
        teacher: The teacher.
        fabric: The processes. Each has a folder of its own.
        run: The run folder.
        note: Says which pool lies on disk.
    """
    method = experiment.method
    assert method is not None
    parts = {part.name: part.method for part in method.parts} if isinstance(method, Mixture) else {}
    folder = run / POOL
    if fabric.world_size > 1:
        folder /= f"process-{fabric.global_rank + 1}-of-{fabric.world_size}"
    stream.keep_pools_in(
        DiskStorage(
            root=run,
            folder=folder,
            memory=pool_memory(experiment.memory_bytes, fabric.device, fabric.world_size),
            origin=Origin(
                classes=tuple(teacher.classes),
                teacher_sha256=fingerprint(whole_teacher(teacher).model),
                made_by=lambda part: origin_of(parts.get(part, method), experiment.seed),
                measured_images=stream.synthesizer.measured_images,
            ),
            note=note,
        )
    )
