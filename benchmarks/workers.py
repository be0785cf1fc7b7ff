"""Run a benchmark script in several processes, one thread each."""

import json
import os
import socket
import subprocess
import sys
from typing import Any


def run_workers(script: str, processes: int, arguments: list[str], *, divides: bool = True) -> list[dict[str, Any]]:
    """Run a script in several processes with the option `--worker`, and return the last line that each prints, as JSON.

    Args:
        script: The script.
        processes: Number of processes, which are started at the same time.
        arguments: Of the script.
        divides: Whether the processes divide each batch; otherwise none knows of the others.
    """
    world = processes if divides else 1
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "TORCHELASTIC_RUN_ID": "benchmark",
        "OMP_NUM_THREADS": "1",
    }
    running = [
        subprocess.Popen(
            [sys.executable, script, "--worker", *arguments],
            env={**os.environ, **shared, "RANK": str(rank % world), "LOCAL_RANK": str(rank % world)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    outputs = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        raise SystemExit("a process of the benchmark failed")
    return [json.loads(output.strip().splitlines()[-1]) for output in outputs]
