"""A run follows from its experiment, whatever happens to it on the way."""

import json
import math
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

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.methods.noise import NoiseConfig
from datafree.real.data import Ledger
from datafree.runs import report
from datafree.runs.experiment import Experiment, Result, name_of, open_task_data, place, resume, run
from datafree.runs.logger import RunLogger, read_log
from datafree.runs.serialization import from_json, to_json
from datafree.runs.synthesis_job import synthesize
from datafree.runs.tasks import Task
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule, features
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, Diverged, InputError, Terms

LEARN = DistillationConfig(steps=12)
KINDS: dict[str, dict[str, Any]] = {
    "all first": {},
    "alternating": {
        "method": toys.TINY["adi"],
        "schedule": Schedule(warmup_batches=2, refresh_every=4, pool_batches=3, batch_size=8),
        "application": replace(LEARN, ema=0.9, augment=Augmentation(shift=1.0)),
    },
    "fresh noise": {"method": toys.TINY["noise"], "schedule": Schedule()},
    "real images": {"method": None, "schedule": Schedule(batch_size=16)},
}


def experiment(teacher: Path, kind: str, **changes: Any) -> Experiment:
    """Every kind is judged on digits, of which the ceiling sees more."""
    made = toys.experiment(teacher, **KINDS[kind] | changes)
    return replace(made, task=replace(made.task, data="digits"))


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, when: int) -> None:
    """Ctrl-C right after the logger was told of this step, or of this batch."""
    real: Callable[..., None] = getattr(RunLogger, name)

    def told(self: RunLogger, *news: Any) -> None:
        real(self, *news)
        if when in news[:2]:
            raise KeyboardInterrupt

    monkeypatch.setattr(RunLogger, name, told)


def essence(result: Result) -> dict[str, Any]:
    """What must not depend on time or interruptions."""
    timeless = {name: value for name, value in result.summary.items() if name not in ("seconds", "peak memory MB")}
    for who in ("teacher", "student"):
        timeless[who] = {name: value for name, value in timeless[who].items() if name != "milliseconds"}
    return timeless | {"log": (result.path / "log.jsonl").read_text()}


@pytest.fixture(scope="module", autouse=True)
def no_figures() -> Iterator[None]:
    """They take most of the time of a run this small, and are the business of test_report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "curves", lambda log: {})
        yield


@pytest.fixture(scope="module")
def undisturbed(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    """Each kind of run, carried out once."""
    root = tmp_path_factory.mktemp("runs")
    return {kind: run(experiment(digits_teacher, kind), root / kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKindOfRun:
    def test_equal_seeds_give_equal_students(
        self, kind: str, digits_teacher: Path, undisturbed: dict[str, Result], tmp_path: Path
    ):
        again = run(experiment(digits_teacher, kind, checkpoint_interval=1e6), tmp_path / "run")
        expected = essence(undisturbed[kind])
        assert essence(again) | {"experiment": ""} == expected | {"experiment": ""}
        assert toys.same(dict(again.student.state_dict()), dict(undisturbed[kind].student.state_dict()))

    def test_another_seed_gives_another_student(
        self, kind: str, digits_teacher: Path, undisturbed: dict[str, Result], tmp_path: Path
    ):
        other = run(experiment(digits_teacher, kind, seed=1, checkpoint_interval=1e6), tmp_path / "run")
        assert other.summary["student sha256"] != undisturbed[kind].summary["student sha256"]

    def test_the_student_on_disk_is_the_one_that_was_made(self, kind: str, undisturbed: dict[str, Result]):
        result = undisturbed[kind]
        found = teachers.load(f"local-dir:{result.path / 'student'}")
        assert teachers.fingerprint(found.model) == result.summary["student sha256"]

    def test_real_images_were_seen_by_the_ceiling_only(self, kind: str, undisturbed: dict[str, Result]):
        result = undisturbed[kind]
        ledger = json.loads((result.path / "ledger.json").read_text())
        assert ledger[0] == {"source": "digits", "split": "test", "purpose": "evaluation", "images": 450}
        seen = result.summary["real images seen by the student"]
        assert (seen > 16 and len(ledger) == 2) if kind == "real images" else (seen == 0 and len(ledger) == 1)

    def test_the_directory_holds_what_was_promised(self, kind: str, undisturbed: dict[str, Result]):
        found = {path.name for path in undisturbed[kind].path.iterdir()} - {"checkpoints", "synthetic", ".lock"}
        assert found == {"experiment.json", "log.jsonl", "ledger.json", "summary.json", "report.html", "student"}


@pytest.mark.parametrize(("name", "when"), [("log", 7), ("made", 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    kind: str,
    name: str,
    when: int,
    digits_teacher: Path,
    undisturbed: dict[str, Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    name = "log" if kind == "real images" else name  # none of its batches is made
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, name, when)
        run(experiment(digits_teacher, kind), tmp_path / "run")
    resumed = resume(tmp_path / "run")
    assert essence(resumed) == essence(undisturbed[kind])
    assert toys.same(dict(resumed.student.state_dict()), dict(undisturbed[kind].student.state_dict()))


def test_an_interruption_before_the_first_checkpoint_starts_over(
    digits_teacher: Path, undisturbed: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 7)
        run(experiment(digits_teacher, "all first", checkpoint_interval=1e6), tmp_path / "run")
    assert essence(resume(tmp_path / "run"))["log"] == essence(undisturbed["all first"])["log"]


def test_a_run_goes_on_although_a_setting_has_come_since(
    digits_teacher: Path, undisturbed: dict[str, Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 7)
        run(experiment(digits_teacher, "all first"), tmp_path / "run")
    described = tmp_path / "run" / "experiment.json"
    older = json.loads(described.read_text())
    del older["method"]["spectrum"]
    described.write_text(json.dumps(older))
    assert essence(resume(tmp_path / "run")) == essence(undisturbed["all first"])
    assert json.loads(described.read_text()) == older


def test_a_killed_run_ends_as_if_it_had_not_been(digits_teacher: Path, undisturbed: dict[str, Result], tmp_path: Path):
    program = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_experiment
from datafree.runs.logger import RunLogger, read_log
told = RunLogger.log
def log(self, step, terms):
    told(self, step, terms)
    if step == 8:
        os.kill(os.getpid(), signal.SIGKILL)
RunLogger.log = log
test_experiment.run(test_experiment.experiment(Path(sys.argv[2]), "alternating"), Path(sys.argv[3]))
"""
    here = Path(__file__).parent
    done = subprocess.run([sys.executable, "-c", program, here, digits_teacher, tmp_path / "run"], timeout=100)
    assert done.returncode == -signal.SIGKILL
    assert essence(resume(tmp_path / "run")) == essence(undisturbed["alternating"])


@pytest.mark.parametrize("what", ["teacher", "set", "statistics"])
def test_a_run_does_not_go_on_with_other_files_than_it_began_with(
    what: str, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each is replaced by another that fits as well, between the interruption and the resumption."""
    folder, place = tmp_path / "teacher", tmp_path / what
    shutil.copytree(digits_teacher, folder)
    method = {"teacher": toys.TINY["deep-inversion"], "set": SavedConfig(images=str(place), batch_size=8)}
    method["statistics"] = replace(toys.TINY["deep-inversion"], measured=str(place))

    def make(seed: int) -> None:
        torch.manual_seed(seed)
        if what == "teacher":
            other = teachers.load_folder(folder)
            other.model.head.bias.data += seed  # type: ignore[union-attr, operator]
            teachers.save_folder(other, folder)
        elif what == "set":
            shutil.rmtree(place, ignore_errors=True)
            synthesize(toys.TINY["noise"], teacher=f"local-dir:{folder}", out=place, images=24, format=(), seed=seed)
        else:
            features.save(features.measure_features(teachers.load_folder(folder), [torch.rand(4, 1, 8, 8)]), place)

    make(0)
    planned = toys.experiment(
        folder, method=method[what], schedule=Schedule(warmup_batches=2, refresh_every=4, pool_batches=2, batch_size=8)
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, "log", 6)
        run(planned, tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    make(1)
    with pytest.raises(InputError, match=f"{what} is not what it was when this run was interrupted; put it back"):
        resume(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == kept, "nothing is lost"


def test_the_teacher_is_unchanged_on_disk_and_in_the_summary(digits_teacher: Path, undisturbed: dict[str, Result]):
    now = teachers.fingerprint(teachers.load(f"local-dir:{digits_teacher}").model)
    assert {result.summary["teacher sha256"] for result in undisturbed.values()} == {now}


def test_a_run_is_not_overwritten_nor_resumed_as_another(digits_teacher: Path, undisturbed: dict[str, Result]):
    finished = undisturbed["fresh noise"].path
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    with pytest.raises(InputError, match="is a finished run"):
        run(experiment(digits_teacher, "fresh noise"), finished)
    with pytest.raises(InputError, match="is a finished run"):
        run(experiment(digits_teacher, "fresh noise", seed=5), finished, resuming=True)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_a_student_that_diverges_where_no_loss_is_looked_at_is_not_kept(digits_teacher: Path, tmp_path: Path):
    """Losses are looked at in the first step and every twentieth."""
    wild = DistillationConfig(steps=15, lr=1e30, lr_warmup=0.0)
    with pytest.raises(Diverged, match="not finite after the last step"):
        run(toys.experiment(digits_teacher, application=wild), tmp_path / "run")
    assert not (tmp_path / "run" / "student").exists()


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path):
    with pytest.raises(InputError, match="holds no run"):
        resume(tmp_path)


def test_a_divergence_is_reported_and_leaves_what_was_saved(digits_teacher: Path, tmp_path: Path):
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
        ({"device": "abacus"}, "device 'abacus'"),
    ],
    ids=str,
)
def test_what_cannot_begin_leaves_nothing_behind(
    digits_teacher: Path, tmp_path: Path, changes: dict[str, Any], fault: str
):
    made = experiment(digits_teacher, "all first", **{name: value for name, value in changes.items() if name != "task"})
    if "task" in changes:
        made = replace(made, task=replace(made.task, data=""))
    with pytest.raises(InputError, match=fault):
        run(made, tmp_path / "run")
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
def test_refuses_settings_out_of_range(digits_teacher: Path, bad: dict[str, Any]):
    with pytest.raises(InputError, match=next(iter(bad))):
        experiment(digits_teacher, "all first", **bad)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_written_down_and_read_again(name: str):
    written = Experiment(
        task=Task(teacher="a", student="b", input=(1, 8, 8), mean=(0.5,)),
        method=METHODS[name],
        schedule=METHODS[name].schedule,
        application=DistillationConfig(augment=Augmentation(flip=True)),
        seed=3,
    )
    assert from_json(json.loads(json.dumps(to_json(written)))) == written


def test_the_ceiling_can_be_written_down_and_read_again():
    written = Experiment(task=Task(teacher="a", student="b", data="digits"), method=None, schedule=Schedule())
    assert from_json(json.loads(json.dumps(to_json(written)))) == written


@pytest.mark.parametrize("node", [{"config": "os.system"}, {"config": "Schedule", "wormup": 3}, {"warmup": 3}])
def test_a_description_of_something_unknown_is_refused(node: dict[str, Any]):
    with pytest.raises(InputError, match="another version"):
        from_json(node)


def test_methods_are_called_by_the_nearest_name():
    assert [name_of(method) for method in toys.TINY.values()] == list(METHODS)
    assert name_of(None) == "real images"


def test_a_pixel_that_is_not_finite_stops_the_run(
    digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real = RunLogger.made

    def spoilt(self: RunLogger, batch: Batch, count: int, due: int) -> None:
        batch.images[0, 0, 0, 0] = math.nan
        real(self, batch, count, due)

    monkeypatch.setattr(RunLogger, "made", spoilt)
    with pytest.raises(Diverged, match="batch 1 has pixels that are not finite"):
        run(experiment(digits_teacher, "all first"), tmp_path / "run")


def test_the_log_has_the_terms_and_the_health_of_each_batch(undisturbed: dict[str, Result]):
    lines = [json.loads(line) for line in (undisturbed["alternating"].path / "log.jsonl").read_text().splitlines()]
    made = [line for line in lines if line["phase"] == "synthesis"]
    assert [line["step"] for line in made] == [1, 2, 3, 4]
    assert {
        "classification",
        "statistics",
        "compete",
        "health/classes",
        "health/agreement",
        "health/statistics",
    } <= made[0].keys()
    taught: list[Terms] = [line for line in lines if line["phase"] == "application"]
    assert all("distillation" in line for line in taught) and taught


def test_settings_of_a_stranger_are_refused_before_anything_is_written(tmp_path: Path, digits_teacher: Path):
    @dataclass(frozen=True, kw_only=True)
    class Stranger(NoiseConfig):
        pass

    with pytest.raises(InputError, match="mark the class with"):
        run(experiment(digits_teacher, "all first", method=Stranger(batch_size=8)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_heir_is_not_the_student_of_chance(tmp_path: Path, digits_teacher: Path):
    chance = experiment(digits_teacher, "all first", checkpoint_interval=1e6)
    heir = replace(chance, task=replace(chance.task, student="convnet_w16", inherit=True), evaluation_interval=1e-3)
    result = run(heir, tmp_path / "heir")
    points = [line["accuracy"] for line in read_log(tmp_path / "heir") if line["phase"] == "curve"]
    assert len(points) == LEARN.steps
    assert min(points) > 0.5, "it began as its teacher"
    assert result.summary["student"]["accuracy"] == pytest.approx(points[-1], abs=1e-6)


@pytest.mark.parametrize("split", ["train", "test"])
def test_real_images_are_numbered_as_the_network_counts(split: Any):
    task = Task(teacher="convnet_w16", data="digits")
    model = teachers.create("convnet_w16", classes=tuple("5678901234"))
    by_name = open_task_data(task, split, Ledger(), model)
    plain = open_task_data(task, split, Ledger(), teachers.create("convnet_w16"))
    places = torch.arange(20)
    assert by_name.classes == model.classes
    assert torch.equal((by_name.take(places).targets + 5) % 10, plain.take(places).targets)


def test_classes_of_other_names_are_taken_in_their_order():
    model = teachers.create("convnet_w16", classes=tuple("abcdefghij"))
    assert open_task_data(Task(data="digits", teacher=""), "test", Ledger(), model).classes == tuple("0123456789")


def test_precision_reaches_every_teacher_of_a_committee():
    member = teachers.create("convnet_w16", classes=tuple("abcdefghij"))
    ensemble = Ensemble([teachers.create("convnet_w16"), member])
    made = replace(toys.experiment(Path()), precision="bf16-mixed")
    place(ensemble, made, Fabric(accelerator="cpu", devices=1))
    assert {one.precision for one in (ensemble, *ensemble.teachers)} == {torch.bfloat16}
