"""Check that a refactoring changes no number: run tiny experiments and write the hashes of their results.

The runs cover every method and every application, two teachers, and one run that is killed and resumed. Run the script
before and after, and compare:

    python benchmarks/same_numbers.py before.json
    python benchmarks/same_numbers.py after.json && diff before.json after.json

`--names old` uses the option names of 26 November 2026 and earlier, to compare with an older checkout; `--python` is the
interpreter of the checkout to run.
"""

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors import safe_open

OPTIONS = {
    # meaning: (old option, new option)
    "steps": ("--application.steps", "--steps"),
    "lr": ("--application.lr", "--lr"),
    "ema": ("--application.ema", "--ema"),
    "shift": ("--application.augment.shift", "--shift"),
    "mix": ("--application.augment.mix", "--mix"),
    "images per step": ("--schedule.show", "--batch-size"),
    "new images per step": ("--application.show", "--new-batch-size"),
    "warm-up": ("--schedule.warmup", "--warmup-batches"),
    "every": ("--schedule.every", "--refresh-every"),
    "pool": ("--schedule.keep", "--pool-batches"),
    "images made": ("--method.batch", "--method.batch-size"),
    "images handed out": ("--method.show", "--method.student-batch-size"),
    "method steps": ("--method.steps", "--method.steps"),
    "latent": ("--method.latent", "--method.latent-size"),
    "life": ("--method.life", "--method.reset-every"),
    "skip": ("--method.skip", "--method.discard-first"),
    "measured": ("--method.measured", "--method.feature-statistics"),
    "compete": ("--method.compete", "--method.compete"),
    "set": ("--method.images", "--method.images"),
    "ratio": ("--application.ratio", "--ratio"),
    "rounds": ("--application.rounds", "--rounds"),
    "looks": ("--application.looks", "--importance-batches"),
    "measure": ("--application.measure", "--measure-batches"),
    "shared labels": ("--names", "--shared-labels"),
    "per teacher": ("--apart", "--per-teacher"),
    "training steps": ("--training.steps", "--steps"),
    "checkpoint": ("--checkpoint", "--checkpoint-interval"),
    "network to train": ("--network", ""),
    "network to measure": ("--teacher", ""),
    "network to prune": ("--teacher", ""),
}
"""an empty option: its value is an argument without a name"""
FEW = ["steps", "12", "warm-up", "2", "every", "0", "pool", "2", "images per step", "16", "lr", "0.01"]
FRESH = ["steps", "12", "images per step", "16"]
SMALL = ["images made", "16"]
GENERATOR = [*SMALL, "images handed out", "16"]
TEACHER, HALVES = ["--teacher", "local-dir:{root}/teacher"], ["--teacher", "local-dir:{root}/low"]
STUDENT = ["--student", "convnet_w16"]
BOTH = ["--teacher", "local-dir:{root}/low", "--teacher", "local-dir:{root}/high"]

TEACHERS = {
    "teacher": ["train", "network to train", "convnet_w64", "--data", "digits", "training steps", "60"],
    "low": ["train", "network to train", "convnet_w16", "--data", "digits:0-4", "training steps", "40"],
    "high": ["train", "network to train", "convnet_w16", "--data", "digits:5-9", "training steps", "40", "--seed", "1"],
}
FILES = {
    "set": ["synthesize", *TEACHER, "--method", "deep-inversion", "--images", "32", *SMALL, "method steps", "10"],
    "statistics.safetensors": [
        "statistics",
        "network to measure",
        "local-dir:{root}/teacher",
        "--data",
        "digits",
        "--images",
        "50",
    ],
}


def distill(method: str, *options: str) -> list[str]:
    return ["distill", *TEACHER, *STUDENT, "--method", method, *options]


RUNS = {
    "noise": distill("noise", *FRESH, *SMALL, "ema", "0.9"),
    "deep-dream": distill("deep-dream", *FEW, *SMALL, "method steps", "10"),
    "deep-inversion": distill("deep-inversion", *FEW, *SMALL, "method steps", "10", "shift", "1", "mix", "0.5"),
    "two resolutions": distill("deep-inversion", *FEW, *SMALL, "method steps", "5", "5"),
    "measured statistics": distill(
        "deep-inversion", *FEW, *SMALL, "method steps", "10", "measured", "{root}/statistics.safetensors"
    ),
    "adi": distill("adi", *FEW, "every", "4", *SMALL, "method steps", "10"),
    "dafl": distill("dafl", *FRESH, *GENERATOR),
    "dafl-authors": distill("dafl-authors", *FRESH, *SMALL),
    "zskd": distill("zskd", *FEW, "images made", "200", "method steps", "5"),
    "group-stack": distill("group-stack", *FRESH, *SMALL),
    "fast": distill("fast", *FRESH, *SMALL, "life", "6", "skip", "2", "every", "2", "pool", "4"),
    "saved": distill("saved", *FEW, "set", "{root}/set"),
    "inherited": distill("zskd", *FEW, "images made", "200", "method steps", "5", "--inherit"),
    "real images": distill("real", *FRESH, "--data", "digits"),
    "extend": ["extend", *HALVES, "--new-data", "digits:5-9", *FEW, *SMALL, "method steps", "10"],
    "extend, abd": [
        "extend",
        "--recipe",
        "abd",
        *HALVES,
        "--new-data",
        "digits:5-9",
        *FEW,
        *SMALL,
        "method steps",
        "5",
    ],
    "prune": [
        "prune",
        "--method",
        "adi",
        "network to prune",
        "local-dir:{root}/teacher",
        *FEW,
        *SMALL,
        "method steps",
        "10",
        "rounds",
        "2",
        "looks",
        "2",
        "ratio",
        "0.4",
    ],
    "amalgamate": ["amalgamate", *BOTH, "shared labels", "same", *FRESH, "steps", "24", *SMALL, "measure", "2"],
    "amalgamate, one student": [
        *("amalgamate", *BOTH, "shared labels", "same", "--method", "deep-inversion", "per teacher"),
        *(*FEW, *SMALL, "method steps", "10"),
    ],
    "resumed": distill("adi", *FEW, "steps", "400", "every", "50", *SMALL, "method steps", "10"),
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("out", type=Path, help="JSON to write")
    arguments.add_argument("--names", choices=("old", "new"), default="new", help="option names of the checkout")
    arguments.add_argument("--python", default=sys.executable, help="interpreter of the checkout")
    options = arguments.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, words in (TEACHERS | FILES).items():
            call(options, [*words, "--out", str(root / name), "--device", "cpu"], root)
        results["train"] = {name: hashes(root / name)["tensors"] for name in TEACHERS}
        for name, words in RUNS.items():
            out = root / name.replace(" ", "-")
            words = [*words, "--out", str(out), "--device", "cpu"]
            if name == "resumed":
                interrupt(options, [*words, "checkpoint", "0.01"], root, out)
                words = ["resume", str(out)]
            call(options, words, root)
            results[name] = hashes(out)
            print(f"{name:<26} {results[name]['student'][:16]}  {results[name]['tensors'][:16]}", flush=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n")


def command(options: argparse.Namespace, words: list[str], root: Path) -> list[str]:
    """Return the command line. Of an option given twice the second counts, except for --teacher."""
    translated = [word.format(root=root) for word in words]
    which = 0 if options.names == "old" else 1
    parts: list[list[str]] = [[]]
    for word in translated:
        if word in OPTIONS or word.startswith("--"):
            parts.append([OPTIONS[word][which] if word in OPTIONS else word])
        else:
            parts[-1].append(word)
    last = {part[0]: number for number, part in enumerate(parts) if part}
    kept = [p for number, p in enumerate(parts) if p and (p[0] == "--teacher" or last[p[0]] == number)]
    return [options.python, "-m", "datafree", *(word for part in kept for word in part if word)]


def call(options: argparse.Namespace, words: list[str], root: Path) -> None:
    done = subprocess.run(command(options, words, root), capture_output=True, text=True, env=environment())
    if done.returncode:
        sys.exit(f"{' '.join(command(options, words, root))}\n{done.stderr}")


def interrupt(options: argparse.Namespace, words: list[str], root: Path, out: Path) -> None:
    """Start a run and kill it after a few checkpoints."""
    process = subprocess.Popen(command(options, words, root), stdout=subprocess.DEVNULL, env=environment())
    while process.poll() is None:
        numbers = [int(folder.name) for folder in (out / "checkpoints").glob("[0-9]*") if folder.name.isdigit()]
        if max(numbers, default=0) >= 4:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    if process.returncode != -signal.SIGKILL:
        sys.exit("the run ended before it was killed; give it more steps")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def hashes(folder: Path) -> dict[str, str]:
    """Return the student's hash in its run folder, and a hash of its tensors' shapes and values, ordered by name."""
    weights = folder / "student" if (folder / "student").is_dir() else folder
    digest = hashlib.sha256()
    with safe_open(weights / "model.safetensors", "pt") as file:
        for name in sorted(file.keys()):
            tensor = file.get_tensor(name)
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    summary = json.loads((folder / "summary.json").read_text()) if (folder / "summary.json").is_file() else {}
    student = summary.get("student_sha256") or summary.get("student sha256") or ""
    return {"student": student, "tensors": digest.hexdigest()}


if __name__ == "__main__":
    main()
