"""The model card of a quantised network, and its table for the console."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from datafree.quantization.results import Quantized
from datafree.runs.quantizing.controls import Row
from datafree.sets.privacy import PRIVACY, literal

LOADING = {
    "onnx": """\
import numpy as np, onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = np.zeros((1, {channels}, {height}, {width}), np.float32)  # pixels in [0, 1]
(logits,) = session.run(["logits"], {{"images": images}})""",
    "torchao": """\
import torch, torchao

model = torch.compile(torch.export.load("model.pt2").module())
logits = model(torch.zeros(2, {channels}, {height}, {width}))  # pixels in [0, 1]""",
}
WORDS = {
    "signed": "signed, 8 bits",
    "paired": "signed, 8 bits, with scales at which no sum of two products is too large",
    "reduced": "signed, 7 bits",
    "unsigned": "unsigned, 8 bits",
    "four-bit": "signed, 4 bits",
}


def table_of(rows: Sequence[Row], other: str) -> Table:
    """Return the table for a terminal.

    Args:
        rows: The rows.
        other: The method of the images on which agreement was measured.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("calibrated on", overflow="fold")
    for column in ("bytes", "ms", f"agreement,\n{other}", "held-out"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*cells(row))
    return table


def cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row."""
    time = "-" if row.milliseconds is None else f"{row.milliseconds:.3f}"
    accuracy = "-" if row.accuracy is None else f"{100 * row.accuracy:.2f} %"
    return row.name, f"{row.bytes:,}", time, f"{100 * row.agreement:.2f} %", accuracy


def portability(quantized: Quantized) -> str:
    """Return on which instruction set the file was measured, and whether that holds on others."""
    measured = f"Measured on a processor with {quantized.instruction_set}."
    if quantized.kernel_difference is not None and quantized.kernel_agreement is not None:
        measured += (
            f" Its kernels differ from the graph, computed node by node, by up to {quantized.kernel_difference:.2g} in a "
            f"logit; {100 * quantized.kernel_agreement:.1f} % of the predictions are equal."
        )
    found = quantized.saturation
    if quantized.form == "signed" and found is not None and found.possible and quantized.bits == "w8a8":
        return (
            f"{measured} It does not hold on processors without integer dot products (AVX2 without VNNI): sums saturate "
            f"there, and logits change by up to {found.logit_difference:.3g} on calibration images."
        )
    return f"{measured} No sum of two products can saturate, so the file means the same on other processors."


def card(
    quantized: Quantized, rows: Sequence[Row], header: str, facts: Mapping[str, Any], shape: tuple[int, int, int]
) -> str:
    """Return the model card in Markdown.

    Args:
        quantized: The result.
        rows: The controls.
        header: Of the card, with the lines that enclose it.
        facts: `name`, `licence` (a sentence), `method`, `other` (the method of the images of the comparison), `images`,
            `real_images`.
        shape: Of an image.
    """
    channels, height, width = shape
    code = LOADING[quantized.engine].format(channels=channels, height=height, width=width)
    lines = [" | ".join(("calibrated on", "bytes", "ms", f"agreement on {facts['other']}", "held-out accuracy"))]
    body = "\n".join(f"| {' | '.join(cells(row))} |" for row in rows)
    notes = "".join(f"\n- {literal(note)}" for note in quantized.notes)
    in_float = f"In float: {', '.join(map(literal, quantized.in_float))}. " if quantized.in_float else ""
    return f"""{header}
# {literal(facts["name"])} in {quantized.bits}

```python
{code}
```

Weights: {WORDS[quantized.form]}. {in_float}Calibrated on {facts["images"]:,} images of *{literal(facts["method"])}*;
real images used for this file: {facts["real_images"]:,}. `float` has the weights that were quantised.

| {lines[0]} |
|---|---|---|---|---|
{body}

{portability(quantized)}
{notes}

{facts["licence"]}

**Privacy.** {PRIVACY}
"""
