"""Runs a function in several processes that gloo connects, for tests."""

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.multiprocessing as multiprocessing


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def enter(
    rank: int, size: int, port: int, folder: str, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    """Run a function as one of several processes, and write its result to a file."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(1)
    try:
        result = function(*arguments)
    except BaseException:
        result = traceback.format_exc()
    (Path(folder) / str(rank)).write_bytes(pickle.dumps(result))


def run_together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return what a function returns in each of several processes; the traceback where it fails.

    Args:
        size: Number of processes.
        function: A function of a module, so that a new process can import it.
        arguments: Its arguments.
    """
    with TemporaryDirectory() as folder:
        given = (size, free_port(), folder, function, arguments)
        multiprocessing.start_processes(enter, given, nprocs=size, start_method="fork")  # nothing is imported again
        return [pickle.loads((Path(folder) / str(rank)).read_bytes()) for rank in range(size)]
