"""What an accelerator is asked when one is lent for half an hour: pieces of under nine minutes, the most important first.

    python benchmarks/accelerator.py next --state carried --data-root data
    python benchmarks/accelerator.py teacher-resnet34_cifar --state carried --data-root data
    python benchmarks/accelerator.py list --state carried

`next` runs the first piece that has no result yet. A piece reads what earlier ones left in the folder of `--state`, and adds
its own files there: teachers in half precision, in files of under 16 MB, and `results.json` with hardware, command, seeds and
seconds. So the folder is all that has to be carried from one machine to the next. A piece that is interrupted starts again.

Neither tyro nor torch-pruning nor datasets is imported, except by the piece that prunes.
"""

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from datafree import load_folder
from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.base import Application
from datafree.applications.continual import RECIPES
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.benchmarks.sources import CIFAR10_AUGMENTATION
from datafree.classifier import Classifier, frozen
from datafree.evaluation import evaluate, score
from datafree.files import read_json, write_json
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.experiment import resume, run
from datafree.runs.planning.auto import Auto
from datafree.runs.settings import Experiment
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task
from datafree.runs.training import TrainingConfig, normalization, train
from datafree.synthesis import Method, Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.descent import Descent
from datafree.teachers import create, save_folder

PART_BYTES = 15 * 10**6
"""largest size of a file that is carried"""
SECONDS = 480
"""seconds that a piece plans with; the rest of nine minutes is for starting and evaluating"""
PRECISIONS = {"cuda": ("32-true", "bf16-mixed", "16-mixed"), "cpu": ("32-true", "bf16-mixed", "64-true")}


@dataclass(frozen=True)
class Scale:
    """How large everything is: the real thing, or a toy for the tests on a CPU."""

    data: str
    teachers: tuple[str, ...]
    half: str
    """network of the teachers of half of the classes"""
    pairs: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    epochs: float
    budget: str
    seeds: tuple[int, ...]
    checks: int
    """steps of a check"""
    checked: tuple[str, ...]
    """methods that are checked"""


REAL = Scale(
    data="cifar10",
    teachers=("resnet34_cifar", "vgg11_bn_cifar", "wrn_40_2"),
    half="resnet18_cifar",
    pairs=(
        *(("resnet34_cifar", "resnet18_cifar"), ("vgg11_bn_cifar", "resnet18_cifar")),
        *(("wrn_40_2", "wrn_16_1"), ("wrn_40_2", "wrn_40_1"), ("wrn_40_2", "wrn_16_2")),
    ),
    methods=("noise", "deep-inversion", "adi", "dafl", "fast", "auto"),
    epochs=40,
    budget=f"{SECONDS - 60}s",
    seeds=(0,),
    checks=6,
    checked=tuple(METHODS),
)
TOY = replace(
    REAL,
    data="digits",
    teachers=("convnet_w16",),
    half="convnet_w16",
    pairs=(("convnet_w16", "convnet_w16"),),
    methods=("noise",),
    epochs=1,
    budget="8steps",
    checks=2,
    checked=("fast",),
)


@dataclass(frozen=True)
class Work:
    """What a piece is given."""

    state: Path
    data_root: str
    device: str
    scale: Scale
    seconds: float

    def teacher(self, name: str) -> str:
        """Return a teacher that an earlier piece has trained, as a folder in single precision.

        Raises:
            SystemExit: If it was not trained yet.
        """
        parts = sorted((self.state / "teachers" / name).glob("weights-*.safetensors"))
        if not parts:
            raise SystemExit(f"{name} is not trained yet; run the piece teacher-{name} first")
        folder = Path(tempfile.mkdtemp(prefix="datafree-teacher-"))
        settings = read_json(self.state / "teachers" / name / "teacher.json")
        weights = {key: tensor for part in parts for key, tensor in load_file(part).items()}
        network = build(name, settings)
        whole = {key: tensor.to(network.model.state_dict()[key].dtype) for key, tensor in weights.items()}
        network.model.load_state_dict(whole)
        save_folder(network, folder / name)
        return f"local-dir:{folder / name}"


def build(name: str, settings: dict[str, Any]) -> Classifier:
    """Return an untrained network with the normalisation and the classes of the data."""
    return create(
        name,
        classes=tuple(settings["classes"]),
        shape=tuple(settings["shape"]),
        mean=tuple(settings["mean"]),
        std=tuple(settings["std"]),
    )


def split(weights: dict[str, torch.Tensor], limit: int = PART_BYTES) -> Iterator[dict[str, torch.Tensor]]:
    """Yield the weights in half precision, in parts of at most `limit` bytes; a larger tensor is a part by itself."""
    part: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in weights.items():
        half = (tensor.half() if tensor.is_floating_point() else tensor).contiguous().cpu()
        if part and size + half.nbytes > limit:
            yield part
            part, size = {}, 0
        part[name], size = half, size + half.nbytes
    yield part


def train_teacher(work: Work, name: str) -> dict[str, Any]:
    """Train a teacher in bf16, and keep it as files of half precision."""
    start = time.monotonic()
    torch.manual_seed(0)
    real = open_real(work.scale.data, "train", "teacher training", Ledger(), root=work.data_root)
    mean, std = normalization(real)
    settings = {"classes": list(real.classes), "shape": list(real.shape), "mean": list(mean), "std": list(std)}
    network = build(name, settings).to(work.device)
    network.precision = torch.bfloat16
    batch = min(256, len(real))
    augment = CIFAR10_AUGMENTATION if work.scale.data == "cifar10" else Augmentation(shift=0.7)
    steps = max(2, round(work.scale.epochs * len(real) / batch))
    train(network, real, TrainingConfig(steps=steps, batch_size=batch, lr=4e-3, weight_decay=5e-2, augment=augment))
    network.precision = torch.float32
    seconds = time.monotonic() - start
    folder = work.state / "teachers" / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(split(network.model.state_dict())):
        save_file(part, folder / f"weights-{number}.safetensors")
    write_json(folder / "teacher.json", settings)
    rounded = load_folder(work.teacher(name).removeprefix("local-dir:")).to(work.device).eval()
    test = open_real(work.scale.data, "test", "evaluation", Ledger(), root=work.data_root)
    return {
        "accuracy": evaluate(rounded, rounded, test.batches()).score,
        "steps": steps,
        "seconds": {"training": round(seconds, 1), "total": round(time.monotonic() - start, 1)},
    }


def check(work: Work) -> dict[str, Any]:
    """Run every method with distillation in every precision, every application once, and resume one run of each method."""
    rows: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(0)
        network = create("convnet_w16", classes=10, shape=(3, 32, 32))
        with torch.no_grad():
            network.train()(torch.rand(64, *network.shape))
        save_folder(network.eval(), Path(folder) / "teacher")
        for method in work.scale.checked:
            for precision in PRECISIONS.get(work.device, ("32-true",)):
                experiment = small(work, method, f"local-dir:{folder}/teacher", precision)
                rows[f"{method}, {precision}"] = attempt(partial(run, experiment, Path(folder) / new_name()))
            rows[f"{method}, resumed"] = attempt(partial(interrupted, work, method, Path(folder)))
        for name, task, method, application in applications(folder, work.scale.checks):
            experiment = replace(small(work, method, f"local-dir:{folder}/teacher"), task=task, application=application)
            rows[f"{name}, {method}"] = attempt(partial(run, experiment, Path(folder) / new_name()))
    return {"rows": rows, "failed": [name for name, row in rows.items() if row.startswith("failed")]}


def applications(folder: str, steps: int) -> Iterator[tuple[str, Any, str, Application]]:
    """Yield every other application that needs no real images: its name, task, method and settings."""
    teacher = f"local-dir:{folder}/teacher"
    yield "pruning", Task(teacher=teacher), "fast", PruningConfig(steps=steps, rounds=1, importance_batches=1)
    both = AmalgamationTask(teacher=(teacher, teacher), shared_labels="distinct")
    yield "amalgamation", both, "group-stack", AmalgamationConfig(steps=4 * steps, measure_batches=1)


def small(work: Work, method: str, teacher: str, precision: str = "32-true") -> Experiment:
    """Return a run of a few steps."""
    changes: dict[str, Any] = {"batch_size": 8}
    if hasattr(METHODS[method], "steps"):
        short = work.scale.checks
        changes["steps"] = (short,) if isinstance(METHODS[method].steps, tuple) else short  # type: ignore[attr-defined]
    if hasattr(METHODS[method], "discard_first"):
        changes |= {"discard_first": 1, "reset_every": 0}
    return Experiment(
        task=Task(teacher=teacher, student="convnet_w16"),
        method=replace(METHODS[method], **changes),
        schedule=Schedule(warmup_batches=1, refresh_every=1, batch_size=8),
        application=DistillationConfig(steps=4 * work.scale.checks),
        device=work.device,
        precision=precision,
    )


def attempt(function: Callable[[], Any]) -> str:
    """Return `ok` and what a function says in a word, or why it failed."""
    try:
        result = function()
    except Exception as fault:
        return f"failed: {type(fault).__name__}: {str(fault)[:200]}"
    return result if isinstance(result, str) else "ok"


_names = iter(range(10**9))


def new_name() -> str:
    """Return the name of a new run folder."""
    return f"run-{next(_names)}"


def interrupted(work: Work, method: str, folder: Path) -> str:
    """Stop a run by a signal, resume it, and say whether its student equals that of a run that was not stopped."""
    experiment = small(work, method, f"local-dir:{folder}/teacher")
    whole = run(experiment, folder / new_name()).summary["student_sha256"]
    path = folder / new_name()
    done = threading.Event()

    def ask_to_stop() -> None:
        while not done.wait(0.05):
            os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, lambda *_: None)  # it also arrives before and after the training
    threading.Thread(target=ask_to_stop, daemon=True).start()
    try:
        student = run(experiment, path).summary["student_sha256"]
        how = "was finished before it was stopped"
    except KeyboardInterrupt:
        done.set()
        student, how = resume(path).summary["student_sha256"], "was resumed"
    finally:
        done.set()
        signal.signal(signal.SIGUSR1, before)
    return f"ok, {how}, {'equal' if student == whole else 'another student'}"


def step_costs(work: Work) -> dict[str, Any]:
    """Return the milliseconds of a step of DeepInversion, and of a bare forward and input backward pass."""
    rows = {}
    batches = (32, 256) if work.device == "cuda" else (8,)
    for name in work.scale.teachers:
        for batch in batches:
            for precision in (torch.float32, torch.bfloat16):
                network = create(name).to(work.device)
                with torch.no_grad():
                    network.train()(torch.rand(batch, *network.shape, device=work.device))
                network.precision = precision
                network.eval()
                key = f"{name}, batch {batch}, {str(precision).removeprefix('torch.')}"
                rows[key] = {"bare": bare_step(network, batch, work), "ours": our_step(network, batch, work)}
    return {"milliseconds": rows}


def timed(step: Callable[[], object], work: Work) -> float:
    """Return the milliseconds of a step: the mean of several after two that are not timed."""
    repeats = 20 if work.device == "cuda" else 2
    for _ in range(2):
        step()
    wait(work.device)
    start = time.monotonic()
    for _ in range(repeats):
        step()
    wait(work.device)
    return round(1000 * (time.monotonic() - start) / repeats, 3)


def wait(device: str) -> None:
    """Wait until an accelerator has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def bare_step(network: Classifier, batch: int, work: Work) -> float:
    """Time a forward pass and the backward pass to the images."""
    images = torch.rand(batch, *network.shape, device=work.device).requires_grad_()

    def step() -> None:
        images.grad = None
        network(images).sum().backward()

    with frozen(network):
        return timed(step, work)


def our_step(network: Classifier, batch: int, work: Work) -> float:
    """Time a step of DeepInversion."""
    inversion = DeepInversionConfig(batch_size=batch).build(network)
    first, labels = inversion.start.begin(batch)
    descent = Descent(first, labels, network, inversion.create_optimizer)

    def step() -> None:
        images = network.denormalize(descent.parameters)
        descent.take_step(inversion.objective(images, descent.targets))

    with frozen(network):
        return timed(step, work)


def experiment_of(work: Work, task: Any, method: Method | None, application: Application, seed: int) -> Experiment:
    """Return a run that takes as long as a piece may take."""
    schedule = Schedule(batch_size=256 if work.device == "cuda" else 16) if method is None else method.schedule
    if method is not None and not isinstance(method, Auto):
        schedule = replace(method.schedule, batch_size=256 if work.device == "cuda" else 16)
    return Experiment(
        task=task,
        method=method,
        schedule=schedule,
        application=application,
        seed=seed,
        device=work.device,
        precision="bf16-mixed" if work.device == "cuda" else "32-true",
        budget=work.scale.budget,
    )


def measure(work: Work, experiment: Experiment) -> dict[str, Any]:
    """Run an experiment, and return its accuracy, its share of the teacher's, and its seconds."""
    with tempfile.TemporaryDirectory() as folder:
        summary = run(experiment, Path(folder) / "run").summary
    teacher, student = (score(summary[name]) for name in ("teacher", "student"))
    return {
        "accuracy": student,
        "teacher_accuracy": teacher,
        "retention": None if not teacher or student is None else student / teacher,
        "images_synthesized": summary["images_synthesized"],
        "steps": summary["experiment"]["application"]["steps"],
        "seconds": {"synthesis": summary.get("times", {}).get("synthesis"), "total": summary["seconds"]},
        "notes": summary["notes"],
    }


def pair(work: Work, teacher: str, student: str, method: str) -> dict[str, Any]:
    """Distil a student by one method, with every seed."""
    chosen: Method = Auto() if method == "auto" else METHODS[method]
    augment = CIFAR10_AUGMENTATION if work.scale.data == "cifar10" else Augmentation()
    task = Task(teacher=work.teacher(teacher), student=student, data=work.scale.data, data_root=work.data_root)
    application = DistillationConfig(augment=augment)
    runs = {str(s): measure(work, experiment_of(work, task, chosen, application, s)) for s in work.scale.seeds}
    return {"runs": runs}


def half_teacher(work: Work, name: str, classes: str) -> str:
    """Train a teacher of some classes within a piece, with a quarter of the epochs, and return its folder."""
    with tempfile.TemporaryDirectory() as folder:
        part = replace(
            work, scale=replace(work.scale, data=f"{work.scale.data}:{classes}", epochs=work.scale.epochs / 4)
        )
        part = replace(part, state=Path(folder))
        train_teacher(part, name)
        return part.teacher(name)


def continual(work: Work, name: str) -> dict[str, Any]:
    """Let a teacher of the first five classes learn the others."""
    task = ExtensionTask(
        teacher=half_teacher(work, name, "0-4"),
        new_data=f"{work.scale.data}:5-9",
        data=work.scale.data,
        data_root=work.data_root,
    )
    method = replace(METHODS["deep-inversion"], steps=(200,) if work.device == "cuda" else (2,), batch_size=32)
    return measure(work, experiment_of(work, task, method, RECIPES["replay"], work.scale.seeds[0]))


def dual_gan(work: Work, name: str) -> dict[str, Any]:
    """Amalgamate a teacher of the first five classes and one of the others."""
    teachers = (half_teacher(work, name, "0-4"), half_teacher(work, name, "5-9"))
    task = AmalgamationTask(teacher=teachers, data=work.scale.data, data_root=work.data_root)
    method = METHODS["group-stack"]
    if work.device != "cuda":
        method = replace(method, batch_size=16, discard_first=1)
    return measure(work, experiment_of(work, task, method, AmalgamationConfig(), work.scale.seeds[0]))


def prune_teacher(work: Work, teacher: str) -> dict[str, Any]:
    """Remove half of the filters of a teacher."""
    task = Task(teacher=work.teacher(teacher), data=work.scale.data, data_root=work.data_root)
    settings = PruningConfig(ratio=0.5)
    return measure(work, experiment_of(work, task, METHODS["fast"], settings, work.scale.seeds[0]))


def pieces(scale: Scale) -> dict[str, Callable[[Work], dict[str, Any]]]:
    """Return the pieces in the order of their importance."""
    found: dict[str, Callable[[Work], dict[str, Any]]] = {"checks": check, "steps": step_costs}
    for name in scale.teachers:
        found[f"teacher-{name}"] = lambda work, name=name: train_teacher(work, name)
    for teacher, student in scale.pairs:
        for method in scale.methods:
            found[f"{teacher}-to-{student}-{method}"] = lambda work, names=(teacher, student, method): pair(
                work, *names
            )
    found[f"pruning-{scale.teachers[0]}"] = lambda work: prune_teacher(work, scale.teachers[0])
    found["continual"] = lambda work: continual(work, scale.half)
    found["dual-gan"] = lambda work: dual_gan(work, scale.half)
    return found


def hardware(device: str) -> dict[str, Any]:
    """Return what the figures were measured on."""
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {"device": name, "cores": os.cpu_count(), "torch": torch.__version__, "python": platform.python_version()}


def main(arguments: list[str] | None = None) -> int:
    """Run one piece, and return 0; 1 if there is nothing left to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("piece", help="name of a piece; next: the first without a result; list: print the names")
    parser.add_argument("--state", type=Path, required=True, help="folder that is carried from machine to machine")
    parser.add_argument("--data-root", default="", help="folder of the data sets (default: $DATAFREE_DATA)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--toy", action="store_true", help="everything small, for a CPU")
    options = parser.parse_args(arguments)
    scale = TOY if options.toy else REAL
    work = Work(options.state, options.data_root, options.device, scale, SECONDS)
    known, file = pieces(scale), options.state / "results.json"
    results = read_json(file) if file.exists() else {}
    left = [name for name in known if name not in results]
    if options.piece == "list":
        print("\n".join(f"{name:<48} {'done' if name in results else 'open'}" for name in known))
        return 0
    if options.piece == "next" and not left:
        print("every piece has a result")
        return 1
    name = left[0] if options.piece == "next" else options.piece
    if name not in known:
        parser.error(f"there is no piece {name}; list prints the names")
    options.state.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    result = known[name](work)
    results[name] = {
        **result,
        "wall_seconds": round(time.monotonic() - start, 1),
        "hardware": hardware(options.device),
        "command": " ".join(
            ["python", "benchmarks/accelerator.py", *(sys.argv[1:] if arguments is None else arguments)]
        ),
        "seeds": list(scale.seeds),
    }
    write_json(file, results)
    print(json.dumps({name: results[name]}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
