"""Networks with their classes in another order, and networks of other image sizes, beside a teacher of digits."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import toys
from PIL import Image

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.images import crosscheck
from datafree.networks.head_surgery import reorder_classes
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.experiment import assess, run
from datafree.runs.synthesizing.job import synthesize
from datafree.runs.task_data import open_task_data
from datafree.runs.tasks import Task, load_student
from datafree.types import InputError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def backwards(digits_teacher: Path, tmp_path: Path) -> Path:
    """The folder of the teacher with its classes in reversed order: it predicts the same."""
    network = reorder_classes(teachers.load_folder(digits_teacher), range(9, -1, -1))
    teachers.save_folder(network, tmp_path / "backwards")
    return tmp_path / "backwards"


def evaluated(teacher: Classifier, student: Classifier, data: str = "digits") -> tuple[dict, dict]:  # type: ignore[type-arg]
    """Return the evaluations of both, as `datafree evaluate` does."""
    task = Task(teacher="", data=data)
    rows = (assess(model, teacher, open_task_data(task, "test", Ledger(), model)) for model in (teacher, student))
    return next(rows), next(rows)


def test_a_network_with_its_classes_reversed_is_as_good_as_it_is(digits_teacher: Path, backwards: Path):
    teacher, student = (teachers.load_folder(folder).eval() for folder in (digits_teacher, backwards))
    assert student.classes == teacher.classes[::-1]
    of_teacher, of_student = evaluated(teacher, student)
    assert of_teacher["accuracy"] == of_student["accuracy"] > 0.9 and of_student["agreement"] == 1
    assert of_teacher["per_class"] == of_student["per_class"][::-1]


def test_a_student_with_its_classes_reversed_starts_in_the_order_of_its_teacher(digits_teacher: Path, backwards: Path):
    teacher = teachers.load_folder(digits_teacher).eval()
    student = load_student(teacher, str(backwards)).eval()
    images = torch.rand(5, 1, 8, 8)
    assert student.classes == teacher.classes and torch.equal(student(images), teacher(images)) and not student.notes


def test_a_student_of_other_classes_is_refused_and_one_without_names_is_matched_by_position(
    digits_teacher: Path, tmp_path: Path
):
    teacher = teachers.load_folder(digits_teacher)
    named = teachers.create("convnet_w16", classes=tuple("abcdefghij"))
    teachers.save_folder(named, tmp_path / "named")
    student = load_student(teacher, str(tmp_path / "named"))
    assert "matched by position: those of the teacher have no names" in student.notes[0]
    with pytest.raises(InputError, match="have different classes: 'x' of the teacher has no counterpart"):
        teacher.classes = tuple("jihgfedcbx")[::-1]
        load_student(teacher, str(tmp_path / "named"))


def test_a_set_and_its_crosscheck_do_not_depend_on_the_order(
    digits_teacher: Path, backwards: Path, tmp_path: Path, capsys: Capture
):
    synthesize(toys.TINY["noise"], teacher=f"local-dir:{digits_teacher}", out=tmp_path / "set", images=32, format=())
    rows = []
    for folder in (digits_teacher, backwards):
        crosscheck([str(tmp_path / "set"), f"local-dir:{folder}", "--device", "cpu"])
        rows.append(next(line for line in capsys.readouterr().out.splitlines() if "%" in line or "100" in line))
    numbers = [[word for word in row.split("  ") if word.strip()][-5:] for row in rows]
    assert numbers[0] == numbers[1]


@pytest.fixture
def large(tmp_path: Path) -> Classifier:
    """An untrained network of twice the size."""
    network = teachers.create("convnet_w16", classes=10, shape=(1, 16, 16))
    teachers.save_folder(network, tmp_path / "large")
    return network.eval()


def test_a_teacher_is_as_good_beside_a_network_of_another_size(digits_teacher: Path, large: Classifier):
    teacher = teachers.load_folder(digits_teacher).eval()
    alone, (beside, of_large) = evaluated(teacher, teacher)[0], evaluated(teacher, large)
    assert beside["accuracy"] == alone["accuracy"] > 0.9
    test = open_real("digits", "test", "evaluation", Ledger(), shape=large.shape)
    large_logits = torch.cat([large(batch.images) for batch in test.batches()])
    own = open_real("digits", "test", "evaluation", Ledger())
    teacher_logits = torch.cat([teacher(batch.images) for batch in own.batches()])
    agreement = (large_logits.argmax(1) == teacher_logits.argmax(1)).float().mean().item()
    assert of_large["agreement"] == pytest.approx(agreement, abs=1e-6)
    assert of_large["accuracy"] == evaluated(large, large)[0]["accuracy"]


def test_a_run_with_a_student_of_another_size_shows_the_true_accuracy_of_its_teacher(
    digits_teacher: Path, large: Classifier, tmp_path: Path
):
    task = Task(teacher=f"local-dir:{digits_teacher}", student=f"local-dir:{tmp_path / 'large'}", data="digits")
    experiment = replace(toys.experiment(digits_teacher), task=task)
    summary = run(experiment, tmp_path / "run").summary
    teacher = teachers.load_folder(digits_teacher).eval()
    assert summary["teacher"]["accuracy"] == evaluated(teacher, teacher)[0]["accuracy"] > 0.9
    assert summary["ledger"][-1]["images"] == 450


def test_files_are_read_for_each_network_and_counted_once(digits_teacher: Path, large: Classifier, tmp_path: Path):
    ramp = np.linspace(0, 255, 20 * 20).astype("uint8").reshape(20, 20)
    for label in range(10):
        (tmp_path / "images" / "test" / str(label)).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(ramp + label).save(tmp_path / "images" / "test" / str(label) / f"{number}.png")
    (tmp_path / "images" / "test" / "3" / "1.png").write_bytes(b"")
    teacher, ledger = teachers.load_folder(digits_teacher).eval(), Ledger()
    task = Task(teacher="", data=f"folder:{tmp_path / 'images'}")
    real = open_task_data(task, "test", ledger, large)
    (batch,) = real.batches_for(large, teacher)
    expected = open_task_data(task, "test", Ledger(), teacher)
    assert batch.images.shape == (19, 1, 16, 16) and ledger.entries[0].images == 19
    assert batch.teacher_logits is not None
    with torch.no_grad():
        assert torch.equal(batch.teacher_logits, teacher(next(expected.batches()).images))


def test_twelve_numbered_folders_are_matched_with_twelve_classes(tmp_path: Path):
    for label in range(12):
        (tmp_path / "images" / "test" / str(label)).mkdir(parents=True)
        Image.new("L", (8, 8), 20 * label).save(tmp_path / "images" / "test" / str(label) / "0.png")
    network = teachers.create("convnet_w16", classes=12, shape=(1, 8, 8))
    real = open_task_data(Task(teacher="", data=f"folder:{tmp_path / 'images'}"), "test", Ledger(), network)
    assert next(real.batches()).targets.tolist() == list(range(12))
    assert "folder 10 was matched with output 10 of the network" in real.notes[0] and "--class-names" in real.notes[0]
    shuffled = tuple(sorted(map(str, range(12))))
    network = teachers.create("convnet_w16", classes=shuffled, shape=(1, 8, 8))
    real = open_task_data(Task(teacher="", data=f"folder:{tmp_path / 'images'}"), "test", Ledger(), network)
    assert [shuffled[target] for target in next(real.batches()).targets.tolist()] == list(map(str, range(12)))
    assert real.notes == ()
