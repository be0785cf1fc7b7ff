"""`datafree estimate`: histories from run folders, refusals, and what is printed."""

import json
from pathlib import Path

import pytest
import torch
import toys

from datafree.classifier import fingerprint
from datafree.commands.estimates import EstimateOptions, history_for, of_labels, student_folder
from datafree.commands.main import main
from datafree.ensemble import Ensemble
from datafree.estimation.families import families_of
from datafree.files import read_json, write_json
from datafree.runs.estimating.history import UNKNOWN
from datafree.runs.estimating.quantized import quantized_history
from datafree.runs.experiment import run
from datafree.runs.quantizing.controls import CHOSEN, FLOAT
from datafree.runs.quantizing.job import RESULT
from datafree.teachers.folders import load_folder
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
        assert of_labels([teacher], student) is teacher
        student.classes = ("right", "top")
        asked = of_labels([teacher], student)
        assert isinstance(asked, Ensemble)
        assert asked.classes == ("right", "top")

    def test_several_teachers_are_one_and_must_know_all_classes(self, teacher):
        other, student = toys.conv_net(), toys.conv_net()
        other.classes = ("up", "down", "other")
        student.classes = (*teacher.classes, *other.classes)
        asked = of_labels([teacher, other], student)
        assert isinstance(asked, Ensemble) and asked.classes == student.classes
        student.classes = (*student.classes[:-1], "unknown")
        with pytest.raises(InputError, match="unknown"):
            of_labels([teacher, other], student)


@pytest.fixture
def quantized(digits_teacher: Path, tmp_path: Path) -> Path:
    """What `datafree quantize` leaves, without its file."""
    folder = tmp_path / "quantized"
    folder.mkdir()
    digest = fingerprint(load_folder(digits_teacher).model)
    summary = {"network": str(digits_teacher), "network_sha256": digest, "method": "procedural:0.5,refine:0.5"}
    write_json(folder / RESULT, summary)
    return folder


class TestQuantized:
    def test_the_folder_stands_for_its_file(self, quantized: Path):
        with pytest.raises(
            InputError, match="program of torchao, which cannot be estimated; quantise the network with"
        ):
            student_folder(str(quantized))
        (quantized / "model.onnx").touch()
        assert student_folder(str(quantized)) == student_folder(f"local-dir:{quantized}") == f"{quantized}/model.onnx"

    def test_only_its_calibration_counts_against_its_own_float_network(self, quantized: Path, digits_teacher: Path):
        found = quantized_history(quantized, load_folder(digits_teacher))
        assert found.reason == "" and families_of(found.method) == {"procedural", "deep-inversion"}

    def test_against_another_teacher_its_float_network_counts_too(
        self, quantized: Path, digits_teacher: Path, tmp_path: Path
    ):
        other = load_folder(digits_teacher)
        with torch.no_grad():
            next(other.parameters()).add_(1)
        found = quantized_history(quantized, other)
        assert found.reason == f"{UNKNOWN}, before it was quantised; name their methods with --method"
        made = run(toys.experiment(digits_teacher, method=toys.TINY["zskd"]), tmp_path / "run")
        summary = read_json(quantized / RESULT)
        write_json(quantized / RESULT, summary | {"network": str(made.path / "student")})
        found = quantized_history(quantized, other)
        assert found.reason == "" and families_of(found.method) == {"procedural", "deep-inversion", "zskd"}
        write_json(quantized / RESULT, summary | {"method": "saved"})
        assert quantized_history(quantized, other).reason.startswith(UNKNOWN)

    @pytest.mark.parametrize("edit", [{"method": 3}, {"network_sha256": None}])
    def test_a_damaged_file_is_refused(self, quantized: Path, teacher, edit: dict[str, object]):
        write_json(quantized / RESULT, read_json(quantized / RESULT) | edit)
        with pytest.raises(InputError, match=next(iter(edit))):
            quantized_history(quantized, teacher)

    @pytest.mark.slow
    @pytest.mark.parametrize("bits", ["w8a8", "w4a8"])
    def test_the_estimate_is_near_the_measured_truth(
        self, bits: str, digits_teacher: Path, tmp_path: Path, capsys: Capture
    ):
        out = tmp_path / "out"
        words = [
            "--bits",
            bits,
            "--method",
            "procedural",
            "--images",
            "128",
            "--observer",
            "minmax",
            "--recovery-steps",
            "0",
        ]
        assert main(["quantize", str(digits_teacher), "--out", str(out), "--data", "digits", *words]) == 0
        rows = {row["name"]: row for row in read_json(out / RESULT)["rows"]}
        truth = rows[CHOSEN]["accuracy"] / rows[FLOAT]["accuracy"]
        capsys.readouterr()
        assert main(["estimate", "--student", str(out), "--teacher", str(digits_teacher), "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        found = next(line for line in lines if "retention" in line)
        assert found["retention"] == pytest.approx(truth, abs=0.05)


class TestHistory:
    def options(self, **changes: str) -> EstimateOptions:
        return EstimateOptions(**{"student": "resnet18", "teacher": ("resnet18",), **changes})  # type: ignore[arg-type]

    def test_a_method_that_is_named_is_believed(self, teacher):
        found = history_for(self.options(method="fast"), teacher)
        assert (found.reason, found.method is not None) == ("", True)

    def test_an_unknown_method_is_refused(self, teacher):
        with pytest.raises(InputError, match="is unknown"):
            history_for(self.options(method="fast,nothing"), teacher)
