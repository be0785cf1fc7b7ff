"""Post-training quantisation by torchao (PT2E, x86 inductor): a program of torch that `torch.compile` turns into int8 kernels.

References:
    | https://docs.pytorch.org/ao/stable/pt2e_quantization/pt2e_quant_x86_inductor.html
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from datafree.classifier import Classifier
from datafree.export.comparison import milliseconds
from datafree.export.deployment import Deployed
from datafree.export.faults import quiet
from datafree.export.tracing import trace
from datafree.files.writing import atomic_file
from datafree.functions import first_line
from datafree.quantization.graphs import require_engine, silenced
from datafree.quantization.results import Measured, Quantized
from datafree.quantization.sessions import instruction_set
from datafree.quantization.workbench import compared, logits_of
from datafree.types import Images, InputError, Logits

if TYPE_CHECKING:
    from datafree.quantization.choosing import QuantizationConfig

BATCH = 64
"""images that are run at once"""


def quantize_by_torchao(
    classifier: Classifier,
    calibration: Tensor,
    deciding: Tensor,
    path: Path,
    config: "QuantizationConfig",
    *,
    dynamic: bool = False,
    timed: bool = True,
) -> Quantized:
    """Quantise a network and write it as a `.pt2` file; `torch.export.load` reads it.

    Activations have 7 bits unless signed weights are asked for: then no sum of two products can be too large for 16 bits
    (:math:`2 \\cdot 127 \\cdot 127 < 2^{15}`), so the program means the same on every processor.

    Args:
        classifier: The float network; it is not changed.
        calibration: Images on which the ranges of activations are found.
        deciding: Other images, on which the program is compared with the float network.
        path: The file to write.
        config: The settings.
        dynamic: Whether ranges are found while the program runs; then the images have no influence.
        timed: Whether the latency is measured, which compiles the float network and the program.

    Raises:
        InputError: If torchao is missing, or it cannot take the network.
    """
    require_engine("torchao")
    reduced = config.form != "signed"
    network = Deployed(classifier)
    try:
        traced = trace(network, classifier.probe_images(2).cpu())
    except InputError as fault:
        raise InputError(f"{str(fault).partition(';')[0]}; no engine can quantise this network") from fault
    module, layers = converted(traced.program.module(), calibration, traced.batch, reduced, dynamic)
    in_float = float_layers(module)
    if len(in_float) == layers:
        raise InputError("torchao finds no convolution or linear layer that it can quantise; use --engine onnx")
    remove_unused(module)
    measured = measure(classifier, module, deciding, traced.batch)
    written, float_bytes = write(module, traced.program, path, deciding, traced.batch)
    times, note = latency(traced.program.module(), module, deciding[:1]) if timed else ({}, "latency: not measured")
    bits = "7" if reduced else "8"
    return Quantized(
        path=path,
        engine="torchao",
        bits="w8a8",
        form="reduced" if reduced else "signed",
        observer="" if dynamic else "histogram",
        layers=layers,
        in_float=in_float,
        measured=measured,
        before_recovery=None,
        bytes=written,
        float_bytes=float_bytes,
        milliseconds=times,
        instruction_set=instruction_set(),
        saturation=None,
        kernel_difference=None,
        kernel_agreement=None,
        classifier=classifier,
        notes=(
            f"weights: signed with 8 bits, activations with {bits} bits",
            note,
            *left_in_float(in_float, layers),
        ),
    )


def left_in_float(names: tuple[str, ...], layers: int) -> tuple[str, ...]:
    """Return a note on the layers that torchao leaves in float; none if there are none."""
    if not names:
        return ()
    return (
        f"torchao leaves {len(names)} of {layers} layers in float ({', '.join(names[:5])}); --engine onnx takes them",
    )


def float_layers(module: Any) -> tuple[str, ...]:
    """Return the names of the layers of a quantised graph module whose weights stay in float."""
    names = []
    for node in module.graph.nodes:
        if str(node.target).startswith(("aten.conv", "aten.linear")):
            weight = node.args[1]
            if "dequantize" not in str(weight.target):
                names.append(str(weight.target).removeprefix("model.").removesuffix(".weight"))
    return tuple(names)


def remove_unused(module: Any) -> None:
    """Remove the float weights of a quantised graph module that no node reads any more."""
    used = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    names = [name for name, _ in (*module.named_parameters(), *module.named_buffers()) if name not in used]
    for name in names:
        parent, _, last = name.rpartition(".")
        delattr(module.get_submodule(parent), last)


def converted(module: Any, images: Images, batch: int, reduced: bool, dynamic: bool = False) -> tuple[Any, int]:
    """Return a quantised graph module, and the number of layers with weights that the float one has.

    Args:
        module: The graph of the float network.
        images: Pixels in [0, 1].
        batch: Number of images of a batch if the graph fixes it, else 0.
        reduced: Whether activations have 7 bits.
        dynamic: Whether ranges are found while the graph runs.

    Raises:
        InputError: If torchao cannot quantise the graph.
    """
    with quiet():  # its import warns about torch's future
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
            X86InductorQuantizer,
            get_default_x86_inductor_quantization_config,
        )

    targets = [str(node.target) for node in module.graph.nodes]
    layers = sum(target.startswith(("aten.conv", "aten.linear")) for target in targets)
    with silenced(), torch.no_grad():
        try:
            quantizer = X86InductorQuantizer()
            scheme = get_default_x86_inductor_quantization_config(reduce_range=reduced, is_dynamic=dynamic)
            quantizer.set_global(scheme)
            observed = prepare_pt2e(module, quantizer)
            for part in images.split(batch or BATCH):
                observed(part)
            return convert_pt2e(observed), layers
        except Exception as fault:  # the engine raises assertions and errors of its own
            reason = first_line(fault)[:200]
            raise InputError(f"torchao cannot quantise this network ({reason}); use --engine onnx") from fault


def measure(classifier: Classifier, module: Any, images: Images, batch: int) -> Measured:
    """Compare a quantised graph module with the float network."""

    def run(part: Tensor) -> Tensor:
        with torch.no_grad():
            return module(part)

    logits = torch.cat([run(part) for part in images.split(batch or BATCH)])
    return compared(classifier, logits_of(classifier, images), logits)


def latency(floating: Any, quantized: Any, image: Tensor) -> tuple[dict[str, float], str]:
    """Return the median time of one image of the compiled float graph and of the compiled quantised one, and a note.

    `torch.compile` with frozen weights makes the integer kernels. Without a C++ compiler it cannot.
    """
    from torch._inductor import config as inductor

    try:
        with silenced(), quiet(), torch.no_grad(), inductor.patch(freezing=True):
            engines = {"float": torch.compile(floating), "quantized": torch.compile(quantized)}
            return milliseconds(engines, image), "latency: of both programs after torch.compile with frozen weights"
    except Exception as fault:  # the compiler of torch raises errors of its own, and those of the C++ compiler
        return {}, f"latency: not measured, since torch.compile fails here ({first_line(fault)[:120]})"


def write(module: Any, program: Any, path: Path, images: Images, batch: int) -> tuple[int, int]:
    """Write a quantised graph as a program with integer weights, and return its size and that of the float program."""
    example = (images[: batch or 2],)
    dynamic = None if batch else ({0: torch.export.Dim("batch")},)
    with quiet(), torch.no_grad():
        quantized = torch.export.export(module, example, dynamic_shapes=dynamic, strict=False)
        with atomic_file(path) as new:
            torch.export.save(quantized, new)
        floating = io.BytesIO()
        torch.export.save(program, floating)
    return path.stat().st_size, len(floating.getbuffer())


def load_program(path: Path) -> Callable[[Images], Logits]:
    """Return a function of images that computes a program which this process has written; it runs without kernels."""
    with quiet(), path.open("rb") as file:
        module = torch.export.load(file).module()

    def run(images: Images) -> Logits:
        with torch.no_grad():
            return torch.cat([module(part) for part in images.split(BATCH)])

    return run
