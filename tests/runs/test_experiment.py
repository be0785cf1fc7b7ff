"""Runs are reproducible, also if they are interrupted, killed and resumed."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from lightning_fabric import Fabric
from torture.forks import fork

import datafree.runs.experiment
from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.classifier import fingerprint
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.methods.noise import NoiseConfig
from datafree.real.ledger import Ledger
from datafree.runs.experiment import Experiment, Result, method_name, resume, run
from datafree.runs.hardware import place
from datafree.runs.launching.due import Due
from datafree.runs.logger import RunLogger, read_log
from datafree.runs.reporting import report
from datafree.runs.run_folder import read_experiment
from datafree.runs.serialization import from_json, to_json
from datafree.runs.synthesizing.job import synthesize
from datafree.runs.task_data import open_task_data
from datafree.runs.tasks import Task
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule, features
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, Diverged, InputError, Terms

LEARN = DistillationConfig(steps=12)
SNAKE_CASE = re.compile("[a-z0-9]+(_[a-z0-9]+)*")
KINDS: dict[str, dict[str, Any]] = {
    "all first": {},
    "alternating": {
        "method": toys.TINY["adi"],
        "schedule": Schedule(warmup_batches=2, refresh_every=4, pool_batches=3, batch_size=8),
        "application": replace(LEARN, ema=0.9, hints=0.5, select=2, augment=Augmentation(shift=1.0, cutmix=0.5)),
    },
    "fresh noise": {"method": toys.TINY["noise"], "schedule": Schedule()},
    "real images": {"method": None, "schedule": Schedule(batch_size=16)},
}

TIMES = ("seconds", "peak_memory_mb", "times", "finished")
"""what differs between two equal runs"""


def experiment(teacher: Path, kind: str, **changes: Any) -> Experiment:
    """A run of one kind, evaluated on digits; the ceiling is trained on them."""
    base = toys.experiment(teacher, **KINDS[kind] | changes)
    return replace(base, task=replace(base.task, data="digits"))


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """Press Ctrl-C right after the logger has logged this step, or has received this batch."""
    original: Callable[..., None] = getattr(RunLogger, name)

    def interrupted(self: RunLogger, *arguments: Any) -> None:
        original(self, *arguments)
        if when in arguments[:2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunLogger, name, interrupted)


def essence(result: Result) -> dict[str, Any]:
    """The results without measured times, which must not depend on interruptions."""
    timeless = {name: value for name, value in result.summary.items() if name not in TIMES}
    for network in ("teacher", "student"):
        timeless[network] = {name: value for name, value in timeless[network].items() if name != "milliseconds"}
    return timeless | {"log": (result.path / "log.jsonl").read_text()}


@pytest.fixture(scope="module")
def uninterrupted(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """One uninterrupted run of each kind."""
    root = tmp_path_factory.mktemp("runs")
    return {kind: run(experiment(digits_teacher, kind), root / kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKindOfRun:
    def test_equal_seeds_give_equal_students(
        self, kind: str, digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path
    ):
        again = run(experiment(digits_teacher, kind, checkpoint_interval=1e6), tmp_path / "run")
        expected = essence(uninterrupted[kind])
        settings = again.summary["experiment"] | {"checkpoint_interval": 0.0}
        assert essence(again) | {"experiment": settings} == expected
        assert toys.same(dict(again.student.state_dict()), dict(uninterrupted[kind].student.state_dict()))

    def test_another_seed_gives_another_student(
        self, kind: str, digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path
    ):
        other = run(experiment(digits_teacher, kind, seed=1, checkpoint_interval=1e6), tmp_path / "run")
        assert other.summary["student_sha256"] != uninterrupted[kind].summary["student_sha256"]

    def test_the_saved_student_equals_the_result(self, kind: str, uninterrupted: dict[str, Result]):
        result = uninterrupted[kind]
        student = teachers.load(f"local-dir:{result.path / 'student'}")
        assert fingerprint(student.model) == result.summary["student_sha256"]

    def test_only_the_ceiling_sees_real_images(self, kind: str, uninterrupted: dict[str, Result]):
        result = uninterrupted[kind]
        ledger = json.loads((result.path / "ledger.json").read_text())
        assert ledger[0] == {"source": "digits", "split": "test", "purpose": "evaluation", "images": 450}
        seen = result.summary["real_images_seen"]
        assert (seen > 16 and len(ledger) == 2) if kind == "real images" else (seen == 0 and len(ledger) == 1)

    def test_the_run_folder_has_the_documented_files(self, kind: str, uninterrupted: dict[str, Result]):
        names = {path.name for path in uninterrupted[kind].path.iterdir()} - {"checkpoints", "synthetic", ".lock"}
        assert names == {"experiment.json", "log.jsonl", "ledger.json", "summary.json", "report.html", "student"}


@pytest.mark.parametrize(("name", "when"), [("log", 7), ("on_batch", 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_equals_an_uninterrupted_one(
    kind: str,
    name: str,
    when: int,
    digits_teacher: Path,
    uninterrupted: dict[str, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    name = "log" if kind == "real images" else name  # it synthesizes no batches
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, name, when)
        run(experiment(digits_teacher, kind), tmp_path / "run")
    resumed = resume(tmp_path / "run")
    assert essence(resumed) == essence(uninterrupted[kind])
    assert toys.same(dict(resumed.student.state_dict()), dict(uninterrupted[kind].student.state_dict()))


def test_an_interruption_before_the_first_checkpoint_starts_over(
    digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 7)
        run(experiment(digits_teacher, "all first", checkpoint_interval=1e6), tmp_path / "run")
    assert essence(resume(tmp_path / "run"))["log"] == essence(uninterrupted["all first"])["log"]


def test_a_run_without_a_newer_setting_can_be_resumed(
    digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 7)
        run(experiment(digits_teacher, "all first"), tmp_path / "run")
    file = tmp_path / "run" / "experiment.json"
    older = json.loads(file.read_text())
    del older["method"]["start"], older["application"]["select"]
    older["method"] |= {"spectrum": "white"}  # the name of earlier versions
    file.write_text(json.dumps(older))
    assert essence(resume(tmp_path / "run")) == essence(uninterrupted["all first"])
    assert json.loads(file.read_text()) == older


@pytest.mark.parametrize(("old", "new"), [("white", "noise"), ("natural", "natural")])
def test_settings_of_earlier_versions_are_renamed_wherever_they_are(old: str, new: str):
    method = {"config": "DeepInversionConfig", "spectrum": old}
    part = {"config": "Part", "name": "a", "method": method, "share": 1.0}
    mixture = from_json({"config": "Mixture", "parts": [part, {**part, "name": "b"}]})
    assert [inner.method.start for inner in mixture.parts] == [new] * 2
    assert method["spectrum"] == old, "the JSON itself is not changed"
    with pytest.raises(InputError, match="'spectrum' is unknown"):
        from_json({**method, "spectrum": ["white"]})
    with pytest.raises(InputError, match="'spectrum' is unknown"):
        from_json({**method, "start": "noise"})


def test_a_killed_run_equals_an_uninterrupted_one(
    digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path
):
    program = """
import os, signal, sys
from pathlib import Path
sys.path += sys.argv[3:]
import test_experiment
from datafree.runs.logger import RunLogger
original = RunLogger.log
def log(self, step, terms):
    original(self, step, terms)
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
RunLogger.log = log
test_experiment.run(test_experiment.experiment(Path(sys.argv[1]), "alternating"), Path(sys.argv[2]))
"""
    folders = Path(__file__).parent, Path(toys.__file__).parent
    process = subprocess.run([sys.executable, "-c", program, digits_teacher, tmp_path / "run", *folders], timeout=100)
    assert process.returncode == -signal.SIGKILL
    assert essence(resume(tmp_path / "run")) == essence(uninterrupted["alternating"])


def test_a_kill_during_the_evaluation_repeats_no_step(
    digits_teacher: Path, uninterrupted: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A checkpoint is saved after the last step, since the evaluation may take longer than the interval."""

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def child() -> None:
        datafree.runs.experiment.summarize = killed  # type: ignore[assignment]
        Due.check = lambda self, *, early=False: early  # type: ignore[method-assign]
        run(experiment(digits_teacher, "fresh noise"), tmp_path / "run")

    assert fork(child).code == -signal.SIGKILL
    logged: list[int] = []
    monkeypatch.setattr(RunLogger, "log", lambda self, step, terms: logged.append(step))
    assert essence(resume(tmp_path / "run")) == essence(uninterrupted["fresh noise"])
    assert not logged


@pytest.mark.parametrize("what", ["teacher", "set", "statistics"])
def test_a_run_whose_files_have_changed_is_not_resumed(
    what: str, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each file is replaced by another one that fits as well, before the run is resumed."""
    teacher, file = tmp_path / "teacher", tmp_path / what
    shutil.copytree(digits_teacher, teacher)
    method = {"teacher": toys.TINY["deep-inversion"], "set": SavedConfig(images=str(file), batch_size=8)}
    method["statistics"] = replace(toys.TINY["deep-inversion"], feature_statistics=str(file))

    def write(seed: int) -> None:
        torch.manual_seed(seed)
        if what == "teacher":
            other = teachers.load_folder(teacher)
            other.model.head.bias.data += seed  # type: ignore[union-attr, operator]
            teachers.save_folder(other, teacher)
        elif what == "set":
            shutil.rmtree(file, ignore_errors=True)
            synthesize(toys.TINY["noise"], teacher=f"local-dir:{teacher}", out=file, images=24, format=(), seed=seed)
        else:
            features.save(features.measure_features(teachers.load_folder(teacher), [torch.rand(4, 1, 8, 8)]), file)

    write(0)
    planned = toys.experiment(
        teacher, method=method[what], schedule=Schedule(warmup_batches=2, refresh_every=4, pool_batches=2, batch_size=8)
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 6)
        run(planned, tmp_path / "run")
    checkpoints = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    write(1)
    with pytest.raises(InputError, match=f"{what} has changed since this run was interrupted; restore it"):
        resume(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == checkpoints


def test_the_teacher_is_unchanged_on_disk_and_in_the_summary(digits_teacher: Path, uninterrupted: dict[str, Result]):
    current = fingerprint(teachers.load(f"local-dir:{digits_teacher}").model)
    assert {result.summary["teacher_sha256"] for result in uninterrupted.values()} == {current}


def test_a_finished_run_is_not_overwritten(digits_teacher: Path, uninterrupted: dict[str, Result]):
    finished = uninterrupted["fresh noise"].path
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(InputError, match="is a finished run"):
        run(experiment(digits_teacher, "fresh noise"), finished)
    with pytest.raises(InputError, match="is a finished run"):
        run(experiment(digits_teacher, "fresh noise", seed=5), finished, resuming=True)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_student_that_diverges_between_two_checks_of_the_loss_is_not_saved(digits_teacher: Path, tmp_path: Path):
    """The loss is checked in the first step and in every 20th."""
    wild = DistillationConfig(steps=15, lr=1e30, lr_warmup=0.0)
    with pytest.raises(Diverged, match="not finite after the last step"):
        run(toys.experiment(digits_teacher, application=wild), tmp_path / "run")
    assert not (tmp_path / "run" / "student").exists()


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path):
    with pytest.raises(InputError, match="is not a run folder"):
        resume(tmp_path)


def test_a_divergence_is_reported_and_keeps_the_checkpoints(digits_teacher: Path, tmp_path: Path):
    diverging = experiment(
        digits_teacher, "fresh noise", application=DistillationConfig(steps=30, lr=1e30, lr_warmup=0.0)
    )
    with pytest.raises(Diverged, match="distillation is nan at step 20"):
        run(diverging, tmp_path / "run")
    assert list((tmp_path / "run" / "checkpoints").iterdir())


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"application": DistillationConfig(steps=2, optimizer="adamm")}, "optimizer 'adamm' is unknown"),
        ({"method": replace(METHODS["deep-dream"], steps=(1,) * 9)}, "9 resolutions are too many"),
        ({"method": None, "task": "no data"}, "the ceiling is trained on real images"),
        ({"device": "abacus"}, "device 'abacus' is not available; use --device cpu"),
    ],
    ids=str,
)
def test_invalid_input_leaves_no_folder(digits_teacher: Path, tmp_path: Path, changes: dict[str, Any], fault: str):
    settings = {name: value for name, value in changes.items() if name != "task"}
    invalid = experiment(digits_teacher, "all first", **settings)
    if "task" in changes:
        invalid = replace(invalid, task=replace(invalid.task, data=""))
    with pytest.raises(InputError, match=fault):
        run(invalid, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        {"threads": 0},
        {"devices": 0},
        {"checkpoint_interval": math.nan},
        {"checkpoint_interval": math.inf},
        {"seed": -1},
        {"seed": 2**64},
        {"precision": "12-bit"},
    ],
)
def test_settings_out_of_range_are_refused(digits_teacher: Path, bad: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(bad)).replace("_", "-")):
        experiment(digits_teacher, "all first", **bad)


@pytest.mark.parametrize("name", METHODS)
def test_an_experiment_with_any_method_survives_json(name: str):
    original = Experiment(
        task=Task(teacher="a", student="b", input=(1, 8, 8), mean=(0.5,)),
        method=METHODS[name],
        schedule=METHODS[name].schedule,
        application=DistillationConfig(augment=Augmentation(flip=True)),
        seed=3,
    )
    assert from_json(json.loads(json.dumps(to_json(original)))) == original


def test_the_ceiling_survives_json():
    original = Experiment(task=Task(teacher="a", student="b", data="digits"), method=None, schedule=Schedule())
    assert from_json(json.loads(json.dumps(to_json(original)))) == original


@pytest.mark.parametrize("node", [{"config": "os.system"}, {"config": "Schedule", "wormup": 3}, {"warmup": 3}])
def test_json_of_unknown_settings_is_refused(node: dict[str, Any]):
    with pytest.raises(InputError, match="or use the version of datafree that wrote it"):
        from_json(node)


def test_a_method_is_named_after_the_most_similar_preset():
    assert [method_name(method) for method in toys.TINY.values()] == list(METHODS)
    assert method_name(None) == "real images"


def test_a_pixel_that_is_not_finite_stops_the_run(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = RunLogger.on_batch

    def corrupted(self: RunLogger, batch: Batch, count: int, due: int) -> None:
        batch.images[0, 0, 0, 0] = math.nan
        original(self, batch, count, due)

    monkeypatch.setattr(RunLogger, "on_batch", corrupted)
    with pytest.raises(Diverged, match="batch 1 has non-finite pixels"):
        run(experiment(digits_teacher, "all first"), tmp_path / "run")


def test_the_log_has_the_terms_and_the_health_of_each_batch(uninterrupted: dict[str, Result]):
    lines = [json.loads(line) for line in (uninterrupted["alternating"].path / "log.jsonl").read_text().splitlines()]
    synthesis = [line for line in lines if line["phase"] == "synthesis"]
    assert [line["step"] for line in synthesis] == [1, 2, 3, 4]
    assert {
        "classification",
        "statistics",
        "compete",
        "health/class_balance",
        "health/agreement",
        "health/statistics",
    } <= synthesis[-1].keys()
    training: list[Terms] = [line for line in lines if line["phase"] == "application"]
    assert all("distillation" in line for line in training) and training


def test_settings_that_are_not_serializable_are_refused_before_anything_is_written(
    tmp_path: Path, digits_teacher: Path
):
    @dataclass(frozen=True, kw_only=True)
    class Unregistered(NoiseConfig):
        pass

    with pytest.raises(InputError, match="decorate it with"):
        run(experiment(digits_teacher, "all first", method=Unregistered(batch_size=8)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_student_can_inherit_from_its_teacher(tmp_path: Path, digits_teacher: Path):
    base = experiment(digits_teacher, "all first", checkpoint_interval=1e6)
    task = replace(base.task, student="convnet_w16", inherit=True)
    result = run(replace(base, task=task, evaluation_interval=1e-3), tmp_path / "run")
    accuracies = [line["accuracy"] for line in read_log(tmp_path / "run") if line["phase"] == "evaluation"]
    assert len(accuracies) == LEARN.steps
    assert min(accuracies) > 0.5, "it starts as accurate as its teacher"
    assert result.summary["student"]["accuracy"] == pytest.approx(accuracies[-1], abs=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_labels_of_real_images_are_in_the_order_of_the_network(split: Any):
    task = Task(teacher="convnet_w16", data="digits")
    model = teachers.create("convnet_w16", classes=tuple("5678901234"))
    by_name = open_task_data(task, split, Ledger(), model)
    plain = open_task_data(task, split, Ledger(), teachers.create("convnet_w16"))
    indices = torch.arange(20)
    assert by_name.classes == model.classes
    assert torch.equal((by_name.select(indices).targets + 5) % 10, plain.select(indices).targets)


def test_classes_with_other_names_are_matched_by_index():
    model = teachers.create("convnet_w16", classes=tuple("abcdefghij"))
    assert open_task_data(Task(data="digits", teacher=""), "test", Ledger(), model).classes == tuple("0123456789")


def test_precision_is_set_on_every_teacher_of_an_ensemble():
    member = teachers.create("convnet_w16", classes=tuple("abcdefghij"))
    ensemble = Ensemble([teachers.create("convnet_w16"), member])
    place(ensemble, "bf16-mixed", Fabric(accelerator="cpu", devices=1))
    assert {classifier.precision for classifier in (ensemble, *ensemble.teachers)} == {torch.bfloat16}


@pytest.mark.parametrize("file", ["experiment.json", "summary.json", "ledger.json"])
def test_json_keys_are_snake_case(file: str, uninterrupted: dict[str, Result]):
    for result in uninterrupted.values():
        assert all(SNAKE_CASE.fullmatch(key) for key in keys(json.loads((result.path / file).read_text())))


def test_log_keys_are_snake_case(uninterrupted: dict[str, Result]):
    for result in uninterrupted.values():
        names = {name.removeprefix("health/") for line in read_log(result.path) for name in line}
        assert all(SNAKE_CASE.fullmatch(name) for name in names)


def keys(node: Any) -> Iterator[str]:
    """All keys of JSON, at any depth."""
    if isinstance(node, dict):
        yield from node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from keys(child)


def test_the_summary_has_the_experiment_as_json(uninterrupted: dict[str, Result]):
    for kind, result in uninterrupted.items():
        summary = json.loads((result.path / "summary.json").read_text())
        assert summary["experiment"] == read_experiment(result.path), kind
        assert from_json(summary["experiment"]) == from_json(read_experiment(result.path))


def test_a_finished_run_of_an_older_layout_has_no_report(tmp_path: Path):
    (tmp_path / "experiment.json").write_text('{"schema": 1}')
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(InputError, match="another version of datafree .layout 1, this version reads layout 2.; use"):
        report.read_summary(tmp_path)
    with pytest.raises(InputError, match="another version of datafree .layout 1, this version reads layout 2.; use"):
        resume(tmp_path)
