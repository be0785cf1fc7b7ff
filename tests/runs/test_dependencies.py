"""A run is resumed only if what decides its result is unchanged; what changes the last bits is said."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.commands.main import main
from datafree.runs import dependencies
from datafree.runs.experiment import resume, run
from datafree.runs.logger import RunLogger
from datafree.runs.reporting import report
from datafree.runs.reporting.sentences import real_images
from datafree.runs.tasks import Task
from datafree.types import InputError


@pytest.fixture(scope="module")
def interrupted(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, and a run that was interrupted after a checkpoint."""
    root = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(digits_teacher, root / "teacher")
    original = RunLogger.log

    def log(self: RunLogger, step: int, *arguments: Any) -> None:
        original(self, step, *arguments)
        if step == 7:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLogger, "log", log)
        run(toys.experiment(root / "teacher"), root / "run")
    return root


@pytest.fixture
def copied(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of the run; its teacher is found in the copied folder."""
    root = shutil.copytree(interrupted, tmp_path / "copy")
    change(
        root / "run" / "experiment.json", lambda content: content["task"].update(teacher=f"local-dir:{root}/teacher")
    )
    return root


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Edit a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "edit", "name"),
    [
        ("teacher/config.json", lambda c: c["pretrained_cfg"].update(mean=[0.1]), "the mean of the teacher"),
        ("teacher/config.json", lambda c: c["pretrained_cfg"].update(std=[0.1]), "the std of the teacher"),
        ("teacher/config.json", lambda c: c["label_names"].reverse(), "the list of labels of the teacher"),
        (
            "teacher/config.json",
            lambda c: c["pretrained_cfg"].update(crop_pct=0.5),
            r"the preprocessing \(crop_pct\) of the teacher",
        ),
        ("run/experiment.json", lambda c: c["application"].update(lr=0.5), "setting application.lr"),
        ("run/experiment.json", lambda c: c.update(seed=9), "setting seed"),
        ("run/experiment.json", lambda c: c["task"].update(student="convnet_w64"), "setting task.student"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_change_that_decides_the_result_is_refused_and_named(
    copied: Path, file: str, edit: Callable[[Any], object], name: str
):
    before = (copied / file).read_text()
    change(copied / file, edit)
    with pytest.raises(InputError, match=f"{name} has changed since this run was interrupted; restore it"):
        resume(copied / "run")
    if name == "the mean of the teacher":
        (copied / file).write_text(before)
        resume(copied / "run")


def test_other_versions_are_said_in_the_summary_and_the_card(copied: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dependencies, "__version__", "9.9.9")
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    change(copied / "run" / "experiment.json", lambda content: content.update(threads=2))
    result = resume(copied / "run")
    assert [note.partition(":")[0] for note in result.summary["notes"]] == [
        "this run was resumed with another datafree version (9.9.9, before 0.1.0)",
        "this run was resumed with another number of threads (2, before 1)",
        "the running statistics of batch norm are averages over the last 8 of 12 steps",
    ]
    assert "another number of threads (2, before 1)" in (copied / "run" / "student" / "README.md").read_text()


def test_settings_that_decide_nothing_may_change(copied: Path):
    change(copied / "run" / "experiment.json", lambda c: c.update(checkpoint_interval=1e6, evaluation_interval=1e6))
    (note,) = resume(copied / "run").summary["notes"]
    assert "averages over the last 8 of 12 steps" in note


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(application=3),
        lambda c: c.update(seed="1"),
        lambda c: c["method"].update(steps=[True]),
        lambda c: c["method"].update(config="Task"),
        lambda c: c["task"].update(teacher=[1]),
        lambda c: c["application"].update(augment={"shift": 1}),
        lambda c: c.update(schedule=None),
        lambda c: c.update(config="Schedule"),
        lambda c: c.update(threads=10**6),
        lambda c: c["task"].update(student="timm", student_init="weights"),
        lambda c: c.clear(),
    ],
)
def test_an_experiment_of_wrong_types_is_refused_in_one_sentence(copied: Path, edit: Callable[[Any], object]):
    file = copied / "run" / "experiment.json"
    schema = json.loads(file.read_text())["schema"]
    change(file, edit)
    change(file, lambda content: content.update(schema=schema))
    with pytest.raises(InputError) as error:
        resume(copied / "run")
    assert "experiment.json" in str(error.value) and "\n" not in str(error.value)


def test_a_name_that_is_too_long_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]):
    assert main(["train", "lenet5", "--data", "digits", "--out", "x" * 300]) == 2
    assert capsys.readouterr().err.strip().endswith("cannot be written (File name too long); give another --out")


class TestStudentStart:
    """A student that starts from weights is not called data-free without a word."""

    def results(self, teacher: Path, out: Path, student: str, init: Any = "") -> dict[str, Any]:
        base = toys.experiment(teacher, method=toys.TINY["noise"], application=DistillationConfig(steps=1))
        task = Task(teacher=f"local-dir:{teacher}", student=student, student_init=init)
        return run(replace(base, task=task, checkpoint_interval=1e6), out).summary

    def test_the_images_in_its_ledger_are_counted_through_several_runs(self, digits_teacher: Path, tmp_path: Path):
        first = self.results(digits_teacher, tmp_path / "first", f"local-dir:{digits_teacher}")
        second = self.results(digits_teacher, tmp_path / "second", f"local-dir:{tmp_path}/first/student")
        assert first["student_start"] == {"source": str(digits_teacher), "images": 1347}
        assert second["student_start"] == {"source": f"{tmp_path}/first/student", "images": 1347}
        assert second["ledger"] == [
            {"source": f"{tmp_path}/first/student", "split": "train", "purpose": "student start", "images": 1347}
        ]
        sentence = (
            f"Real images seen by the student: 0 in this run; it started from the weights in {digits_teacher}, and"
        )
        for page in ("student/README.md", "report.html"):
            assert f"{sentence} their ledger lists 1,347" in (tmp_path / "first" / page).read_text()
        assert any(note.startswith("the student starts from the weights in") for note in first["notes"])
        assert report.results_table(report.table_rows(first)).columns[4]._cells == ["-", "0 + 1,347"]

    @pytest.mark.parametrize("ledger", [None, '[{"source": 1}]'])
    def test_without_a_ledger_it_is_not_known(self, digits_teacher: Path, tmp_path: Path, ledger: str | None):
        folder = shutil.copytree(digits_teacher, tmp_path / "student")
        (folder / "ledger.json").unlink()
        if ledger:
            (folder / "ledger.json").write_text(ledger)
        summary = self.results(digits_teacher, tmp_path / "run", f"local-dir:{folder}")
        assert summary["student_start"] == {"source": str(folder), "images": None}
        assert "and what they saw is not known" in real_images(summary)
        assert report.read_summary(tmp_path / "run") == summary

    def test_a_random_start_has_the_architecture_but_not_the_weights(self, digits_teacher: Path, tmp_path: Path):
        task = Task(teacher=f"local-dir:{digits_teacher}", student=f"local-dir:{digits_teacher}", student_init="random")
        teacher, student = task.load()
        assert not torch.equal(student.model.head.weight, teacher.model.head.weight)  # type: ignore[union-attr, arg-type]
        assert student.state_dict().keys() == teacher.state_dict().keys() and student.classes == teacher.classes
        summary = self.results(digits_teacher, tmp_path / "run", f"local-dir:{digits_teacher}", "random")
        assert summary["student_start"] is None and real_images(summary).endswith("student: 0.")

    def test_weights_need_a_folder(self):
        with pytest.raises(
            InputError, match="student-init weights needs a student with weights; give a folder or a weights file"
        ):
            Task(teacher="a", student="convnet_w16", student_init="weights")


@pytest.mark.parametrize("kind", ["adi", None])
def test_a_student_of_another_size_is_shown_resized_images(kind: str | None, digits_teacher: Path, tmp_path: Path):
    torch.manual_seed(0)
    wide = teachers.create("convnet_w16", classes=10, shape=(1, 16, 16), mean=(0.3,), std=(0.3,))
    teachers.save_folder(wide, tmp_path / "student")
    task = Task(teacher=f"local-dir:{digits_teacher}", student=f"local-dir:{tmp_path}/student", data="digits")
    planned = toys.experiment(digits_teacher, task=task, method=toys.TINY[kind] if kind else None)
    schedule = replace(planned.schedule, refresh_every=4)
    summary = run(replace(planned, schedule=schedule, evaluation_interval=1e-3), tmp_path / "run").summary
    true = run(toys.experiment(digits_teacher, task=replace(task, student="convnet_w16")), tmp_path / "other").summary
    assert summary["teacher"]["accuracy"] == true["teacher"]["accuracy"] > 0.9
    assert teachers.load_folder(tmp_path / "run" / "student").shape == (1, 16, 16)
    assert "takes images of 16x16, the teacher of 8x8" in " ".join(summary["notes"])
    assert [entry["images"] for entry in summary["ledger"] if entry["purpose"] == "evaluation"] == [450]
