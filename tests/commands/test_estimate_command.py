"""`datafree estimate`: histories from run folders, refusals, and what is printed."""

from pathlib import Path

import pytest
import toys

from datafree.commands.estimates import EstimateOptions, history_for, of_labels, student_folder
from datafree.commands.main import main
from datafree.ensemble import Ensemble
from datafree.runs.estimating.history import UNKNOWN
from datafree.types import InputError

Capture = pytest.CaptureFixture[str]


def test_a_student_of_unknown_origin_is_not_estimated(digits_teacher: Path, capsys: Capture):
    folder = f"local-dir:{digits_teacher}"
    assert main(["estimate", "--student", folder, "--teacher", folder, "--device", "cpu"]) == 0
    assert f"Retention was not estimated: {UNKNOWN}; name their methods with --method." in capsys.readouterr().out


def test_without_time_there_are_too_few_images(digits_teacher: Path, capsys: Capture):
    folder = f"local-dir:{digits_teacher}"
    words = ["--method", "noise", "--seconds", "0", "--cache", "off", "--device", "cpu"]
    assert main(["estimate", "--student", folder, "--teacher", folder, *words]) == 0
    assert "0 pool images of 0 families are too few" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "fst"], "method 'fst' is unknown; did you mean fast?"),
        (["--data", "digits"], "data is digits; `datafree evaluate` uses labels, and here it is unlabelled:PATH"),
        (["--teacher-accuracy", "98"], "teacher-accuracy"),
        (["--images", "0"], "images"),
    ],
)
def test_wrong_options_are_one_sentence(words: list[str], message: str, digits_teacher: Path, capsys: Capture):
    folder = f"local-dir:{digits_teacher}"
    assert main(["estimate", "--student", folder, "--teacher", folder, "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err


class TestNetworks:
    def test_a_run_folder_stands_for_its_student(self, tmp_path: Path):
        (tmp_path / "student").mkdir()
        assert student_folder(str(tmp_path)) == f"local-dir:{tmp_path / 'student'}"
        assert student_folder(f"local-dir:{tmp_path}") == f"local-dir:{tmp_path / 'student'}"
        assert student_folder("resnet18") == "resnet18"

    def test_a_teacher_is_asked_for_the_classes_of_its_student(self, teacher):
        student = toys.conv_net()
        assert of_labels(teacher, student) is teacher
        student.classes = ("right", "top")
        asked = of_labels(teacher, student)
        assert isinstance(asked, Ensemble)
        assert asked.classes == ("right", "top")


class TestHistory:
    def options(self, **changes: str) -> EstimateOptions:
        return EstimateOptions(**{"student": "resnet18", "teacher": "resnet18", **changes})

    def test_a_method_that_is_named_is_believed(self):
        found = history_for(self.options(method="fast"))
        assert (found.reason, found.method is not None) == ("", True)

    def test_an_unknown_method_is_refused(self):
        with pytest.raises(InputError, match="is unknown"):
            history_for(self.options(method="fast,nothing"))
