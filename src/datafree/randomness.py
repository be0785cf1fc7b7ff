"""Random numbers: torch's own, as a checkpoint holds them, and sequences apart from them.

Whoever makes images draws from a sequence of its own. So the images of a seed are the same whoever learns from them, and
what a student draws (which images it is shown, how they are moved, what it drops) is the same whether its images were
made before its eyes, made before and kept, or resumed.
"""

from types import TracebackType
from typing import Any

import torch


class RandomState:
    """Torch's random numbers, on the processor and on the device in use."""

    def state_dict(self) -> dict[str, Any]:
        cuda = list(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["cpu"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


class RandomNumbers:
    """A sequence apart: inside a `with` block torch draws from it, outside as if the block had not been.

    Args:
        seed: Another seed, another sequence; it is not the sequence that `torch.manual_seed(seed)` begins.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self.inside: dict[str, Any] = {"cpu": generator.get_state(), "cuda": []}
        self.outside: dict[str, Any] = {}

    def __enter__(self) -> None:
        self.outside = RandomState().state_dict()
        if self.outside["cuda"] and not self.inside["cuda"]:
            torch.cuda.manual_seed_all(self.seed)
        RandomState().load_state_dict(self.inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.inside = RandomState().state_dict()
        RandomState().load_state_dict(self.outside)

    def state_dict(self) -> dict[str, Any]:
        return self.inside

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inside = state
