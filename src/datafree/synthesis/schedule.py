"""When batches are synthesized and which of them the student sees."""

from dataclasses import dataclass

from datafree.types import require_at_least


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When batches are synthesized, how many are stored, and how many images a student step uses.

    - `refresh_every=0`: synthesize all batches before the student starts.
    - `refresh_every=50`: alternate between synthesis and the student.
    - `refresh_every=1`: synthesize a new batch for every student step.

    With `refresh_every=1` the student sees the newest batch as a whole. Otherwise it sees images drawn at random from
    the pool.
    """

    warmup_batches: int = 1
    """batches synthesized before the first student step"""
    refresh_every: int = 1
    """student steps between new batches; 0: no new batches after the warm-up"""
    pool_batches: int = 1
    """batches stored in the pool; the oldest are dropped first"""
    batch_size: int = 128
    """images per student step, drawn from the pool; not used with refresh-every 1"""

    def __post_init__(self) -> None:
        require_at_least(1, warmup_batches=self.warmup_batches, pool_batches=self.pool_batches)
        require_at_least(1, batch_size=self.batch_size)
        require_at_least(0, refresh_every=self.refresh_every)

    def batches_needed(self, step: int) -> int:
        """Return how many batches must have been synthesized before student step number `step`, counted from 0."""
        return self.warmup_batches + (step // self.refresh_every if self.refresh_every else 0)
