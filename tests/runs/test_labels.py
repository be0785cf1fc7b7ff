"""Students for some of the teacher's classes, and runs of mixtures."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.classifier import Classifier
from datafree.ensemble import Ensemble, whole_teacher
from datafree.matching import chosen_classes
from datafree.networks.head_surgery import keep_classes
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.experiment import Result, read_settings, resume, run
from datafree.runs.logger import RunLogger
from datafree.runs.synthesizing.job import synthesize
from datafree.runs.tasks import Task
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.mixture import Mixture, Part
from datafree.synthesis.turns import WithOthers
from datafree.types import InputError

MIXTURE = Mixture(
    parts=(
        Part(name="noise", method=toys.TINY["noise"], share=0.5),
        Part(name="deep-inversion", method=toys.TINY["deep-inversion"], share=0.5),
    ),
    batch_size=8,
)


def task_of(teacher: Path, labels: Sequence[str] = ("7", "3"), **changes: Any) -> Task:
    settings: dict[str, Any] = {"student": "convnet_w16", "data": "digits", "labels": tuple(labels), **changes}
    return Task(teacher=f"local-dir:{teacher}", **settings)


class TestSomeClasses:
    @pytest.mark.parametrize("name", ["deep-inversion", "adi", "fast", "zskd", "group-stack"])
    def test_every_method_shows_the_others_too(self, name: str, teacher: Classifier, student: Classifier):
        chosen = Ensemble([teacher], ("right", "top")).eval()
        method = WithOthers(method=toys.TINY[name], others=0.4)
        stream = Stream.of(method, chosen, None, Schedule(warmup_batches=5, refresh_every=0, pool_batches=5))
        batch = next(stream)
        assert batch.teacher_logits is not None and batch.teacher_logits.shape[1] == 2
        assert torch.allclose(chosen(batch.images), batch.teacher_logits, atol=1e-4)
        assert stream.synthesizer.state_dict()["batches"] == [3, 2]

    def test_the_teacher_is_restricted_and_renormalised(self, digits_teacher: Path):
        teacher, student = task_of(digits_teacher).load()
        images = torch.rand(5, *teacher.shape)
        with torch.no_grad():
            assert torch.allclose(teacher(images), whole_teacher(teacher)(images)[:, [7, 3]])
        assert teacher.classes == student.classes == ("7", "3")

    def test_the_student_is_evaluated_on_its_classes_alone(self, digits_teacher: Path, tmp_path: Path):
        result = run(toys.experiment(digits_teacher, task=task_of(digits_teacher)), tmp_path / "run")
        summary = result.summary
        assert summary["classes"] == ["7", "3"] and summary["student"]["images"] == 91
        assert summary["teacher"]["accuracy"] > 0.9
        assert teachers.load_folder(tmp_path / "run" / "student").classes == ("7", "3")
        plain = run(toys.experiment(digits_teacher), tmp_path / "plain")
        assert summary["teacher_sha256"] == plain.summary["teacher_sha256"]

    def test_a_student_can_inherit_or_be_a_copy(self, digits_teacher: Path):
        start: list[dict[str, Any]] = [{"inherit": True}, {"student": ""}]
        for changes in start:
            teacher, student = task_of(digits_teacher, **changes).load()
            images = torch.rand(5, *teacher.shape)
            with torch.no_grad():
                assert torch.allclose(student.eval()(images), teacher(images), atol=1e-4)

    def test_a_saved_set_of_all_classes_is_divided(self, digits_teacher: Path, tmp_path: Path):
        spec = f"local-dir:{digits_teacher}"
        synthesize(toys.TINY["deep-inversion"], teacher=spec, out=tmp_path / "set", images=64, format=())
        teacher, _ = task_of(digits_teacher).load()
        saved = SavedConfig(images=str(tmp_path / "set"))
        own = saved.build(teacher).synthesize()
        rest = WithOthers(method=saved, others=0.5).build(teacher)
        counts = [len(rest.synthesize()) for _ in range(2)]
        assert counts[0] == len(own) and sum(counts) == 64
        assert set(own.targets.tolist()) <= {0, 1}

    def test_others_are_not_shown_if_there_are_none(self, teacher: Classifier):
        every = Ensemble([teacher], tuple(reversed(toys.CLASSES)))
        synthesizer = WithOthers(method=toys.TINY["noise"], others=0.5).build(every)
        assert type(synthesizer).__name__ == "Noise"

    def test_the_ceiling_learns_from_real_images_of_these_classes(self, digits_teacher: Path, tmp_path: Path):
        ceiling = toys.experiment(digits_teacher, task=task_of(digits_teacher), method=None, schedule=Schedule())
        longer = replace(ceiling, application=replace(ceiling.application, steps=60, lr=1e-2))
        summary = run(longer, tmp_path / "run").summary
        assert summary["classes"] == ["7", "3"] and summary["student"]["images"] == 91
        assert summary["student"]["accuracy"] > 0.9, "labels in another order would give less than a half"
        images = open_real("digits:3,7", "train", "evaluation", Ledger())
        assert 0 < summary["real_images_seen"] <= len(images)

    def test_a_student_for_some_labels_of_a_multi_label_teacher(self, tmp_path: Path):
        whole = teachers.create("convnet_w16", classes=("cat", "dog", "car", "sky"), multi_label=True).train()
        whole(torch.rand(64, *whole.shape))
        teachers.save_folder(whole.eval(), tmp_path / "teacher")
        task = task_of(tmp_path / "teacher", ("sky", "dog"), data="")
        experiment = toys.experiment(tmp_path / "teacher", task=task, method=toys.TINY["deep-inversion"])
        summary = run(experiment, tmp_path / "run").summary
        student = teachers.load_folder(tmp_path / "run" / "student").eval()
        assert student.multi_label and student.classes == ("sky", "dog") == tuple(summary["classes"])
        chosen, images = task.load()[0], torch.rand(16, *whole.shape)
        with torch.no_grad():
            answers, expected = chosen.predict(chosen(images)), whole.predict(whole(images))[:, [3, 1]]
        assert torch.equal(answers, expected), "each label is decided by itself"

    def test_names_come_before_indices(self):
        assert chosen_classes(("cat", "2", "dog"), ("2", "0")) == ("2", "cat")
        assert chosen_classes(("cat", "dog"), ("dog",), multi_label=True) == ("dog",)
        with pytest.raises(InputError, match="there is no class 'catt'; did you mean cat[?]$"):
            chosen_classes(("cat", "dog"), ("catt", "dog"))

    @pytest.mark.parametrize(
        ("labels", "fault"),
        [
            (("3", "12"), "there is no class '12'; give an index from 0 to 9, or a name among 0, 1"),
            (("3", "-1"), "there is no class '-1'; give an index from 0 to 9, or a name among 0, 1"),
            (("3,7",), "there is no class '3,7'; separate labels by spaces, as in 3 7"),
            (("3", "3"), "the label '3' is given twice"),
            (("3",), "'3' is the only label, which is then always predicted; give two or more labels"),
        ],
    )
    def test_wrong_labels_are_refused(self, labels: tuple[str, ...], fault: str, digits_teacher: Path):
        with pytest.raises(InputError, match=fault):
            task_of(digits_teacher, labels).load()

    @pytest.mark.parametrize("others", [-0.1, 1.0])
    def test_a_share_of_others_out_of_range_is_refused(self, others: float, digits_teacher: Path):
        with pytest.raises(InputError, match="others is"):
            task_of(digits_teacher, others=others)

    def test_classes_are_removed_from_the_last_layer(self, teacher: Classifier):
        images, reference = torch.rand(3, *toys.SHAPE), teacher
        smaller = keep_classes(toys.classifier(toys.deepcopy(teacher.model)), [3, 0])
        with torch.no_grad():
            assert torch.allclose(smaller(images), reference(images)[:, [3, 0]], atol=1e-6)
        assert smaller.classes == ("right", "top")


@pytest.fixture(scope="module")
def mixed(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    experiment = toys.experiment(digits_teacher, method=MIXTURE, schedule=MIXTURE.schedule)
    return run(experiment, tmp_path_factory.mktemp("runs") / "whole")


class TestRunsOfMixtures:
    def test_the_summary_and_the_report_list_the_parts(self, mixed: Result):
        parts = mixed.summary["parts"]
        assert [(part["name"], part["share"], part["images"]) for part in parts] == [
            ("noise", 0.5, 96),
            ("deep-inversion", 0.5, 64),
        ]
        assert all(0 <= part["health"]["agreement"] <= 1 for part in parts)
        assert mixed.summary["images_synthesized"] == 160
        page = (mixed.path / "report.html").read_text()
        assert page.count("of the student's images; ") == 2 and "96 synthesized" in page and "64 synthesized" in page
        assert all(f"<h3>{name}</h3>" in page for name in ("noise", "deep-inversion"))
        assert (mixed.path / "synthetic" / "part-noise.png").is_file()
        assert mixed.summary["method"] == "noise:0.5,deep-inversion:0.5"

    def test_the_settings_are_read_back(self, mixed: Result):
        assert read_settings(mixed.path).method == MIXTURE

    @pytest.mark.parametrize("batches", [1, 9])
    def test_a_run_killed_after_a_batch_equals_an_uninterrupted_one(
        self, batches: int, mixed: Result, digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        class Killed(Exception):
            """The process ends here."""

        saved, left = RunLogger.save, [batches]

        def save(self: RunLogger, *, early: bool = False) -> None:
            saved(self)
            left[0] -= 1
            if not left[0]:
                raise Killed

        monkeypatch.setattr(RunLogger, "save_if_due", save)
        experiment = toys.experiment(digits_teacher, method=MIXTURE, schedule=MIXTURE.schedule)
        with pytest.raises(Killed):
            run(experiment, tmp_path / "run")
        monkeypatch.undo()
        again = resume(tmp_path / "run").summary
        assert again["student_sha256"] == mixed.summary["student_sha256"]
        assert again["parts"] == mixed.summary["parts"]

    def test_a_part_of_another_name_in_the_summary_is_no_path(self, mixed: Result):
        from datafree.runs.reporting.methods import PartResult

        with pytest.raises(InputError, match="use letters, digits and dashes"):
            PartResult("../../x", 0.5, 3)
        assert replace(PartResult("x", 0.5, 3), images=4).images == 4
