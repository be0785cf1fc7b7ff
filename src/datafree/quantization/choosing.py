"""Quantising a network: the observer, the form of the weights and the layers in float are chosen on images; then recovery."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.export.comparison import milliseconds
from datafree.files.writing import atomic_file
from datafree.quantization.graphs import require_engine, working_folder
from datafree.quantization.recovery import recover
from datafree.quantization.results import Measured, Quantized
from datafree.quantization.saturation import Saturation, saturation
from datafree.quantization.schemes import Form, Observer, Scheme, parse_bits
from datafree.quantization.sensitivity import layers_in_float
from datafree.quantization.sessions import OnnxNetwork, instruction_set
from datafree.quantization.workbench import Workbench, logits_of
from datafree.types import Images, InputError, require_at_least, require_choices

MOST_IMAGES = 256
"""images for calibration, and as many others for the choices"""
FEWEST_IMAGES = 8
SATURATION_PIXELS, FEWEST_SATURATED = 2**18, 2
"""values of the images on which saturation is computed, and the fewest images"""

SLOWER = 1.2
"""latency relative to float from which it is said that nothing is gained"""


@dataclass(frozen=True, kw_only=True)
class QuantizationConfig:
    """How a network is quantised."""

    bits: str = "w8a8"
    """bits of weights and activations: w8a8, w4a8, or w8 for weights only"""
    engine: Literal["onnx", "torchao"] = "onnx"
    """onnx: a QDQ file by ONNX Runtime, for devices; torchao: a PT2E program for torch on x86"""
    observer: Literal["auto", "minmax", "percentile", "entropy"] = "auto"
    """how ranges of activations are found; auto: the one with the smallest divergence on the images"""
    form: Literal["auto", "signed", "paired", "reduced", "unsigned"] = "auto"
    """how 8-bit weights are stored; auto: signed if no sum can saturate on a processor without integer dot products, else
    paired, whose scales are as fine as possible without it; reduced: 7 bits; unsigned: slower on x86"""
    float_layers: int = 2
    """most layers that stay in float, where more than --tolerance of the predictions change"""
    recovery_steps: int = 300
    """training steps under fake quantisation, where more than --tolerance of the predictions change; 0: none"""
    recovery_lr: float = 0.0
    """peak learning rate of this training; 0: 1e-4, and 1e-3 for 4-bit weights, which have to move further"""
    tolerance: float = 0.5
    """predictions that may change, in percent"""

    def __post_init__(self) -> None:
        parse_bits(self.bits)
        require_choices(self)
        require_at_least(
            0,
            float_layers=self.float_layers,
            recovery_steps=self.recovery_steps,
            recovery_lr=self.recovery_lr,
            tolerance=self.tolerance,
        )
        if self.engine == "torchao" and self.bits != "w8a8":
            raise InputError(f"the engine torchao has no {self.bits} for convolutions on x86; use --engine onnx")
        if self.engine == "torchao" and self.form in ("paired", "unsigned"):
            raise InputError(f"the engine torchao has no {self.form} weights; use --form signed or --form reduced")

    @property
    def lr(self) -> float:
        """The peak learning rate of the recovery in use."""
        return self.recovery_lr or (1e-3 if self.bits == "w4a8" else 1e-4)

    @property
    def forms(self) -> tuple[Form, ...]:
        """The forms of weights to choose from."""
        if self.bits == "w4a8":
            return ("four-bit",)
        if self.form != "auto":
            return (self.form,)
        return ("signed",) if self.bits == "w8" else ("signed", "paired")

    @property
    def observers(self) -> tuple[Observer, ...]:
        """The observers to choose from."""
        if self.bits == "w8":
            return ("minmax",)
        return get_args(Observer) if self.observer == "auto" else (self.observer,)


@dataclass(frozen=True)
class Choice:
    """A way to quantise a network, and how it compares with the float network."""

    scheme: Scheme
    observer: Observer
    measured: Measured
    in_float: tuple[str, ...] = ()
    saturation: Saturation | None = None
    notes: tuple[str, ...] = ()


def split_images(images: Images) -> tuple[Tensor, Tensor]:
    """Return the images for calibration and those for the choices, at random places.

    Raises:
        InputError: If there are too few.
    """
    if len(images) < FEWEST_IMAGES:
        raise InputError(f"{len(images)} images are too few for calibration; give {FEWEST_IMAGES} or more")
    half = min(len(images) // 2, MOST_IMAGES)
    return images[:half], images[half : 2 * half]


def quantize(
    classifier: Classifier,
    images: Images,
    path: str | Path,
    config: QuantizationConfig | None = None,
    *,
    seed: int = 0,
    callback: Callback = silent,
    bench: Workbench | None = None,
) -> Quantized:
    """Quantise a network and write it as a file. No real image is needed.

    Half of the images calibrate, the other half decides. If more predictions change than the tolerance, sensitive layers stay
    in float; if that is not enough, the float weights are trained under fake quantisation and quantised again.

    Args:
        classifier: The float network; it is not changed.
        images: Pixels in [0, 1] of shape `(n, c, h, w)`, 8 or more, synthesized by any method, in random order.
        path: The file to write: `.onnx`, or `.pt2` with the engine torchao.
        config: The settings.
        seed: Random seed of the recovery.
        callback: Shows progress, and what was chosen.
        bench: The files of the float network, if they were made before.

    Raises:
        InputError: If a package is missing, an engine cannot take a layer, or there are too few images.
    """
    config, path = config or QuantizationConfig(), Path(path)
    images = images.detach().cpu()
    calibration, deciding = split_images(images)
    if config.engine == "torchao":
        from datafree.quantization.torchao_engine import quantize_by_torchao

        return quantize_by_torchao(classifier, calibration, deciding, path, config)
    require_engine()
    with working_folder() as folder:
        bench = bench or Workbench(classifier, folder / "float")
        choice, before = choose(bench, calibration, deciding, config), None
        if config.recovery_steps and choice.measured.loss > config.tolerance:
            trained = recover(
                classifier,
                images,
                choice.scheme,
                steps=config.recovery_steps,
                lr=config.lr,
                in_float=frozenset(choice.in_float),
                seed=seed,
                callback=callback,
            )
            recovered = Workbench(classifier, folder / "recovered", trained)
            after = again(recovered, choice, calibration, deciding)
            bench, choice, before = better(bench, choice, recovered, after, config.recovery_steps)
        file = rebuilt(bench, choice, calibration)
        with atomic_file(path) as new:
            new.write_bytes(file.read_bytes())
        result = described(bench, choice, path, before, deciding)
    for note in result.notes:
        callback.note(note)
    return result


def better(
    bench: Workbench, choice: Choice, recovered: Workbench, after: Choice, steps: int
) -> tuple[Workbench, Choice, Measured | None]:
    """Return the weights after the recovery if more predictions are kept, else those before; and the comparison before it."""
    improved = after.measured.agreement > choice.measured.agreement
    note = (
        f"recovery: {steps:,} steps under fake quantisation changed the agreement from "
        f"{100 * choice.measured.agreement:.2f} % to {100 * after.measured.agreement:.2f} %"
    )
    if improved:
        return recovered, replace(after, notes=(*choice.notes, note)), choice.measured
    return bench, replace(choice, notes=(*choice.notes, f"{note}; the weights before it are kept")), None


def choose(bench: Workbench, calibration: Images, deciding: Images, config: QuantizationConfig) -> Choice:
    """Choose the observer, then the form of the weights, then the layers in float."""
    reference = logits_of(bench.classifier, deciding)
    bits = parse_bits(config.bits)

    def tried(form: Form, observer: Observer, in_float: Sequence[str] = ()) -> Measured:
        ranges = bench.ranges("synthesized", calibration, observer)
        path = bench.build(Scheme(bits=bits, form=form), ranges, observer, in_float, "trial")
        return bench.measure(path, deciding, reference)

    notes: list[str] = []
    first = config.forms[-1]
    by_observer = {observer: tried(first, observer) for observer in config.observers}
    observer: Observer = min(config.observers, key=lambda name: by_observer[name].divergence)
    if len(by_observer) > 1:
        listed = ", ".join(f"{name} {measured.divergence:.4f}" for name, measured in by_observer.items())
        notes.append(f"observer: {observer}, with the smallest divergence ({listed})")
    form, saturates, reason = choose_form(bench, config, calibration, observer)
    notes += [reason] if reason else []
    whole = by_observer[observer] if form == first else tried(form, observer)
    names = [layer.name for layer in bench.layers]
    chosen, measured, found = layers_in_float(
        names,
        whole,
        lambda in_float: tried(form, observer, in_float),
        most=config.float_layers,
        tolerance=config.tolerance,
    )
    if found:
        kept = f"{' and '.join(chosen)} in float: " if chosen else "no layer in float helps: "
        notes.append(
            f"layers: {kept}agreement {100 * whole.agreement:.2f} % with all quantised, {100 * measured.agreement:.2f} % so"
        )
    return Choice(Scheme(bits=bits, form=form), observer, measured, chosen, saturates, tuple(notes))


def choose_form(
    bench: Workbench, config: QuantizationConfig, calibration: Images, observer: Observer
) -> tuple[Form, Saturation | None, str]:
    """Choose how 8-bit weights are stored, so that the file means the same on every processor.

    Returns:
        The form, what signed weights would do on a processor without integer dot products, and the reason in one sentence.
    """
    forms = config.forms
    if forms[0] != "signed" or config.bits == "w8":
        return forms[0], None, ""
    ranges = bench.ranges("synthesized", calibration, observer)
    path = bench.build(Scheme(form="signed"), ranges, observer, (), "signed")
    count = max(FEWEST_SATURATED, SATURATION_PIXELS // calibration[0].numel())
    found = saturation(path, bench.classifier, calibration[:count])
    if not found.possible:
        return "signed", found, "weights: signed, since no sum of two products can be too large for 16 bits"
    effect = (
        f"signed weights with 8 bits would change logits by up to {found.logit_difference:.3g} on processors without integer "
        "dot products"
        if found.changes
        else "sums of signed weights with 8 bits could saturate on processors without integer dot products"
    )
    if len(forms) == 1:
        return "signed", found, f"weights: signed, as asked; {effect}"
    return "paired", found, f"weights: signed, as fine as possible without large sums, since {effect}"


def again(bench: Workbench, choice: Choice, calibration: Images, deciding: Images) -> Choice:
    """Quantise other weights in the same way, and compare with the float network."""
    measured = bench.measure(rebuilt(bench, choice, calibration), deciding, logits_of(bench.classifier, deciding))
    return replace(choice, measured=measured)


def rebuilt(bench: Workbench, choice: Choice, calibration: Images) -> Path:
    """Write the graph of a choice, and return its path."""
    ranges = bench.ranges("synthesized", calibration, choice.observer)
    return bench.build(choice.scheme, ranges, choice.observer, choice.in_float, "chosen")


def described(bench: Workbench, choice: Choice, path: Path, before: Measured | None, deciding: Images) -> Quantized:
    """Compare the kernels of this processor with the graph, measure latency, and return what is known about the file."""
    fast = OnnxNetwork(path, batch=bench.batch)
    plain = OnnxNetwork(path, optimized=False, batch=bench.batch)
    part = deciding[: max(FEWEST_SATURATED, SATURATION_PIXELS // deciding[0].numel())]
    ours, theirs = fast(part), plain(part)
    same = bench.classifier.predict(ours) == bench.classifier.predict(theirs)
    floating = OnnxNetwork(bench.float_file, batch=bench.batch)
    times = milliseconds({"float": floating, "quantized": fast}, deciding[:1])
    sizes = {"float": bench.float_file.stat().st_size, "quantized": path.stat().st_size}
    return Quantized(
        path=path,
        engine="onnx",
        bits=choice.scheme.bits,
        form=choice.scheme.form,
        observer=choice.observer if choice.scheme.quantises_activations else "",
        layers=len(bench.layers),
        in_float=choice.in_float,
        measured=choice.measured,
        before_recovery=before,
        bytes=sizes["quantized"],
        float_bytes=sizes["float"],
        milliseconds=times,
        instruction_set=instruction_set(),
        saturation=choice.saturation,
        kernel_difference=float((ours - theirs).abs().max()),
        kernel_agreement=float(same.float().mean()),
        classifier=bench.weights,
        notes=(*choice.notes, *without_gain(sizes, times)),
    )


def without_gain(sizes: Mapping[str, int], times: Mapping[str, float]) -> tuple[str, ...]:
    """Return what did not become better, in sentences: the size, and the time of an image on this machine.

    Args:
        sizes: Bytes of the files `float` and `quantized`.
        times: Milliseconds of both.
    """
    larger = sizes["quantized"] >= sizes["float"]
    slower = times.get("quantized", 0.0) > SLOWER * times.get("float", math.inf)
    return (
        *(["size: not smaller than in float, since the graph is larger than the weights"] if larger else []),
        *(
            [f"latency: {times['quantized'] / times['float']:.1f} times that of float on this machine"]
            if slower
            else []
        ),
    )
