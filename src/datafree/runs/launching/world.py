"""How many processes a run has: those that it starts itself, or those that torchrun, Fabric or SLURM have started."""

import atexit
import logging
import os
from dataclasses import dataclass
from inspect import signature
from typing import Any

from datafree.applications.trainer import Fabric
from datafree.runs.launching.numerics import choose_matmul_precision
from datafree.types import InputError

FABRIC_COMMAND = "LT_"
"""prefix of the variables with which `fabric run` sets the arguments of `Fabric`"""
STRATEGY = "LT_STRATEGY"
"""the variable of its option `--strategy`"""
FSDP = "fsdp"
"""the strategy that divides the teacher among the processes, as `--shard-teacher` does"""
STRATEGIES = ("auto", "ddp", FSDP)
"""strategies that are supported"""


@dataclass(frozen=True)
class World:
    """The processes of a run."""

    devices: int
    """processes on each machine"""
    machines: int = 1
    """number of machines"""
    external: bool = False
    """whether a launcher has started the processes"""

    @property
    def size(self) -> int:
        """The number of processes."""
        return self.devices * self.machines


def world_of(devices: int) -> World:
    """Return the processes of a run that asks for a number of devices.

    Args:
        devices: The setting `devices`; 1 leaves the number to the launcher, if there is one.

    Raises:
        InputError: If a launcher has started another number of processes, or wants a strategy that is not supported.
    """
    strategy = os.environ.get(STRATEGY, "auto")
    if strategy not in STRATEGIES:
        raise InputError(
            f"--strategy is {strategy}, but datafree supports ddp and, to shard the teacher, fsdp; leave --strategy out"
        )
    found = launched()
    if found is None:
        return World(devices)
    if devices not in (1, found.devices, found.size):
        raise InputError(
            f"--devices is {devices}, but the launcher started {found.devices} processes on each of {found.machines} "
            "machines; leave --devices out"
        )
    return found


def launched() -> World | None:
    """Return the processes that torchrun, `fabric run` or srun have started; None if this process was started alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        size, local = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        return World(local, size // local, external=True)
    if "SLURM_STEP_ID" in os.environ and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        tasks, machines = int(os.environ["SLURM_STEP_NUM_TASKS"]), int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
        return World(tasks // machines, machines, external=True)
    return None


def is_first() -> bool:
    """Return whether this is the process that prints and writes, as far as the environment says before processes connect."""
    names = ("RANK", "SLURM_PROCID", "LOCAL_RANK") if launched() else ("LOCAL_RANK",)
    return int(next((os.environ[name] for name in names if name in os.environ), "0")) == 0


def create_fabric(device: str, world: World, precision: str) -> Fabric:
    """Return Lightning's Fabric for the processes of a run, before they are started."""
    from lightning_fabric import Fabric as LightningFabric  # late: it imports the compiler of torch

    choose_matmul_precision(device)
    strategy: Any = "auto"
    if world.size > 1:
        from torch.nn.parallel import DistributedDataParallel

        names = signature(DistributedDataParallel).parameters
        # All processes compute the same buffers. Every step uses the same parameters, which may not be all of them.
        buffers = (
            "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        )  # before torch 2.15
        settings: dict[str, Any] = {"static_graph": True, buffers: False}
        from lightning_fabric.strategies.ddp import DDPStrategy

        strategy = DDPStrategy(**settings)
        atexit.register(leave)
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith(FABRIC_COMMAND)}
    try:
        return LightningFabric(
            accelerator=device,
            devices=world.devices,
            num_nodes=world.machines,
            precision=precision,  # type: ignore[arg-type]
            strategy=strategy,
        )
    finally:
        os.environ.update(hidden)


def leave() -> None:
    """End the connections to the other processes, if there are any. Their threads must not outlive the interpreter."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
