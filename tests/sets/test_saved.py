"""A saved image set gives exactly the same student as the stream that synthesized it."""

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
from datafree.runs.experiment import method_name, resume, run
from datafree.runs.synthesizing import job
from datafree.sets import image_set
from datafree.sets.image_set import ImageSet
from datafree.sets.saved import SavedConfig, short
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.image_sets.index import Index
from datafree.types import Batch, InputError

AUGMENTED = DistillationConfig(steps=12, augment=Augmentation(shift=1.0, rotate=5.0))


def write(folder: Path, batch: Batch, classes: int = 4, **metadata: Any) -> SavedConfig:
    saved = ImageSet(batch=batch, classes=tuple(map(str, range(classes))), teacher_sha256="abc", made_by="", **metadata)
    image_set.write(saved, toys.plain_net(), folder)
    return SavedConfig(images=str(folder))


@pytest.fixture
def twelve(bars: Batch, tmp_path: Path) -> SavedConfig:
    return write(tmp_path / "set", Batch(bars.images[:12], bars.targets[:12], {}))


@pytest.mark.parametrize(
    ("name", "application"),
    [
        ("deep-inversion", AUGMENTED),
        ("deep-dream", DistillationConfig(steps=12)),
        ("zskd", DistillationConfig(steps=12)),  # keeps the teacher's logits, and has soft targets
        ("zskd", AUGMENTED),
        ("dafl", AUGMENTED),  # draws random numbers before its first batch
    ],
)
def test_a_set_gives_the_same_student_as_the_stream(
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
    student = run(live, tmp_path / "live").summary["student_sha256"]

    if method.burn_in:
        write_first_batches(method, digits_teacher, tmp_path / "set")
    else:
        spec = f"local-dir:{digits_teacher}"
        job.synthesize(method, teacher=spec, out=tmp_path / "set", images=24, seed=5, format=())
    again = replace(
        live,
        method=SavedConfig(images=str(tmp_path / "set")),
        schedule=Schedule(refresh_every=0, batch_size=8),
        checkpoint_interval=1e6,
    )
    assert run(again, tmp_path / "again").summary["student_sha256"] == student
    other = replace(again, seed=6)
    assert run(other, tmp_path / "other").summary["student_sha256"] != student


def write_first_batches(method: Method, teacher: Path, out: Path) -> None:
    """Write the first three batches of a generator, which `synthesize` would discard."""
    torch.manual_seed(5)
    classifier = teachers.load(f"local-dir:{teacher}")
    stream = Stream.of(method, classifier, None, Schedule(warmup_batches=3, refresh_every=0, pool_batches=3))
    stream.synthesize_until(3)
    batch, sha256 = stream.pool.all(), fingerprint(classifier.model)
    saved = ImageSet(batch=batch, classes=classifier.classes, teacher_sha256=sha256, made_by="")
    image_set.write(saved, classifier, out)


def test_dropout_of_the_student_is_the_same(teacher: Classifier, tmp_path: Path):
    """Dropout draws from torch's global random numbers, which synthesis does not advance."""
    schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=4)
    torch.manual_seed(1)
    stream = Stream.of(toys.TINY["deep-inversion"], teacher, None, schedule)
    live = [(next(stream).images, torch.rand(3)) for _ in range(3)]
    saved = write(tmp_path / "set", stream.pool.all())
    torch.manual_seed(1)
    replayed = Stream.of(saved, teacher, None, Schedule(refresh_every=0, batch_size=4))
    assert toys.same(live, [(next(replayed).images, torch.rand(3)) for _ in range(3)])


def test_images_do_not_depend_on_the_student(teacher: Classifier):
    images = []
    for drawn in (0, 1000):
        torch.manual_seed(1)
        torch.rand(drawn)  # a larger student draws more numbers for its weights
        stream = Stream.of(
            toys.TINY["deep-inversion"], teacher, None, Schedule(warmup_batches=2, refresh_every=0, pool_batches=2)
        )
        stream.synthesize_until(2)
        images.append(stream.pool.all().images)
    assert torch.equal(*images)
    assert not torch.equal(images[0][:8], images[0][8:])


def test_it_returns_all_images_or_batches_in_order(twelve: SavedConfig, teacher: Classifier, bars: Batch):
    batch = twelve.build(teacher).synthesize()
    assert torch.equal(batch.images, bars.images[:12]) and torch.equal(batch.targets, bars.targets[:12])
    saved = replace(twelve, batch_size=5).build(teacher)
    expected = [bars.images[index] for index in (*range(12), *range(3))]
    assert torch.equal(torch.cat([saved.synthesize().images for _ in range(3)]), torch.stack(expected))


def test_it_resumes_from_its_state(twelve: SavedConfig, teacher: Classifier):
    first, second = (replace(twelve, batch_size=5).build(teacher) for _ in range(2))
    first.synthesize()
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.synthesize().images, second.synthesize().images)


def test_stored_logits_are_used_only_for_the_same_teacher(teacher: Classifier, bars: Batch, tmp_path: Path):
    """A different teacher, other class names or an ensemble must compute its own logits."""
    logits = teacher(bars.images[:12]).detach()
    stored = ImageSet(
        batch=Batch(bars.images[:12], bars.targets[:12], {}, logits),
        classes=teacher.classes,
        teacher_sha256=fingerprint(teacher.model),
        made_by="dafl",
    )
    image_set.write(stored, teacher, tmp_path / "set")
    saved = SavedConfig(images=str(tmp_path / "set"))
    same = saved.build(teacher)
    assert torch.equal(same.synthesize().teacher_logits, logits)  # type: ignore[arg-type]
    assert same.notes == ("images synthesized by dafl",)
    another = toys.conv_net()
    renamed = Classifier(teacher.model, shape=toys.SHAPE, classes=4)
    for other in (another, renamed, Ensemble([teacher, toys.conv_net()])):
        assert saved.build(other).synthesize().teacher_logits is None


@pytest.mark.parametrize("name", APPLICATIONS)
def test_it_works_with_every_application(name: str, twelve: SavedConfig, teacher: Classifier, student: Classifier):
    application: Any = replace(APPLICATIONS[name], steps=4)
    before = toys.snapshot(teacher)
    learner, seen, inputs = toys.application_inputs(name, teacher, student)
    result = application.build()(learner, teacher, Stream.of(twelve, teacher, seen), **inputs)
    assert result(torch.rand(2, *toys.SHAPE)).isfinite().all()
    assert toys.same(toys.snapshot(teacher), before)


def test_a_run_with_a_saved_set_can_be_resumed(digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    spec = f"local-dir:{digits_teacher}"
    job.synthesize(toys.TINY["noise"], teacher=spec, out=tmp_path / "set", images=24, format=())
    method = SavedConfig(images=str(tmp_path / "set"), batch_size=7)
    experiment = toys.experiment(
        digits_teacher,
        method=method,
        schedule=Schedule(warmup_batches=2, refresh_every=3, pool_batches=2, batch_size=8),
    )
    whole = run(experiment, tmp_path / "whole").summary
    with toys.interrupted(monkeypatch, 7):
        run(experiment, tmp_path / "run")
    summary = resume(tmp_path / "run").summary
    assert summary["student_sha256"] == whole["student_sha256"]
    assert summary["method"] == "saved"
    note, statistics = summary["notes"]
    assert note == "images synthesized by Noise, seed 0"
    assert statistics.startswith("the running statistics of batch norm are averages over the last 8 of 12 steps")


def test_notes_warn_about_a_different_teacher_or_classes_without_names(twelve: SavedConfig, teacher: Classifier):
    different = "the images were synthesized from a different teacher"
    assert twelve.build(Classifier(teacher.model, shape=toys.SHAPE, classes=4)).notes == (different,)
    first, second = twelve.build(teacher).notes
    assert first == different and "matched by position" in second and "have no names" in second


@pytest.mark.parametrize(
    ("made_by", "parts", "said"),
    [
        ("NoiseConfig(batch_size=8, spectrum='white'), seed 3", (), "Noise, seed 3"),
        ("AdaptiveConfig(steps=(2, 3)), seed 3, student x(y), seed", (), "Adaptive, seed 3, student x(y), seed"),
        ("Mixture(parts=(Part(name='a', method=NoiseConfig()),)), seed 0", ("a", "b"), "a mixture of a and b, seed 0"),
        ("dafl", (), "dafl"),
        ("A(((", (), "A((("),
    ],
)
def test_the_note_about_a_set_has_its_method_without_all_settings(made_by: str, parts: tuple[str, ...], said: str):
    index = Index(
        images=1, logits_kept=False, classes=("a",), teacher_sha256="", made_by=made_by, parts=parts, shards={"a": ""}
    )
    assert short(index) == said


def named_set(batch: Batch, folder: Path, classes: tuple[str, ...], teacher: Classifier) -> SavedConfig:
    logits = teacher(batch.images).detach()
    stored = ImageSet(
        batch=replace(batch, teacher_logits=logits),
        classes=classes,
        teacher_sha256=fingerprint(teacher.model),
        made_by="",
    )
    image_set.write(stored, teacher, folder)
    return SavedConfig(images=str(folder))


def test_classes_in_another_order_are_matched_by_name(teacher: Classifier, bars: Batch, tmp_path: Path):
    batch = Batch(bars.images[:12], 3 - bars.targets[:12], {})
    saved = named_set(batch, tmp_path / "set", toys.CLASSES[::-1], teacher).build(teacher)
    assert torch.equal(saved.synthesize().targets, bars.targets[:12])
    assert saved.synthesize().teacher_logits is None and saved.notes == ()


def test_other_class_names_are_refused(teacher: Classifier, bars: Batch, tmp_path: Path):
    method = named_set(Batch(bars.images[:4], bars.targets[:4], {}), tmp_path / "set", ("a", "b", "c", "d"), teacher)
    with pytest.raises(InputError, match="the teacher and .*set have different classes: 'top' of the teacher has no"):
        method.build(teacher)


def test_real_images_measured_for_a_set_are_in_the_ledger_of_its_runs(digits_teacher: Path, tmp_path: Path):
    batch = Batch(torch.rand(8, 1, 8, 8), torch.arange(8), {}, torch.rand(8, 10))
    method = write(tmp_path / "set", batch, classes=10, measured_images={"digits": 300})
    experiment = toys.experiment(digits_teacher, method=method, schedule=Schedule(refresh_every=0, batch_size=8))
    summary = run(experiment, tmp_path / "run").summary
    assert summary["ledger"] == [{"source": "digits", "split": "train", "purpose": "statistics", "images": 300}]
    assert summary["real_images_seen"] == 0


@pytest.mark.parametrize(
    ("images", "classes", "fault"),
    [
        (torch.rand(2, 3, 8, 8), 10, r"has images of shape \(3, 8, 8\), but the teacher takes \(1, 8, 8\)"),
        (torch.rand(2, 1, 8, 9), 10, r"has images of shape \(1, 8, 9\)"),
        (torch.rand(2, 1, 8, 8), 4, "the teacher has 10 classes, but .*set has 4; the numbers must be equal"),
    ],
)
def test_a_set_that_does_not_fit_the_teacher_is_refused_before_anything_is_written(
    images: torch.Tensor, classes: int, fault: str, digits_teacher: Path, tmp_path: Path
):
    method = write(tmp_path / "set", Batch(images, torch.tensor([0, 1]), {}, torch.rand(2, classes)), classes)
    with pytest.raises(InputError, match=fault):
        run(toys.experiment(digits_teacher, method=method), tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_missing_folder_is_an_error(teacher: Classifier):
    with pytest.raises(InputError, match="as in saved:FOLDER"):
        SavedConfig().build(teacher)
    with pytest.raises(InputError, match="batch-size is -1"):
        SavedConfig(batch_size=-1)


def test_its_name_is_saved():
    assert method_name(SavedConfig(images="somewhere")) == "saved" and "saved" not in METHODS


def test_adaptive_synthesis_uses_a_given_student(digits_teacher: Path, tmp_path: Path):
    teachers.save_folder(teachers.create("convnet_w16"), tmp_path / "student")
    student = f"local-dir:{tmp_path / 'student'}"
    sets = []
    for out, student_spec in (("alone", ""), ("with", student)):
        job.synthesize(
            toys.TINY["adi"],
            teacher=f"local-dir:{digits_teacher}",
            out=tmp_path / out,
            images=8,
            student=student_spec,
            format=(),
        )
        sets.append(image_set.read(tmp_path / out))
    assert not torch.equal(sets[0].batch.images, sets[1].batch.images)
    assert "without a student" in sets[0].made_by and f"student {student}" in sets[1].made_by
