"""Networks in the ONNX format that ONNX Runtime computes, without gradients."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datafree.teachers.onnx_networks.graphs import Interface

LEAST_SEVERE = 4
"""level of the messages of ONNX Runtime on the console: only those before a crash"""


class OnnxRuntimeNetwork(nn.Module):
    """A network that ONNX Runtime computes on the CPU, whatever the device of the images: it is forward-only.

    The file is a buffer, so that its hash is part of the fingerprint of the network, and a copy has the same function.

    Args:
        content: The ONNX file, with all tensors inside.
        interface: What it takes and returns.
        parameter_count: Number of its weights.
    """

    differentiable = False
    file: Tensor

    def __init__(self, content: bytes, interface: Interface, parameter_count: int = 0) -> None:
        super().__init__()
        self.interface, self.parameter_count = interface, parameter_count
        self.register_buffer("file", torch.frombuffer(bytearray(content), dtype=torch.uint8))
        self._session: Any = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of normalised images of shape `(n, c, h, w)`.

        Raises:
            TypeError: If the images are no tensor but what stands for one, as when a network is traced.
        """
        if not isinstance(images, Tensor):
            raise TypeError("it is forward-only")  # ONNX Runtime would crash
        if self._session is None:
            self._session = new_session(self.file.cpu().numpy().tobytes(), torch.get_num_threads())
        face = self.interface

        def run(batch: Tensor) -> Tensor:
            outputs = self._session.run([face.output], {face.input: batch.cpu().numpy()})[0]
            return torch.from_numpy(outputs)

        with torch.no_grad():
            return in_batches(run, as_input(images.detach(), face), face.batch).float().to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for a copy, which opens a session of its own."""
        return self.__dict__ | {"_session": None}


def new_session(content: bytes, threads: int) -> Any:
    """Open a session of ONNX Runtime on the CPU. No library for further operators is loaded."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = LEAST_SEVERE
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def as_input(images: Tensor, interface: Interface) -> Tensor:
    """Return normalised images in the data type and the order of dimensions that a network takes.

    A file that normalises pixels itself gets the pixels back.
    """
    if interface.mean:
        mean, std = (images.new_tensor(values).view(-1, 1, 1) for values in (interface.mean, interface.std))
        images = images * std + mean
    if interface.type == "uint8":
        images = (255 * images).round().clamp(0, 255)
    images = images.to(getattr(torch, interface.type))
    return images.permute(0, 2, 3, 1).contiguous() if interface.channels_last else images.contiguous()


def in_batches(run: Any, images: Tensor, size: int) -> Tensor:
    """Run a network that takes batches of one size only; incomplete batches are filled up with zeros.

    Args:
        run: Returns the outputs of a batch.
        images: Any number of images.
        size: Number of images of a batch; 0: any.
    """
    if not size or len(images) == size:
        return run(images)
    outputs = []
    for start in range(0, max(1, len(images)), size):
        batch = images[start : start + size]
        missing = size - len(batch)
        outputs.append(run(F.pad(batch, (0, 0) * (images.ndim - 1) + (0, missing)) if missing else batch)[: len(batch)])
    return torch.cat(outputs)
