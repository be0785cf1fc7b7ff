"""Random numbers: the global state of torch for checkpoints, and independent random sequences.

Synthesis draws from its own random sequence. So the images of a seed do not depend on the student, and what the student
draws (images, augmentation, dropout) is the same whether the images are synthesized during training, read from an image set,
or the run is resumed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import torch


class RandomState:
    """The global random state of torch, on the CPU, on CUDA devices in use, and on Apple's GPU, for a checkpoint.

    Within a block of `RandomNumbers` it is the state to which torch returns when the block ends.
    """

    def state_dict(self) -> dict[str, Any]:
        return active[0].global_state if active else self.current()

    def current(self) -> dict[str, Any]:
        """Return the state from which torch draws now."""
        cuda = list(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else []
        mps = [torch.mps.get_rng_state()] if torch.backends.mps.is_available() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda, "mps": mps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["cpu"])
        for device, numbers in enumerate(state["cuda"][: torch.cuda.device_count()]):  # none on another machine
            torch.cuda.set_rng_state(numbers, device)
        if torch.backends.mps.is_available():
            for numbers in state.get("mps", []):
                torch.mps.set_rng_state(numbers)


class RandomNumbers:
    """An independent random sequence: inside a `with` block, torch draws from it instead of its global state.

    The global state is restored when the block ends. The next block continues the sequence.

    Args:
        seed: The random seed. The sequence differs from that of `torch.manual_seed(seed)`.
    """

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self.state: dict[str, Any] = {"cpu": generator.get_state(), "cuda": [], "mps": []}
        self.global_state: dict[str, Any] = {}

    def __enter__(self) -> None:
        self.global_state = RandomState().current()
        active.append(self)
        if self.global_state["cuda"] and not self.state["cuda"]:
            torch.cuda.manual_seed_all(self.seed)
        if self.global_state["mps"] and not self.state.get("mps"):
            torch.mps.manual_seed(self.seed)
        RandomState().load_state_dict(self.state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        active.remove(self)
        self.state = RandomState().current()
        RandomState().load_state_dict(self.global_state)

    def state_dict(self) -> dict[str, Any]:
        return RandomState().current() if active[-1:] == [self] else self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


active: list[RandomNumbers] = []
"""the sequences whose blocks are running, from the outermost to the innermost"""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a sequence of its own inside a `with` block, which checkpoints hold as torch's global state.

    Unlike with `RandomNumbers`, a run that is resumed inside the block continues the sequence.

    Args:
        seed: The random seed. The sequence is that of `RandomNumbers`.
    """
    before, numbers = RandomState().current(), RandomNumbers(seed)
    if before["cuda"]:
        torch.cuda.manual_seed_all(numbers.seed)
    if before["mps"]:
        torch.mps.manual_seed(numbers.seed)
    RandomState().load_state_dict(numbers.state)
    try:
        yield
    finally:
        RandomState().load_state_dict(before)
