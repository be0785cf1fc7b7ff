"""Whether a teacher can be copied as its own student, to be pruned, extended or trained again."""

from datafree.classifier import Classifier
from datafree.teachers.onnx_networks.importing import ImportedNetwork
from datafree.types import InputError

FIX = "give it to `datafree distill`, and name another network with --student"


def require_copyable(teacher: Classifier) -> None:
    """Check that the network of a teacher can be trained and saved.

    Raises:
        InputError: If it is forward-only, or from an ONNX file.
    """
    if not any(parameter.numel() for parameter in teacher.parameters()):
        raise InputError(f"the teacher is forward-only, so that it has no weights to train; {FIX}")
    if isinstance(teacher.model, ImportedNetwork):
        raise InputError(f"the teacher is from an ONNX file, and no library builds its network again to save it; {FIX}")
