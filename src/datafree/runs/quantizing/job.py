"""Quantise a network, compare it with the controls, and write the folder of the product."""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from datafree.classifier import Classifier, fingerprint
from datafree.export import export_torch
from datafree.export.cards import Measured
from datafree.files import write_json
from datafree.files.writing import atomic_folder
from datafree.quantization.choosing import QuantizationConfig, quantize, split_images
from datafree.quantization.graphs import require_engine, working_folder
from datafree.quantization.results import Quantized
from datafree.quantization.workbench import Workbench
from datafree.randomness import RandomNumbers
from datafree.real.data import RealImages, open_real
from datafree.real.ledger import Ledger
from datafree.runs.hardware import plain_faults, set_threads
from datafree.runs.logger import RunLogger
from datafree.runs.quantizing.card import card
from datafree.runs.quantizing.controls import (
    CHOSEN,
    DYNAMIC,
    FLOAT,
    Row,
    control_files,
    control_rows,
    noise,
    random_pixels,
    rows_of,
)
from datafree.runs.quantizing.images import held_out, resolved, synthesized
from datafree.runs.reporting.methods import method_name
from datafree.runs.reporting.provenance import provenance_of
from datafree.synthesis import Method
from datafree.teachers.folders import save_folder
from datafree.types import Images, InputError, require_at_least, require_seed

FILES = {"onnx": "model.onnx", "torchao": "model.pt2"}
RESULT = "quantization.json"
LIBRARIES = {"onnx": "onnx", "torchao": "pytorch"}
COMPARED = 256
"""images of another method on which networks are compared"""
FEWEST = 16


@dataclass(frozen=True, kw_only=True)
class QuantizationJob:
    """What is quantised, on which images, and with which controls."""

    config: QuantizationConfig
    method: Method
    """how the images are synthesized"""
    network: str
    """how the network was named"""
    images: int = 512
    data: str = ""
    """real images for the control and the accuracy; empty: none"""
    data_root: str = ""
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        require_at_least(FEWEST, images=self.images)
        require_seed(self.seed)


@dataclass(frozen=True)
class Product:
    """What a quantisation has written."""

    quantized: Quantized
    rows: list[Row]
    other: str
    """the method of the images on which agreement was measured"""
    path: Path
    notes: tuple[str, ...]


def quantize_network(
    job: QuantizationJob,
    classifier: Classifier,
    out: Path,
    *,
    console: Console | None = None,
    weights: str = "",
    images: Images | None = None,
) -> Product:
    """Quantise a network, and write a folder: the quantised file, the float network, the table of controls and a model card.

    Args:
        job: The settings.
        classifier: The float network; it is not changed.
        out: The folder, which appears only when it is complete.
        console: Where progress is shown; default: nowhere.
        weights: The weights file that was named with the network.
        images: The images, if they are there already; else the method makes them.

    Raises:
        InputError: If a setting is invalid, a package is missing, or an engine cannot take the network.
    """
    start = time.monotonic()
    set_threads(job.threads)
    require_engine("torchao" if job.config.engine == "torchao" else "onnxruntime")
    ledger = Ledger()
    real = real_images(job, classifier, ledger)
    with ExitStack() as stack:
        stack.enter_context(plain_faults(("--images", "--method.batch-size")))
        logger = stack.enter_context(RunLogger(None, classifier, None, console=console))
        folder = stack.enter_context(working_folder())
        for note in classifier.notes:
            logger.note(note)
        job = replace(job, method=resolved(job.method, classifier, job.images, logger))
        if images is None:
            images = synthesized(job.method, classifier, job.images, job.seed, logger)
        other, pictures = held_out(job.method, classifier, min(COMPARED, job.images), job.seed, logger)
        new = stack.enter_context(atomic_folder(out))
        file = new / FILES[job.config.engine]
        bench = Workbench(classifier, folder) if job.config.engine == "onnx" else None
        quantized = quantize(classifier, images, file, job.config, seed=job.seed, callback=logger, bench=bench)
        sources = calibrations(job, classifier, len(split_images(images)[0]), real)
        if bench is not None:
            files = control_files(bench, quantized, sources) | {CHOSEN: file}
            rows = control_rows(bench, files, pictures, real["test"])
        else:
            rows = torchao_rows(job, quantized, folder, sources, pictures, real["test"])
        save_folder(quantized.classifier, new / "float")
        summary = {
            "network": job.network,
            "network_sha256": fingerprint(classifier.model),
            "method": method_name(job.method),
            "images": len(images),
            "compared_on": {"method": other, "images": len(pictures)},
            "config": asdict(job.config),
            "result": quantized.as_dict(),
            "rows": [asdict(row) for row in rows],
            "ledger": ledger.to_json(),
            "notes": logger.notes,
            "seed": job.seed,
            "threads": job.threads,
            "seconds": round(time.monotonic() - start, 2),
        }
        write_json(new / RESULT, summary)
        (new / "README.md").write_text(readme(job, quantized, rows, summary, classifier, weights), encoding="utf-8")
        notes = tuple(logger.notes)
    return Product(quantized, rows, other, out, notes)


def readme(
    job: QuantizationJob,
    quantized: Quantized,
    rows: list[Row],
    summary: Mapping[str, Any],
    classifier: Classifier,
    weights: str,
) -> str:
    """Return the model card of the product."""
    provenance = provenance_of(
        job.network, classifier, weights=weights, library=LIBRARIES[job.config.engine], relation="quantized"
    )
    found = next(row.accuracy for row in rows if row.name == CHOSEN)
    known = found is not None and not classifier.multi_label  # of several labels, another metric is usual
    measured = (Measured(metric="accuracy", value=found or 0.0, data=job.data),) if known else ()
    header = replace(provenance.header, measured=measured)  # those of the float network are not those of this file
    facts = {
        "name": header.name,
        "licence": header.licence_sentence,
        "method": summary["method"],
        "other": summary["compared_on"]["method"],
        "images": summary["images"],
        "real_images": 0,
    }
    return card(quantized, rows, header.text(), facts, classifier.shape)


def real_images(job: QuantizationJob, classifier: Classifier, ledger: Ledger) -> dict[str, RealImages | None]:
    """Open the real images of the control and of the evaluation; none if the user names none.

    Raises:
        InputError: If the data set is missing, or its classes differ from those of the network.
    """
    opened: dict[str, RealImages | None] = {"train": None, "test": None}
    if not job.data:
        return opened
    inputs: dict[str, Any] = {
        "shape": classifier.shape,
        "preprocessing": classifier.preprocessing,
        "root": job.data_root,
    }
    opened["train"] = open_real(job.data, "train", "calibration", ledger, **inputs)
    test = open_real(job.data, "test", "evaluation", ledger, **inputs)
    opened["test"] = test.matched_with(classifier.classes).select_classes(classifier.classes) if test.labelled else test
    return opened


def calibrations(
    job: QuantizationJob, classifier: Classifier, count: int, real: Mapping[str, RealImages | None]
) -> dict[str, Images]:
    """Return the images of the controls, by name."""
    images = {
        "random pixels": random_pixels(classifier, count, job.seed),
        "noise": noise(classifier, count, job.seed),
    }
    if (train := real["train"]) is not None:
        with RandomNumbers(job.seed):
            images["real images"] = train.select(torch.randperm(len(train))[:count]).images
    return images


def torchao_rows(
    job: QuantizationJob,
    quantized: Quantized,
    folder: Path,
    sources: Mapping[str, Tensor],
    pictures: Tensor,
    test: RealImages | None,
) -> list[Row]:
    """Return the float program, the controls and the result as programs of torch. Of the controls, no latency is measured.

    Args:
        job: The settings.
        quantized: The result.
        folder: A temporary folder.
        sources: What the controls are calibrated on, by name.
        pictures: Images of another method.
        test: Held-out real images with labels; None: no accuracy.
    """
    from datafree.quantization.torchao_engine import load_program, quantize_by_torchao

    classifier, files = quantized.classifier, {FLOAT: folder / "float.pt2"}
    export_torch(classifier, files[FLOAT], images=pictures)
    for name, images in {DYNAMIC: pictures, **sources}.items():
        files[name] = folder / f"{name}.pt2"
        settings = {"dynamic": name == DYNAMIC, "timed": False}
        try:
            quantize_by_torchao(classifier, images, pictures, files[name], job.config, **settings)
        except InputError:  # torchao has no dynamic form of some layers
            if name != DYNAMIC:
                raise
            del files[name]
    files[CHOSEN] = quantized.path
    networks = {name: load_program(path) for name, path in files.items()}
    times = {CHOSEN: quantized.milliseconds.get("quantized"), FLOAT: quantized.milliseconds.get("float")}
    measured = {name: each for name, each in times.items() if each is not None}
    return rows_of(classifier, networks, files, pictures, test, measured)
