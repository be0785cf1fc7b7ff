"""Synthesized images for the calibration of ONNX Runtime's quantizer."""

from pathlib import Path

import numpy as np
import pytest
import torch
import toys

from datafree.classifier import Classifier
from datafree.export import CalibrationReader, calibration_reader
from datafree.methods import METHODS
from datafree.sets import image_set
from datafree.types import Batch, InputError

IMAGES = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_onnx_runtime_takes_it_as_one_of_its_own():
    from onnxruntime.quantization import CalibrationDataReader

    assert isinstance(CalibrationReader(IMAGES), CalibrationDataReader)


def test_batches_come_one_after_the_other_and_again():
    reader = CalibrationReader(IMAGES, "x", batch_size=2)
    assert len(reader) == 3
    for _ in range(2):
        batches = [feed["x"] for feed in iter(reader.get_next, None)]
        assert [len(batch) for batch in batches] == [2, 2, 1] and batches[0].dtype == np.float32
        assert np.array_equal(np.concatenate(batches), IMAGES.numpy())
        assert reader.get_next() is None
        reader.rewind()
    reader.set_range(1, 2)
    assert [len(feed["x"]) for feed in reader] == [2]


def test_images_of_a_method(teacher: Classifier):
    method = toys.tiny(METHODS["noise"])
    one, other = (calibration_reader(method, teacher, images=5, seed=3) for _ in range(2))
    assert len(one) == 5 and torch.equal(one.images, other.images)
    assert not torch.equal(one.images, calibration_reader(method, teacher, images=5, seed=4).images)
    assert one.images.min() >= 0 and one.images.max() <= 1


def test_images_of_a_set_normalised(teacher: Classifier, tmp_path: Path):
    made = image_set.ImageSet(
        batch=Batch(IMAGES, torch.zeros(5, dtype=torch.long), {}),
        classes=toys.CLASSES,
        teacher_sha256="0" * 64,
        made_by="x",
    )
    image_set.write(made, teacher, tmp_path / "set")
    assert torch.equal(calibration_reader(tmp_path / "set", teacher).images, IMAGES)
    found = calibration_reader(str(tmp_path / "set"), teacher, images=3, normalise=True).images
    assert torch.allclose(found, (IMAGES[:3] - 0.4) / 0.3)


def test_a_set_of_another_shape_is_refused(teacher: Classifier, tmp_path: Path):
    made = image_set.ImageSet(
        batch=Batch(IMAGES[:, :, 1:], torch.zeros(5, dtype=torch.long), {}),
        classes=("0", "1", "2", "3"),
        teacher_sha256="0" * 64,
        made_by="x",
    )
    flat = Classifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(56, 4)), shape=(1, 7, 8), classes=4)
    image_set.write(made, flat, tmp_path / "set")
    with pytest.raises(InputError, match=r"has images of shape \(1, 7, 8\), but the teacher takes \(1, 8, 8\)"):
        calibration_reader(tmp_path / "set", teacher)


@pytest.mark.parametrize("settings", [{"images": 0}, {"batch_size": 0}])
def test_impossible_numbers_are_refused(teacher: Classifier, settings: dict[str, int]):
    with pytest.raises(InputError, match="is 0, but it must be at least 1"):
        calibration_reader(IMAGES, teacher, **settings)


@pytest.mark.slow
def test_a_network_is_quantised_with_it(teacher: Classifier, bars: Batch, tmp_path: Path):
    from onnxruntime import InferenceSession
    from onnxruntime.quantization import quantize_static

    from datafree.export import export_onnx

    export_onnx(teacher, tmp_path / "float.onnx")
    reader = calibration_reader(METHODS["procedural"], teacher, images=64, batch_size=8)
    quantize_static(tmp_path / "float.onnx", tmp_path / "int8.onnx", reader)
    (logits,) = InferenceSession(tmp_path / "int8.onnx").run(["logits"], {"images": bars.images.numpy()})
    assert (torch.from_numpy(logits).argmax(1) == teacher(bars.images).argmax(1)).float().mean() > 0.95
