"""Calibration: the range of each activation, found by an observer of ONNX Runtime on images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datafree.quantization.graphs import silenced
from datafree.quantization.schemes import Observer
from datafree.types import Images

VALUES = 2**25
"""values of all activations that a histogram holds at once, about: 32 images of LeNet-5 and 2 of a network for 224 pixels"""
PERCENTILE = 99.99
"""share of the values inside the range of the observer `percentile`, in percent"""
BATCH = 16
"""images that are run at once"""


class Reader:
    """What ONNX Runtime calls a calibration data reader: an iterator over the inputs of a network.

    Args:
        name: Name of the input.
        images: Pixels in [0, 1].
        batch: Images that are run at once.
    """

    def __init__(self, name: str, images: Images, batch: int = BATCH) -> None:
        self.name, self.batches = name, iter(images.split(batch))

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs; None after the last ones."""
        batch = next(self.batches, None)
        return None if batch is None else {self.name: batch.detach().cpu().contiguous().numpy()}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self

    def __next__(self) -> dict[str, Any]:
        batch = self.get_next()
        if batch is None:
            raise StopIteration
        return batch


def calibrate(graph: Path, images: Images, observer: Observer, ranges: Path, *, batch: int = BATCH) -> None:
    """Write the range of each activation on images to a file, from which ONNX Runtime quantises.

    Args:
        graph: The prepared float graph.
        images: Pixels in [0, 1].
        observer: How ranges are found.
        ranges: The file to write.
        batch: Images that are run at once.
    """
    from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator, save_tensors_data

    method = calibration_method(observer)
    options = {"percentile": PERCENTILE} if observer == "percentile" else {}
    with silenced():
        calibrator = create_calibrator(
            graph,
            operators(),
            augmented_model_path=str(ranges.with_suffix(".augmented.onnx")),
            calibrate_method=method,
            extra_options=options,
        )
        session: Any = calibrator.infer_session
        name = session.get_inputs()[0].name
        for part in images.split(batch):  # a histogram keeps all activations of one call in memory
            reader: Any = Reader(name, part, batch)
            assert isinstance(reader, CalibrationDataReader)
            calibrator.collect_data(reader)
        save_tensors_data(calibrator.compute_data(), ranges)


def calibration_method(observer: Observer) -> Any:
    """Return the name that ONNX Runtime has for an observer."""
    from onnxruntime.quantization import CalibrationMethod

    return {
        "minmax": CalibrationMethod.MinMax,
        "percentile": CalibrationMethod.Percentile,
        "entropy": CalibrationMethod.Entropy,
    }[observer]


def operators() -> list[str]:
    """Return the operators that ONNX Runtime quantises."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})
