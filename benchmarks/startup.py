"""Measure how long commands take until their first word, and what datafree adds to the imports of torch and timm.

python benchmarks/startup.py --repeats 5 --out benchmarks/results/startup.json
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datafree.files import write_json

RUN = ["distill", "--teacher", "local-dir:teacher", "--student", "convnet_w16"]
COMMANDS = {
    "help": ["distill", "--help"],
    "refusal of an unknown option": [*RUN, "--epochs", "3"],
    "refusal of a wrong value": [*RUN, "--steps", "1e9"],
    "first line of a run": RUN,
}
"""what is measured until its first line: the arguments of `datafree`"""
IMPORTS = {
    "import torch": "import torch",
    "import torch, timm": "import torch, timm",
    "import torch, timm and all of a run": "import torch, timm, datafree.commands.experiments",
}
"""what is measured until its end"""


def until_first_line(command: list[str], folder: str) -> tuple[float, float]:
    """Return the seconds until a command prints its first line, by the clock and of its processor time; then stop it."""
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder) as process:
        assert process.stdout
        process.stdout.readline()
        seconds = time.monotonic() - start
        times = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        process.kill()
    return seconds, sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK")


def until_end(program: str, folder: str) -> tuple[float, float]:
    """Return the seconds of a program, by the clock and of its processor time."""
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each")
    parser.add_argument("--out", type=Path, help="output file")
    options = parser.parse_args()
    samples: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.repeats):  # in turn, so that a busy moment of the machine hits all of them
            for name, words in COMMANDS.items():
                command = [sys.executable, "-m", "datafree", *words]
                samples.setdefault(name, []).append(until_first_line(command, folder))
            for name, program in IMPORTS.items():
                samples.setdefault(name, []).append(until_end(program, folder))
    table = {
        name: {
            "median_seconds": round(statistics.median(seconds for seconds, _ in each), 2),
            "least_processor_seconds": round(min(seconds for _, seconds in each), 2),
        }
        for name, each in samples.items()
    }
    _, both, everything = (table[name]["least_processor_seconds"] for name in IMPORTS)
    result = {
        "command": " ".join(["python", *sys.argv]),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "other_processes": f"load average {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "time": table,
        "processor_seconds_that_datafree_adds": round(everything - both, 2),
    }
    print(json.dumps(result, indent=2))
    if options.out:
        write_json(options.out, result)


if __name__ == "__main__":
    main()
