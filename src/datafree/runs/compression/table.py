"""The table of a compression: each step with its size, its latency, and how it compares with the checkpoint."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from datafree.callback import silent
from datafree.classifier import Classifier
from datafree.estimation.estimate import Settings, estimate
from datafree.estimation.result import Estimate
from datafree.evaluation import measure
from datafree.export.comparison import milliseconds
from datafree.export.writing import FILES
from datafree.files import read_json
from datafree.files.validation import from_plain
from datafree.quantization.sessions import OnnxNetwork
from datafree.quantization.workbench import compared, logits_of
from datafree.real.data import RealImages, open_real
from datafree.real.ledger import Ledger
from datafree.runs.compression.settings import CompressionConfig
from datafree.runs.compression.steps import Step
from datafree.runs.estimating.at_end import with_more_time
from datafree.runs.estimating.duration import seconds_within
from datafree.runs.estimating.history import known_accuracy
from datafree.runs.logger import RunLogger
from datafree.runs.planning.budget import parse_time
from datafree.runs.quantizing.controls import accuracies
from datafree.runs.quantizing.images import held_out
from datafree.runs.reading.summary import read_summary
from datafree.synthesis import Method
from datafree.teachers import load
from datafree.types import Images

COMPARED = 256
"""images of another method on which every step is compared with the checkpoint"""
STUDENT = "student"
"""folder of the network in a run folder"""


@dataclass(frozen=True, kw_only=True)
class StepRow:
    """One line of the table."""

    step: str
    parameters: int
    bytes: int
    """size of the weights or of the file"""
    milliseconds: float
    """median time of one image, in torch or in ONNX Runtime"""
    engine: str
    agreement: float
    """with the checkpoint, on images of another method than that of the pool"""
    estimate: float | None
    """estimated retention of the checkpoint's accuracy; None with labelled real images, or where it would be wrong"""
    accuracy: float | None
    """on held-out real images; None without any"""


def estimate_seconds(config: CompressionConfig) -> float:
    """Return the time for the pools of the estimates of a compression. The first one makes them; they are kept on disk."""
    return seconds_within(parse_time(config.budget))


def estimated_by_run(folder: Path) -> float | None:
    """Return the retention that the run of a step has estimated at its end; None if it has not.

    Raises:
        InputError: If its summary is damaged.
    """
    estimate = read_summary(folder).get("estimate")
    return estimate["retention"] if estimate else None


def read_rows(file: Path) -> list[StepRow]:
    """Return the table that was written, or nothing if there is none.

    Raises:
        InputError: If the file is damaged.
    """
    if not file.is_file():
        return []
    content = from_plain(dict[str, Any], read_json(file), str(file))
    return list(from_plain(tuple[StepRow, ...], content.get("rows"), f"{file}: rows"))


@dataclass
class Table:
    """What all rows share.

    Args:
        config: The settings of the compression.
        checkpoint: The network that is compressed.
        method: How the images of the pool were synthesized.
        console: Where the progress of estimates is shown.
    """

    config: CompressionConfig
    checkpoint: Classifier
    method: Method
    console: Console

    @cached_property
    def pictures(self) -> Images:
        """Images of another method."""
        return held_out(self.method, self.checkpoint, COMPARED, self.config.seed, silent)[1]

    @cached_property
    def real(self) -> RealImages | None:
        """Held-out real images with labels, if the user names any."""
        config, checkpoint = self.config, self.checkpoint
        if not config.data:
            return None
        inputs: dict[str, Any] = {"shape": checkpoint.shape, "preprocessing": checkpoint.preprocessing}
        real = open_real(config.data, "test", "evaluation", Ledger(), root=config.data_root, **inputs)
        if not real.labelled:
            return None
        return real.matched_with(checkpoint.classes).select_classes(checkpoint.classes)

    def rows(self, steps: Sequence[Step], folders: Sequence[Path]) -> list[StepRow]:
        """Return the row of the checkpoint and of each step: all are compared with the checkpoint on the same images."""
        rows, last, synthetic = [self.in_torch("checkpoint", self.checkpoint, None)], self.checkpoint, False
        for step, folder in zip(steps, folders, strict=True):
            synthetic |= step.kind == "distill"  # from here on, all weights come from synthesized images
            if step.trains:
                last = load(str(folder / STUDENT))
                rows.append(self.in_torch(str(step), last, estimated_by_run(folder)))
            elif (file := folder / FILES["onnx"]).is_file():
                found = self.estimated(load(str(file))) if synthetic else None
                rows.append(self.in_onnx(str(step), file, last, found))
            else:
                rows.append(self.in_torch(str(step), last, rows[-1].estimate))
        return rows

    def estimated(self, student: Classifier) -> float | None:
        """Return the estimated retention of a network whose weights come from synthesized images alone."""
        if self.real is not None:
            return None
        settings = Settings(seconds=estimate_seconds(self.config))
        accuracy = known_accuracy(self.config.checkpoint)
        with RunLogger(None, self.checkpoint, student, console=self.console) as logger:

            def found() -> Estimate:
                return estimate(
                    student,
                    self.checkpoint,
                    method=self.method,
                    accuracy=accuracy,
                    settings=settings,
                    callback=logger,
                )

            result = with_more_time(found)
            if result.retention is None:
                logger.note(result.sentence)
        return result.retention

    def in_torch(self, name: str, model: Classifier, retention: float | None) -> StepRow:
        """Return the row of a network in torch."""
        cost = measure(model)

        def engine(images: Tensor) -> Tensor:
            return logits_of(model, images)

        return StepRow(
            step=name,
            parameters=cost.parameters,
            bytes=cost.bytes,
            milliseconds=cost.milliseconds,
            engine="torch",
            agreement=self.agreement(engine),
            estimate=retention,
            accuracy=self.accuracy(engine),
        )

    def in_onnx(self, name: str, file: Path, last: Classifier, retention: float | None) -> StepRow:
        """Return the row of an ONNX file."""
        engine = OnnxNetwork(file)
        return StepRow(
            step=name,
            parameters=sum(parameter.numel() for parameter in last.parameters()),
            bytes=file.stat().st_size,
            milliseconds=milliseconds({"onnx": engine}, self.pictures[:1])["onnx"],
            engine="ONNX Runtime",
            agreement=self.agreement(engine),
            estimate=retention,
            accuracy=self.accuracy(engine),
        )

    def agreement(self, engine: Callable[[Tensor], Tensor]) -> float:
        """Return the fraction of pictures on which a network predicts what the checkpoint predicts."""
        reference = logits_of(self.checkpoint, self.pictures)
        return compared(self.checkpoint, reference, engine(self.pictures)).agreement

    def accuracy(self, engine: Callable[[Tensor], Tensor]) -> float | None:
        """Return the accuracy on held-out real images; None if none with labels are named."""
        return None if self.real is None else accuracies(self.checkpoint, {"": engine}, self.real)[""]
