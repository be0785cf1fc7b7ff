"""Images without labels: the agreement of two networks, and no accuracy."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from torch import nn

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.evaluation import agreement, evaluate
from datafree.networks.head_surgery import reorder_classes
from datafree.real.data import open_real
from datafree.real.feature_measuring import measure_real_images
from datafree.real.ledger import Ledger
from datafree.runs.experiment import run
from datafree.runs.reporting import card, report, tables
from datafree.runs.tasks import Task
from datafree.types import Batch, InputError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve digits in one folder and the folder below it, a truncated file and a stray."""
    digits = open_real("digits", "test", "evaluation", Ledger()).select(torch.arange(12)).images
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for number, image in enumerate(digits):
        folder = tmp_path / "pictures" / ("more" if number > 9 else "")
        Image.fromarray((image[0] * 255).byte().numpy()).save(folder / f"{number:02}.png")
    (tmp_path / "pictures" / "99.png").write_bytes((tmp_path / "pictures" / "00.png").read_bytes()[:60])
    (tmp_path / "pictures" / "list.csv").write_text("")
    return tmp_path / "pictures"


class TestAgreement:
    def test_by_hand(self):
        """Two networks whose answers are their four pixels: the second one reads them in reversed order."""
        first = Classifier(nn.Flatten(), shape=(1, 1, 4), classes=tuple("abcd"))
        images = torch.eye(4)[:, None, None]
        flipped = Classifier(
            nn.Sequential(nn.Flatten(), nn.Linear(4, 4, bias=False)), shape=(1, 1, 4), classes=tuple("abcd")
        )
        flipped.model[1].weight.data = torch.eye(4)[[0, 1, 3, 2]]  # type: ignore[index, union-attr]
        batches = [
            Batch(images[:3], torch.zeros(3, dtype=torch.long), {}),
            Batch(images[3:], torch.zeros(1).long(), {}),
        ]
        assert agreement(flipped, first, batches) == (0.5, 4)
        assert agreement(first, first, batches) == (1.0, 4)

    def test_classes_are_matched_by_name(self, teacher: Classifier, bars: Batch):
        from copy import deepcopy

        other = reorder_classes(deepcopy(teacher), [2, 0, 3, 1])
        assert agreement(other, teacher, [bars]) == (1.0, len(bars))
        teacher.multi_label = other.multi_label = True
        try:
            assert agreement(other, teacher, [bars]) == (1.0, len(bars))
        finally:
            teacher.multi_label = False

    def test_it_is_that_of_the_evaluation(self, teacher: Classifier, student: Classifier, bars: Batch):
        assert agreement(student, teacher, [bars])[0] == evaluate(student, teacher, [bars]).agreement


class TestFolder:
    def test_is_read_with_the_folders_below_it_and_counted(self, pictures: Path):
        ledger = Ledger()
        real = open_real(f"unlabelled:{pictures}", "test", "evaluation", ledger, shape=(1, 8, 8))
        assert not real.labelled and real.classes == ()
        assert sum(len(batch) for batch in real.batches()) == 12
        (entry,) = ledger.entries
        assert (entry.source, entry.purpose, entry.images) == (f"unlabelled:{pictures}", "evaluation", 12)
        assert "1 damaged or no image (99.png)" in real.notes[0] and "1 of type .csv (list.csv)" in real.notes[0]

    def test_has_no_labels_to_train_on(self, pictures: Path):
        with pytest.raises(InputError, match="has no labels, which teacher training needs; give images with labels"):
            open_real(f"unlabelled:{pictures}", "train", "teacher training", Ledger())

    def test_can_be_measured(self, pictures: Path, teacher: Classifier):
        assert measure_real_images(teacher, f"unlabelled:{pictures}", 5, 0).images == 5

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("empty", "contains no image file"),
            ("fake", r"there is no readable image \(skipped 1 file in .*0.png\)\); give a folder of images"),
            ("nowhere", "is not a folder"),
        ],
    )
    def test_without_images_is_refused(self, name: str, message: str, tmp_path: Path):
        (tmp_path / "empty").mkdir()
        (tmp_path / "fake").mkdir()
        (tmp_path / "fake" / "0.png").write_text("no image")
        with pytest.raises(InputError, match=message):
            open_real(f"unlabelled:{tmp_path / name}", "test", "evaluation", Ledger())


class TestRun:
    def test_says_the_agreement_and_no_accuracy(self, digits_teacher: Path, pictures: Path, tmp_path: Path):
        task = Task(teacher=str(digits_teacher), student="convnet_w16", data=f"unlabelled:{pictures}")
        summary = run(
            replace(toys.experiment(digits_teacher), task=task, evaluation_interval=1e-6), tmp_path / "run"
        ).summary
        assert "accuracy" not in summary["student"] and "per_class" not in summary["student"]
        assert summary["student"]["images"] == 12 and summary["teacher"]["agreement"] == 1
        assert summary["ledger"] == [
            {"source": f"unlabelled:{pictures}", "split": "test", "purpose": "evaluation", "images": 12}
        ]
        assert any("99.png" in note for note in summary["notes"])
        read = report.read_summary(tmp_path / "run")
        share = report.percent(read["student"]["agreement"])
        sentence = f"The student predicts the same as the teacher on {share} of 12 real images"
        for text in (
            card.results(read),
            (tmp_path / "run/report.html").read_text(),
            (tmp_path / "run/student/README.md").read_text(),
        ):
            assert sentence in text and "no accuracy is known" in text and "Held-out accuracy" not in text
        (table,) = report.tables(read)
        assert [column.header for column in table.columns] == ["model", *tables.UNLABELLED_COLUMNS]

    def test_two_networks_are_compared(self, digits_teacher: Path, pictures: Path, tmp_path: Path, capsys: Capture):
        network = teachers.load_folder(digits_teacher)
        teachers.save_folder(reorder_classes(network, range(9, -1, -1)), tmp_path / "other")
        words = ["evaluate", str(tmp_path / "other"), "--data", f"unlabelled:{pictures}", "--device", "cpu"]
        assert main([*words, "--teacher", str(digits_teacher)]) == 0
        text = capsys.readouterr().out
        assert "100.00 %" in text and "agreement" in text and "held-out" not in text
        assert main(words) == 2
        assert "has no labels; name another network with --teacher" in capsys.readouterr().err
