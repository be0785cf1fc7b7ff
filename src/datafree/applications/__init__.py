"""What the images are for. An application takes a stream and returns a network."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from datafree.applications.distillation import DistillationConfig


@runtime_checkable
class Application(Protocol):
    """The settings of an application: a frozen value that builds it."""

    def build(self) -> Callable[..., Any]:
        """A function of the student, the teacher and the batches; see `distill`, whose shape all share."""
        ...


APPLICATIONS: dict[str, Application] = {
    "distill": DistillationConfig(),
}
