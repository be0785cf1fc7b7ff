"""The command in a report gives the experiment again."""

import shlex
from dataclasses import dataclass, replace
from typing import Any

import pytest

from datafree.applications.amalgamation import AmalgamationConfig
from datafree.applications.continual import RECIPES
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.commands import experiments
from datafree.methods import METHODS
from datafree.methods.noise import NoiseConfig
from datafree.methods.pictures import PicturesConfig
from datafree.runs.reporting.command import repeating_command
from datafree.runs.settings import Experiment
from datafree.runs.tasks import AmalgamationTask, ExtensionTask, Task
from datafree.synthesis import Schedule
from datafree.synthesis.augmentation import Augmentation
from datafree.synthesis.mixture import Mixture, Part

TASK = Task(teacher="local-dir:my nets/a $b", student="convnet_w16", data="digits", labels=("3", "7"), others=0.1)
MIXED = Mixture(
    parts=(
        Part(name="noise", method=METHODS["noise"], share=0.7, schedule=METHODS["noise"].schedule),
        Part(
            name="fast",
            method=replace(METHODS["fast"], adversary=0.5),
            share=0.3,
            schedule=Schedule(warmup_batches=3, refresh_every=2, pool_batches=5),
        ),
    ),
    batch_size=64,
)


def experiment(
    task: Any, method: Any, application: Any, schedule: Schedule | None = None, **settings: Any
) -> Experiment:
    schedule = schedule or (method.schedule if method else Schedule(batch_size=32))
    return Experiment(task=task, method=method, schedule=schedule, application=application, **settings)


def adopted(name: str) -> DistillationConfig:
    return DistillationConfig(**METHODS[name].distillation)


CASES = {
    "preset": experiment(Task(teacher="resnet18", student="convnet_w16"), METHODS["fast"], adopted("fast")),
    "settings": experiment(
        TASK,
        replace(METHODS["deep-inversion"], steps=(80, 20), jitter=0),
        DistillationConfig(steps=77, lr=0.5, augment=Augmentation(shift=0.15, flip=True)),
        Schedule(warmup_batches=4, refresh_every=61, pool_batches=24, batch_size=64),
        seed=3,
        device="cpu",
        threads=2,
    ),
    "mixture": experiment(Task(teacher="a", student="b"), MIXED, DistillationConfig(steps=5)),
    "ceiling": experiment(Task(teacher="a", student="b", data="mnist"), None, DistillationConfig(steps=5)),
    "pictures": experiment(
        Task(teacher="a", student="b"), PicturesConfig(images="a folder"), DistillationConfig(steps=5)
    ),
    "prune": experiment(
        Task(teacher="local-dir:x", data="digits"),
        METHODS["deep-dream"],
        PruningConfig(steps=9),
        seed=1,
        precision="bf16-mixed",
    ),
    "extend": experiment(ExtensionTask(teacher="a", new_data="mnist:5-9"), METHODS["adi"], RECIPES["abd"]),
    "target-net": experiment(
        AmalgamationTask(teacher=("a b", "c"), labels=("x", "y")), METHODS["group-stack"], AmalgamationConfig(steps=3)
    ),
    "one student": experiment(
        AmalgamationTask(teacher=("a", "c"), student="s", per_teacher=True, gate="origin"),
        METHODS["dafl"],
        replace(adopted("dafl"), steps=11),
    ),
}
FORMS = {
    "distill": (experiments.DISTILL, Task),
    "extend": (experiments.EXTEND, ExtensionTask),
    "amalgamate": (experiments.AMALGAMATE, AmalgamationTask),
    "prune": (experiments.PRUNE, Task),
}


@pytest.mark.parametrize("name", CASES)
def test_the_command_gives_the_same_experiment(name: str):
    program, verb, *words = shlex.split(repeating_command(CASES[name]))
    form, task = FORMS[verb]
    assert program == "datafree"
    assert experiments.experiment_of(form.parse(words), task) == CASES[name]


@dataclass(frozen=True, kw_only=True)
class OwnConfig(NoiseConfig):
    """A method that the command line does not know."""


@pytest.mark.parametrize(
    "unknown",
    [
        experiment(Task(teacher="a", student="b"), OwnConfig(), DistillationConfig()),
        experiment(Task(teacher="a"), METHODS["noise"], DistillationConfig()),
        experiment(
            Task(teacher="a", student="b"),
            replace(MIXED, parts=(*MIXED.parts, Part(name="refine", method=METHODS["noise"], share=1))),
            DistillationConfig(),
        ),
    ],
)
def test_what_the_command_line_cannot_express_has_no_command(unknown: Experiment):
    assert repeating_command(unknown) == ""
