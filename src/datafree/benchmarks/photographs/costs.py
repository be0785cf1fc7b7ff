"""What the rows of the tables of photographs cost, as constants: plain counts follow from them on any machine.

They were measured by `datafree.runs.planning.timing` on one of two cores of an x86-64 machine, the other one busy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor

from datafree.applications.base import Application
from datafree.applications.distillation import DistillationConfig
from datafree.methods.noise import NoiseConfig
from datafree.runs.planning.budget import Budget
from datafree.runs.planning.fitting import WHOLE, Fitted, fit, parts_of
from datafree.runs.planning.timing import SynthesisTime
from datafree.synthesis import Method, Schedule

DRAWN, NOISE = 2.5e-4, 1.5e-4
"""seconds of a picture that is drawn, and of one of noise, at 16 x 16"""
ADAPTIVE = 1.8
"""an optimization step with the student, relative to one without it"""


@dataclass(frozen=True)
class Costs:
    """The costs of one image size."""

    side: int
    """height and width of the images"""
    student: float
    """seconds of a student step on 128 images, with augmentation and the teacher's logits"""
    selection: float
    """seconds that the candidates of a step with selection add"""
    hints: float
    """seconds that hints add to a step"""
    image: float
    """seconds of one optimization step for one image"""
    generator: Mapping[str, float]
    """seconds of a batch of a generator by method"""
    budget: float
    """seconds of each row of the table of equal seconds"""

    def time(self, name: str, method: Method) -> SynthesisTime:
        """Return how long a part of a row takes.

        Args:
            name: The name of the part or of the row.
            method: Its settings.
        """
        if hasattr(method, "steps"):
            step = self.image * method.batch_size * (ADAPTIVE if method.adaptive else 1)
            return SynthesisTime(step * method.passes, step)
        if method.passes:
            return SynthesisTime(self.generator[name])
        picture = NOISE if isinstance(method, NoiseConfig) else DRAWN
        return SynthesisTime(picture * method.batch_size * (self.side / 16) ** 2)

    def step(self, application: Application) -> float:
        """Return the seconds of a step of the student."""
        assert isinstance(application, DistillationConfig)
        return self.student + self.selection * (application.select > 1) + self.hints * bool(application.hints)

    def fitted(self, name: str, method: Method, schedule: Schedule, application: Application) -> Fitted:
        """Return a method with the counts that the budget has room for.

        Args:
            name: The name of the row.
            method: A method or a mixture.
            schedule: Its schedule.
            application: How the student is trained.
        """
        times = {
            part.name: self.time(name if part.name == WHOLE else part.name, part.method)
            for part in parts_of(method, schedule)
        }
        student = self.step(application)
        return fit(method, schedule, times, student=student, overhead=0.0, budget=Budget(seconds=self.budget))

    def steps_alone(self, application: Application) -> int:
        """Return how many steps a student takes where nothing is synthesized."""
        return floor(self.budget / self.step(application))


SIXTEEN = Costs(
    side=16,
    student=0.063,
    selection=0.033,
    hints=0.008,
    image=4.5e-4,
    generator={"dafl": 0.075, "fast": 0.11},
    budget=150.0,
)
THIRTY_TWO = Costs(
    side=32,
    student=0.25,
    selection=0.1,
    hints=0.039,
    image=1.35e-3,
    generator={"dafl": 0.31, "fast": 0.47},
    budget=600.0,
)
