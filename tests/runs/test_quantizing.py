"""A quantisation from a network to its folder, and the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.procedural import ProceduralConfig
from datafree.quantization import QuantizationConfig
from datafree.quantization.results import Measured, Quantized
from datafree.quantization.saturation import Saturation
from datafree.quantization.sessions import OnnxNetwork
from datafree.runs.quantizing.auto import CalibrationConfig, for_large_images
from datafree.runs.quantizing.card import portability
from datafree.runs.quantizing.controls import CHOSEN
from datafree.runs.quantizing.images import held_out, other_method, resolved, synthesized
from datafree.runs.quantizing.job import QuantizationJob, quantize_network
from datafree.runs.reporting.methods import method_name
from datafree.sets.saved import SavedConfig
from datafree.synthesis.mixture import Mixture, Part
from datafree.teachers.folders import load_folder
from datafree.types import InputError


def test_the_images_of_the_comparison_are_of_another_method():
    assert other_method(METHODS["fast"])[0] == "procedural"
    name, other = other_method(METHODS["procedural"])
    assert name == "deep-dream" and not isinstance(other, ProceduralConfig)
    parts = tuple(Part(name=name, method=METHODS[name], share=0.5) for name in ("noise", "procedural"))
    assert other_method(Mixture(parts=parts))[0] == "deep-dream"


def test_images_are_drawn_again_with_the_same_seed(teacher):
    noise = METHODS["noise"]
    first, again = (synthesized(noise, teacher, 32, 3, silent) for _ in range(2))
    assert (first == again).all() and len(first) == 32
    name, pictures = held_out(noise, teacher, 16, 3, silent)
    assert name == "procedural" and len(pictures) == 16


def test_by_default_some_of_the_drawn_pictures_are_refined(teacher):
    chosen, reason = CalibrationConfig(seconds=600).chosen(teacher, 16)
    assert [(part.name, part.share) for part in chosen.parts] == [("procedural", 0.5), ("refine", 0.5)]
    assert reason == "8 of them refined with the network"
    assert method_name(chosen) == "procedural:0.5,refine:0.5"
    images = synthesized(chosen, teacher, 16, 0, silent)
    assert len(images) == 16 and images.isfinite().all()


def test_large_images_are_refined_at_half_their_size_first():
    preset = METHODS["refine"]
    large = Classifier(nn.Identity(), shape=(3, 128, 160), classes=2)
    assert for_large_images(preset, large) == replace(preset, steps=(60, 20))
    relative = for_large_images(replace(preset, statistics_norm="relative"), large)
    assert isinstance(relative, DeepInversionConfig)
    assert (relative.steps, relative.layers, relative.jitter) == ((60, 20), (5.0, 1.0), 16)
    small = Classifier(nn.Identity(), shape=(3, 127, 160), classes=2)
    assert for_large_images(preset, small) == preset
    assert for_large_images(METHODS["noise"], large) == METHODS["noise"]


def test_noise_takes_the_place_of_refined_pictures_that_are_too_slow(teacher):
    chosen, reason = CalibrationConfig(seconds=0).chosen(teacher, 64)
    assert [part.name for part in chosen.parts] == ["procedural", "noise"]
    assert reason == "half of them replaced by noise, since refining 8 would take more than 0 s"
    forward_only = Classifier(lambda images: teacher(images).detach(), shape=teacher.shape, classes=teacher.classes)
    chosen, reason = CalibrationConfig().chosen(forward_only, 64)
    assert [part.name for part in chosen.parts] == ["procedural", "noise"] and "has no gradients" in reason


def test_the_choice_of_images_is_said(teacher):
    notes = Notes()
    assert resolved(METHODS["fast"], teacher, 64, notes) == METHODS["fast"] and not notes.texts
    assert isinstance(resolved(CalibrationConfig(seconds=0), teacher, 64, notes), Mixture)
    assert notes.texts[0].startswith("images: 64 procedural pictures, half of them replaced by noise")


class Notes(Callback):
    """Keeps the notes of a job."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)


def quantized(classifier, **changes) -> Quantized:
    values = {
        "path": Path("model.onnx"),
        "engine": "onnx",
        "bits": "w8a8",
        "form": "signed",
        "observer": "minmax",
        "layers": 2,
        "in_float": (),
        "measured": Measured(agreement=1.0, divergence=0.0, images=8),
        "before_recovery": None,
        "bytes": 1,
        "float_bytes": 4,
        "milliseconds": {},
        "instruction_set": "AVX512-VNNI",
        "saturation": None,
        "kernel_difference": 0.01,
        "kernel_agreement": 1.0,
        "classifier": classifier,
    }
    return Quantized(**(values | changes))


def test_the_card_says_whether_the_file_holds_on_other_processors(teacher):
    saturates = Saturation(possible=3, pairs=9, saturated=2, images=8, logit_difference=4.03, agreement=0.9)
    text = portability(quantized(teacher, saturation=saturates))
    assert "processor with AVX512-VNNI" in text and "does not hold" in text and "4.03" in text
    assert "means the same on other processors" in portability(quantized(teacher, form="reduced", saturation=saturates))
    assert "means the same on other processors" in portability(quantized(teacher))


@pytest.mark.slow
def test_a_product_has_a_file_a_float_folder_a_card_and_the_controls(digits_teacher: Path, tmp_path: Path):
    classifier = load_folder(digits_teacher).eval()
    job = QuantizationJob(
        config=QuantizationConfig(recovery_steps=0, float_layers=0),
        method=METHODS["procedural"],
        network=str(digits_teacher),
        images=64,
        data="digits",
    )
    product = quantize_network(job, classifier, tmp_path / "out")
    names = [row.name for row in product.rows]
    assert names[0] == "float" and names[-1] == "synthesized, this file"
    assert {"nothing (dynamic)", "random pixels", "noise", "real images"} < set(names)
    by_name = {row.name: row for row in product.rows}
    assert by_name["float"].agreement == 1 and all(row.accuracy is not None for row in product.rows)
    assert by_name["synthesized, this file"].bytes < by_name["float"].bytes
    assert by_name["synthesized, this file"].accuracy >= by_name["float"].accuracy - 0.03  # type: ignore[operator]
    assert load_folder(tmp_path / "out" / "float").classes == classifier.classes
    summary = json.loads((tmp_path / "out" / "quantization.json").read_text())
    assert summary["result"]["form"] == product.quantized.form and len(summary["rows"]) == len(names)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model_relation" not in card or "quantized" in card
    assert "means the same on other processors" in card and "| random pixels |" in card
    assert OnnxNetwork(tmp_path / "out" / "model.onnx")(classifier.probe_images(2)).shape == (2, 10)


@pytest.mark.slow
def test_a_program_of_torchao_has_the_same_controls(digits_teacher: Path, tmp_path: Path):
    classifier = load_folder(digits_teacher).eval()
    job = QuantizationJob(
        config=QuantizationConfig(engine="torchao"),
        method=METHODS["procedural"],
        network=str(digits_teacher),
        images=64,
        data="digits",
    )
    product = quantize_network(job, classifier, tmp_path / "out")
    by_name = {row.name: row for row in product.rows}
    assert list(by_name) == ["float", "nothing (dynamic)", "random pixels", "noise", "real images", CHOSEN]
    assert by_name["float"].agreement == 1
    # The graph of so small a network is larger than its weights, which are integers.
    program = torch.export.load(tmp_path / "out" / "model.pt2")
    tensors = [*program.state_dict.values(), *program.constants.values()]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors if isinstance(tensor, torch.Tensor))
    assert stored < sum(4 * parameter.numel() for parameter in classifier.parameters()) / 2
    assert by_name[CHOSEN].accuracy >= by_name["float"].accuracy - 0.03  # type: ignore[operator]
    assert by_name[CHOSEN].milliseconds and by_name["float"].milliseconds and by_name["noise"].milliseconds is None
    assert "torch.compile" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "w1a8"], "no engine computes weights of fewer than 4 bits"),
        (["--images", "4"], "images is 4, but it must be at least 16"),
        (["--engine", "torchao", "--bits", "w4a8"], "use --engine onnx"),
        (["--observer", "median"], "invalid value 'median' for --observer"),
        (["--form", "ternary"], "invalid value 'ternary' for --form"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    words: list[str], message: str, digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["quantize", str(digits_teacher), "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_an_output_that_exists_is_refused(digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["quantize", str(digits_teacher), "--out", str(tmp_path)]) == 2
    assert "already exists; give another --out" in capsys.readouterr().err


def test_a_missing_package_is_named(
    digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    assert main(["quantize", str(digits_teacher), "--out", str(tmp_path / "out")]) == 2
    assert "pip install 'datafree[quantize]'" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_saved_set_calibrates(teacher, tmp_path: Path):
    with pytest.raises(InputError, match="the folder of the image set is missing"):
        synthesized(SavedConfig(), teacher, 16, 0, silent)
