"""An endless stream of synthesized batches for a student."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from datafree import processes
from datafree.callback import Callback, silent
from datafree.classifier import Classifier
from datafree.randomness import RandomNumbers
from datafree.synthesis.dividing import DividedPool, synthesize_part
from datafree.synthesis.method import Method, Synthesizer
from datafree.synthesis.pool import Pool
from datafree.synthesis.schedule import Schedule
from datafree.synthesis.storage import Storage
from datafree.types import Batch, require_unchanged


class Stream:
    """An endless iterator over batches, one per student step. A checkpoint can hold it.

    The first images are synthesized without the student: before its first step it has learned nothing, and images on which
    it is wrong are no better than others.

    Args:
        synthesizer: Synthesizes the batches.
        student: The student that an adaptive synthesizer uses; None if there is none.
        schedule: When batches are synthesized, and how many are stored.
        callback: Called after each synthesized batch.
        numbers: The random numbers of the synthesizer; torch's global generator by default.
        part: The part of a mixture that the images are for; empty without a mixture.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        student: nn.Module | None,
        schedule: Schedule,
        callback: Callback = silent,
        numbers: RandomNumbers | None = None,
        part: str = "",
    ) -> None:
        self.synthesizer, self.student, self.schedule, self.callback = synthesizer, student, schedule, callback
        self.numbers, self.part = numbers, part
        synthesizer.callback = callback
        # Where each batch is handed out as a whole, the ones before are never read.
        self.pool = Pool(1 if schedule.refresh_every == 1 else schedule.pool_batches)
        self.parts = DividedPool(self.pool)
        self.storage = Storage()
        self.is_synthesizing = False
        self.step = 0
        self.batch_count = 0

    @classmethod
    def of(
        cls,
        method: Method,
        teacher: Classifier,
        student: nn.Module | None = None,
        schedule: Schedule | None = None,
        callback: Callback = silent,
    ) -> "Stream":
        """Build the stream of a method, with random numbers of its own that are seeded by `torch.manual_seed`.

        Because the synthesizer does not share torch's global generator, a student draws the same random numbers from
        this stream as from the same images stored as a set.

        Args:
            method: The settings of the method.
            teacher: The teacher.
            student: The student, for adaptive methods.
            schedule: The schedule; that of the method by default.
            callback: Called after each synthesized batch.

        Raises:
            InputError: If the method does not support the teacher.
        """
        numbers = RandomNumbers(torch.initial_seed())
        with numbers:
            synthesizer = method.build(teacher)
        return cls(synthesizer, student, schedule or method.schedule, callback, numbers)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self.synthesize_until(self.batches_due, with_student=self.step > 0)
        self.step += 1
        return self.parts.newest if self.schedule.refresh_every == 1 else self.parts.draw(self.schedule.batch_size)

    def take_per_step(self, count: int) -> None:
        """Expect that a step of the student takes several batches, as candidates to select from."""
        self.synthesizer.batches_per_step = count

    @property
    def batches_due(self) -> int:
        """Number of batches that must have been synthesized before the next one is handed out."""
        # A stream that hands out each batch once needs a new one even if a step takes several.
        several = 1 if self.schedule.refresh_every == 1 else self.synthesizer.batches_per_step
        return self.schedule.batches_needed(self.step // several)

    def keep_block_inputs(self) -> None:
        """Store the generated features of each batch too, for an application that reads them."""
        self.pool.keep_block_inputs = True

    def keep_pools_in(self, storage: Storage) -> None:
        """Keep the stored images where a run keeps them, instead of in memory. Call it before the first batch.

        A pool from which nothing is drawn has only the newest batch, which is in memory anyway.
        """
        self.storage = storage
        if self.schedule.refresh_every != 1:
            self.pool.storage = storage
        self.synthesizer.keep_pools_in(storage)

    def synthesize_until(self, count: int, with_student: bool = True) -> None:
        """Synthesize batches until `count` batches have been synthesized since the start of the stream.

        Args:
            count: Number of batches.
            with_student: Whether an adaptive method uses the student.
        """
        while self.batch_count < count:
            images = self.synthesizer.stored_images
            if images is not None and self.storage.borrows(len(images) * images.image_bytes):
                batch, is_whole = self.parts.borrow(images), True
            else:
                self.is_synthesizing = True  # stays if synthesis fails, to say where
                with self.numbers or nullcontext():
                    batch, is_whole = synthesize_part(self.synthesizer, self.student if with_student else None)
                self.is_synthesizing = False
                self.parts.add(batch, is_whole=is_whole)
            self.batch_count += 1
            if self.synthesizer.reports_batches:
                with processes.undivided() if is_whole else nullcontext():
                    self.callback.on_batch(replace(batch, part=self.part), self.batch_count, count)

    def state_dict(self) -> dict[str, Any]:
        """Return the pool, the state of the synthesizer, its random numbers and the hashes of the files it has read."""
        state = {
            "step": self.step,
            "batch_count": self.batch_count,
            "dependencies": dict(self.synthesizer.dependencies),
            "pool": self.pool.state_dict(),
            "is_whole": self.parts.is_whole,
            "synthesizer": self.synthesizer.state_dict(),
        }
        return state | ({"numbers": self.numbers.state_dict()} if self.numbers else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`.

        Raises:
            InputError: If a file that the synthesizer reads has changed.
        """
        for name, digest in self.synthesizer.dependencies.items():
            require_unchanged(name, digest, state["dependencies"].get(name))
        self.step, self.batch_count = state["step"], state["batch_count"]
        self.pool.load_state_dict(state["pool"], self.synthesizer.stored_images)
        self.parts.is_whole = state.get("is_whole", True)
        self.synthesizer.load_state_dict(state["synthesizer"])
        if self.numbers:
            self.numbers.load_state_dict(state["numbers"])
