"""Running ONNX files on the CPU: with the kernels of this processor, or node by node; and what processor this is."""

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datafree.types import Images, Logits

BATCH = 64
"""images that are run at once"""
SETS = (
    ("AMX-INT8", ("amx_int8",)),
    ("AVX512-VNNI", ("avx512_vnni", "avx512vnni")),
    ("AVX-VNNI", ("avx_vnni", "avxvnni")),
    ("AVX512 without VNNI", ("avx512f",)),
    ("AVX2 without VNNI", ("avx2",)),
    ("NEON dot product", ("asimddp",)),
)
"""instruction sets with integer products, from the newest, and their flags"""
SATURATING = ("AVX512 without VNNI", "AVX2 without VNNI")
"""instruction sets whose sums of two products saturate at 16 bits"""


class OnnxNetwork:
    """An ONNX file with one input and one output, as a function of images.

    Args:
        source: Path of the file, or its content.
        optimized: Whether ONNX Runtime may fuse nodes and use the integer kernels of this processor; if not, it computes each
            node by itself, in float between the nodes that quantise. The graph then means the same on every processor.
        outputs: Names of the outputs; default: all.
        batch: Number of images of a batch if the file fixes it; 0: any.
    """

    def __init__(
        self, source: str | Path | bytes, *, optimized: bool = True, outputs: Sequence[str] = (), batch: int = 0
    ) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 4
        levels = onnxruntime.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
        content = source if isinstance(source, bytes) else str(source)
        self.session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        first = self.session.get_inputs()[0]
        self.input = first.name
        self.outputs = list(outputs) or [value.name for value in self.session.get_outputs()]
        fixed = first.shape[0] if isinstance(first.shape[0], int) else 0
        self.batch = batch or fixed

    def run(self, images: Images) -> list[Tensor]:
        """Return all outputs for one batch of images."""
        values = self.session.run(self.outputs, {self.input: images.detach().cpu().float().contiguous().numpy()})
        return [torch.from_numpy(value) for value in values]

    def __call__(self, images: Images) -> Logits:
        """Return the first output for any number of images, of shape `(n, k)`."""
        return torch.cat([self.run(part)[0].float() for part in images.split(self.batch or BATCH)])


def instruction_set() -> str:
    """Return the newest instruction set for integer products that this processor has, in words."""
    flags = processor_flags()
    for name, needed in SETS:
        if flags & set(needed):
            return name
    return platform.machine() or "unknown"


def processor_flags() -> set[str]:
    """Return the flags of this processor, as Linux names them; on other systems what torch knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return set(value.split())
    capability = torch.backends.cpu.get_cpu_capability()
    return {"AVX512": {"avx512f", "avx2"}, "AVX2": {"avx2"}}.get(capability, set())
