"""A set that was written is as good as the stream that made it, to the last bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.applications import APPLICATIONS
from datafree.applications.distillation import DistillationConfig
from datafree.classifier import Classifier, fingerprint
from datafree.ensemble import Ensemble
from datafree.methods import METHODS
from datafree.runs import report, synthesis_job
from datafree.runs.experiment import name_of, resume, run
from datafree.runs.logger import RunLogger
from datafree.sets import image_set
from datafree.sets.image_set import ImageSet
from datafree.sets.saved import SavedConfig
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, InputError

MOVED = DistillationConfig(steps=12, augment=Augmentation(shift=1.0, rotate=5.0))


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "curves", lambda log: {})


def write(folder: Path, batch: Batch, classes: int = 4, **told: Any) -> SavedConfig:
    made = ImageSet(batch=batch, classes=tuple(map(str, range(classes))), teacher="abc", made_by="", **told)
    image_set.write(made, toys.plain_net(), folder)
    return SavedConfig(images=str(folder))


@pytest.fixture
def twelve(bars: Batch, tmp_path: Path) -> SavedConfig:
    return write(tmp_path / "set", Batch(bars.images[:12], bars.targets[:12], {}))


@pytest.mark.parametrize(
    ("name", "application"),
    [
        ("deep-inversion", MOVED),
        ("deep-dream", DistillationConfig(steps=12)),
        ("zskd", DistillationConfig(steps=12)),  # keeps the teacher's answers, and has soft targets
        ("zskd", MOVED),
        ("dafl", MOVED),  # draws random numbers before its first batch
    ],
)
def test_the_student_of_a_set_is_that_of_the_stream(
    name: str, application: DistillationConfig, digits_teacher: Path, tmp_path: Path
):
    method = toys.TINY[name]
    live = toys.experiment(
        digits_teacher,
        method=method,
        schedule=Schedule(warmup_batches=3, refresh_every=0, pool_batches=3, batch_size=8),
        application=application,
        seed=5,
    )
    student = run(live, tmp_path / "live").summary["student sha256"]

    if method.learning:
        keep_first(method, digits_teacher, tmp_path / "set")
    else:
        spec = f"local-dir:{digits_teacher}"
        synthesis_job.synthesize(method, teacher=spec, out=tmp_path / "set", images=24, seed=5, format=())
    again = replace(
        live,
        method=SavedConfig(images=str(tmp_path / "set")),
        schedule=Schedule(refresh_every=0, batch_size=8),
        checkpoint_interval=1e6,
    )
    assert run(again, tmp_path / "again").summary["student sha256"] == student
    other = replace(again, seed=6)
    assert run(other, tmp_path / "other").summary["student sha256"] != student


def keep_first(method: Method, teacher: Path, out: Path) -> None:
    """Writes a generator's first three batches, which `synthesize` would pass over."""
    torch.manual_seed(5)
    classifier = teachers.load(f"local-dir:{teacher}")
    stream = Stream.of(method, classifier, None, Schedule(warmup_batches=3, refresh_every=0, pool_batches=3))
    stream.fill(3)
    whose = fingerprint(classifier.model)
    made = ImageSet(batch=stream.pool.all(), classes=classifier.classes, teacher=whose, made_by="")
    image_set.write(made, classifier, out)


def test_what_a_student_drops_is_the_same_too(teacher: Classifier, tmp_path: Path):
    """Dropout draws from torch's own random numbers; making images does not touch them."""
    schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=4)
    torch.manual_seed(1)
    stream = Stream.of(toys.TINY["deep-inversion"], teacher, None, schedule)
    live = [(next(stream).images, torch.rand(3)) for _ in range(3)]
    saved = write(tmp_path / "set", stream.pool.all())
    torch.manual_seed(1)
    kept = Stream.of(saved, teacher, None, Schedule(refresh_every=0, batch_size=4))
    assert toys.same(live, [(next(kept).images, torch.rand(3)) for _ in range(3)])


def test_images_do_not_depend_on_who_learns(teacher: Classifier):
    images = []
    for drawn in (0, 1000):
        torch.manual_seed(1)
        torch.rand(drawn)  # a larger student draws more numbers for its weights
        stream = Stream.of(
            toys.TINY["deep-inversion"], teacher, None, Schedule(warmup_batches=2, refresh_every=0, pool_batches=2)
        )
        stream.fill(2)
        images.append(stream.pool.all().images)
    assert torch.equal(*images)
    assert not torch.equal(images[0][:8], images[0][8:])


def test_it_hands_out_everything_at_once_or_in_turn(twelve: SavedConfig, teacher: Classifier, bars: Batch):
    everything = twelve.build(teacher).synthesize()
    assert torch.equal(everything.images, bars.images[:12]) and torch.equal(everything.targets, bars.targets[:12])
    some = replace(twelve, batch_size=5).build(teacher)
    places = [bars.images[place] for place in (*range(12), *range(3))]
    assert torch.equal(torch.cat([some.synthesize().images for _ in range(3)]), torch.stack(places))


def test_it_goes_on_from_its_state(twelve: SavedConfig, teacher: Classifier):
    one, other = (replace(twelve, batch_size=5).build(teacher) for _ in range(2))
    one.synthesize()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.synthesize().images, other.synthesize().images)


def test_answers_are_those_of_the_teacher_that_is_asked(teacher: Classifier, bars: Batch, tmp_path: Path):
    """What one teacher said of an image is not passed off as the answer of another."""
    answers = teacher(bars.images[:12]).detach()
    made = ImageSet(
        batch=Batch(bars.images[:12], bars.targets[:12], {}, answers),
        classes=teacher.classes,
        teacher=fingerprint(teacher.model),
        made_by="dafl",
    )
    image_set.write(made, teacher, tmp_path / "set")
    saved = SavedConfig(images=str(tmp_path / "set"))
    kept = saved.build(teacher)
    assert torch.equal(kept.synthesize().answers, answers)  # type: ignore[arg-type]
    assert kept.notes == ("the images were made by dafl",)
    another = toys.conv_net()
    renamed = Classifier(teacher.model, shape=toys.SHAPE, classes=("w", "x", "y", "z"))
    for other in (another, renamed, Ensemble([teacher, toys.conv_net()])):
        assert saved.build(other).synthesize().answers is None


@pytest.mark.parametrize("name", APPLICATIONS)
def test_it_feeds_every_application(name: str, twelve: SavedConfig, teacher: Classifier, student: Classifier):
    application: Any = replace(APPLICATIONS[name], steps=4)
    before = toys.snapshot(teacher)
    made, seen, more = toys.given(name, teacher, student)
    result = application.build()(made, teacher, Stream.of(twelve, teacher, seen), **more)
    assert result(torch.rand(2, *toys.SHAPE)).isfinite().all()
    assert toys.same(toys.snapshot(teacher), before)


def test_a_run_of_it_can_be_interrupted(digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = f"local-dir:{digits_teacher}"
    synthesis_job.synthesize(toys.TINY["noise"], teacher=spec, out=tmp_path / "set", images=24, format=())
    method = SavedConfig(images=str(tmp_path / "set"), batch_size=7)
    made = toys.experiment(
        digits_teacher,
        method=method,
        schedule=Schedule(warmup_batches=2, refresh_every=3, pool_batches=2, batch_size=8),
    )
    whole = run(made, tmp_path / "whole").summary
    real = RunLogger.log

    def interrupted(self: RunLogger, step: int, terms: Any) -> None:
        real(self, step, terms)
        if step == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLogger, "log", interrupted)
        run(made, tmp_path / "run")
    found = resume(tmp_path / "run").summary
    assert found["student sha256"] == whole["student sha256"]
    assert found["method"] == "saved"
    (note,) = found["notes"]
    assert note.startswith("the images were made by ") and note.endswith(", seed 0")


def test_it_says_that_the_images_are_of_another_teacher_or_of_other_classes(twelve: SavedConfig, teacher: Classifier):
    stranger = "the images were synthesized from another teacher than this one"
    assert twelve.build(Classifier(teacher.model, shape=toys.SHAPE, classes=4)).notes == (stranger,)
    assert twelve.build(teacher).notes == (stranger, "the images' classes have other names than the teacher's")


def test_real_images_that_were_measured_for_a_set_are_in_the_ledger_of_its_runs(digits_teacher: Path, tmp_path: Path):
    batch = Batch(torch.rand(8, 1, 8, 8), torch.arange(8), {}, torch.rand(8, 10))
    method = write(tmp_path / "set", batch, classes=10, measured_from={"digits": 300})
    made = toys.experiment(digits_teacher, method=method, schedule=Schedule(refresh_every=0, batch_size=8))
    found = run(made, tmp_path / "run").summary
    assert found["ledger"] == [{"source": "digits", "split": "train", "purpose": "statistics", "images": 300}]
    assert found["real images seen by the student"] == 0


@pytest.mark.parametrize(
    ("images", "classes", "fault"),
    [
        (torch.rand(2, 3, 8, 8), 10, r"has images of \(3, 8, 8\) and the teacher takes \(1, 8, 8\)"),
        (torch.rand(2, 1, 8, 9), 10, r"has images of \(1, 8, 9\)"),
        (torch.rand(2, 1, 8, 8), 4, "has 4 classes and the teacher 10"),
    ],
)
def test_a_set_of_another_shape_or_other_classes_leaves_nothing_behind(
    images: torch.Tensor, classes: int, fault: str, digits_teacher: Path, tmp_path: Path
):
    method = write(tmp_path / "set", Batch(images, torch.tensor([0, 1]), {}, torch.rand(2, classes)), classes)
    with pytest.raises(InputError, match=fault):
        run(toys.experiment(digits_teacher, method=method), tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_it_asks_for_its_folder(teacher: Classifier):
    with pytest.raises(InputError, match=r"name its folder with --method\.images"):
        SavedConfig().build(teacher)
    with pytest.raises(InputError, match="batch is -1"):
        SavedConfig(batch_size=-1)


def test_it_is_called_saved():
    assert name_of(SavedConfig(images="somewhere")) == "saved" and "saved" not in METHODS


def test_a_student_can_be_looked_at_while_images_are_made(digits_teacher: Path, tmp_path: Path):
    teachers.save_folder(teachers.create("convnet_w16"), tmp_path / "student")
    student = f"local-dir:{tmp_path / 'student'}"
    found = []
    for out, looked_at in (("alone", ""), ("with", student)):
        synthesis_job.synthesize(
            toys.TINY["adi"],
            teacher=f"local-dir:{digits_teacher}",
            out=tmp_path / out,
            images=8,
            student=looked_at,
            format=(),
        )
        found.append(image_set.read(tmp_path / out))
    assert not torch.equal(found[0].batch.images, found[1].batch.images)
    assert "without a student" in found[0].made_by and f"student {student}" in found[1].made_by
