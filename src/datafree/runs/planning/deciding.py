"""Deciding a run: the method for `auto`, and the counts that fit into a budget."""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from datafree.applications.base import Application, AugmentedLearning
from datafree.applications.distillation import DistillationConfig
from datafree.applications.hints import shared_layers
from datafree.applications.trainer import Fabric
from datafree.callback import Callback, silent
from datafree.classifier import Classifier, frozen
from datafree.matching import resized_to
from datafree.processes import divided
from datafree.randomness import seeded
from datafree.runs.estimating.duration import seconds_within
from datafree.runs.launching.racing import Counts, Trials
from datafree.runs.logger import RunLogger
from datafree.runs.planning.auto import HINTS, Auto, Recipe, decides_flip, learning_rate, race_of, recipe_for
from datafree.runs.planning.budget import Budget, duration, parse_budget
from datafree.runs.planning.fitting import WHOLE, Fitted, fit, parts_of
from datafree.runs.planning.pools import in_memory
from datafree.runs.planning.timing import SynthesisTime, time_student, time_synthesis
from datafree.synthesis import Method, Schedule, Stream
from datafree.types import Images, InputError

DEFAULT = {"cpu": "15m"}
"""budget of `auto` by the type of the device; `DEFAULT_ACCELERATOR` on all others"""
DEFAULT_ACCELERATOR = "10m"
SAVING = 5.0
"""seconds from the last step to the end, besides the evaluation: saving the student and writing the report"""
RACE = 0.1
"""fraction of the budget of each method in a race"""
RACE_IMAGES = 512
"""images of each method on which the students of the others are compared"""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is decided: the settings of an experiment, and its networks."""

    method: Method
    schedule: Schedule
    application: Application
    budget: str
    """what the run may cost, such as `10m`; empty: the default of `auto`"""
    teacher: Classifier
    student: Classifier
    visible: nn.Module
    """the student as an adaptive method sees it: with the image size and the classes of the teacher"""
    fabric: Fabric
    fresh: bool = False
    """whether the student starts from random weights"""
    apply: Callable[[Method], Method] = lambda method: method
    """returns a method as the task applies it, such as to one teacher at a time"""
    inputs: Callable[[], Mapping[str, Any]] = dict
    """returns what the application takes besides the batches of the method"""
    test_images: int = 0
    """images that teacher and student are evaluated on at the end"""
    estimated: bool = False
    """whether pools are made at the end to estimate the student without labelled images"""
    elapsed: Callable[[], float]
    """returns the seconds since the command started"""
    trials: Trials | None = None
    """where the trials of a race are kept; None: nowhere"""


@dataclass(frozen=True)
class Decision:
    """The settings of a run, as plain values."""

    method: Method
    schedule: Schedule
    application: Application
    seconds: float
    """expected duration, from the start of the command to its end"""
    notes: tuple[str, ...]
    """what was decided and why"""


def decide(request: Request) -> Decision:
    """Decide the method and the counts of a run. The networks are not changed, and no random number is drawn.

    Raises:
        InputError: If the budget is invalid or too short, or the method does not support the teacher.
    """
    budget = parse_budget(request.budget or default_budget(request.teacher.device))
    recipe, request = choose(request)
    request, learning = with_learning(request)
    if isinstance(recipe, list):
        recipe, budget = race(recipe, request, budget)
    fitted = fit_to(recipe.method, request.schedule, request, budget)
    notes = [f"method: {recipe.reason}"] if recipe.reason else []
    limit = f"the budget of {budget} is enough for" if budget.seconds < math.inf else "the run takes"
    notes.append(f"{limit} {words(fitted)}")
    notes += learning
    application = replace(request.application, steps=fitted.steps)
    return Decision(fitted.method, fitted.schedule, application, fitted.seconds, (*notes, *fitted.notes))


def default_budget(device: torch.device) -> str:
    """Return the budget of `auto` where none is given."""
    return DEFAULT.get(device.type, DEFAULT_ACCELERATOR)


def choose(request: Request) -> tuple[Recipe | list[Recipe], Request]:
    """Return the recipe for the teacher, or the recipes of a race, and the request with the augmentation that fits them."""
    auto = request.method
    if not isinstance(auto, Auto):
        return Recipe("", auto, ""), request
    flips = decides_flip(auto, request.teacher)
    application = request.application
    if flips and isinstance(application, AugmentedLearning):
        application = replace(application, augment=replace(application.augment, flip=True))
    recipe = recipe_for(request.teacher, flips=flips)
    recipes = race_of(request.teacher, recipe) if auto.race else recipe
    schedule = replace(recipe.method.schedule, batch_size=request.schedule.batch_size)
    return recipes, replace(request, application=application, schedule=schedule)


def with_learning(request: Request) -> tuple[Request, list[str]]:
    """Return the request with the learning rate and the hints that `auto` chooses, and the reason for each in one sentence.

    They are chosen for a distillation from random weights. Another learning rate than the default is kept, and with `keep_lr`
    the default too; so are any hints that are given, also none.
    """
    application, notes = request.application, []
    auto = request.method
    if not (isinstance(auto, Auto) and request.fresh and isinstance(application, DistillationConfig)):
        return request, notes
    lr, reason = learning_rate(request.student)
    if lr != DistillationConfig.lr == application.lr and not auto.keep_lr:
        application = replace(application, lr=lr)
        notes.append(f"learning rate: {lr:g}, since the student has {reason}")
    in_colour = request.teacher.shape[0] > 1
    if application.hints is None and in_colour and (pairs := len(shared_layers(request.student, request.teacher))):
        application = replace(application, hints=HINTS)
        sizes = "one size" if pairs == 1 else f"{pairs} sizes"
        notes.append(
            f"hints: {HINTS:g}, since images are in colour, and student and teacher have features of {sizes} in common"
        )
    return replace(request, application=application), notes


def fit_to(method: Method, schedule: Schedule, request: Request, budget: Budget) -> Fitted:
    """Measure a method, and fit it into a budget."""
    schedule = schedule if method is request.method else replace(method.schedule, batch_size=schedule.batch_size)
    method, schedule = in_memory(method, schedule, request.teacher.shape)
    inputs = {**request.inputs(), "batch_size": schedule.batch_size}
    student = time_student(request.application, request.student, request.teacher, request.fabric, inputs)
    times: dict[str, SynthesisTime] = {}
    for part in parts_of(method, schedule):
        times[part.name] = time_synthesis(part.method, request.teacher, request.visible)
    answer = student / inputs["batch_size"] * request.test_images  # a step is dearer than two answers
    estimate = seconds_within(budget.seconds) if request.estimated and budget.seconds < math.inf else 0.0
    overhead = request.elapsed() + answer + SAVING + estimate
    times, student, overhead = request.fabric.broadcast((times, student, overhead))  # all processes decide the same
    count = request.fabric.world_size  # a batch was timed as a whole, and is divided among the processes
    times = {name: SynthesisTime(spent.batch / count, spent.step / count) for name, spent in times.items()}
    return fit(method, schedule, times, student=student, overhead=overhead, budget=budget)


def words(fitted: Fitted) -> str:
    """Return the counts of a fitted method in words."""
    counts = [f"{fitted.steps:,} {'step' if fitted.steps == 1 else 'steps'} of the student"]
    for part in parts_of(fitted.method, fitted.schedule):
        name = "" if part.name == WHOLE else f" of {part.name}"
        schedule, steps = part.own_schedule, getattr(part.method, "steps", None)
        if steps and not schedule.refresh_every:
            images = schedule.warmup_batches * part.method.batch_size
            total = sum(steps) if isinstance(steps, tuple) else steps
            counts.append(f"{images:,} images{name} in {total} steps each")
    return f"{', '.join(counts)} (about {duration(fitted.seconds)})"


def race(recipes: list[Recipe], request: Request, budget: Budget) -> tuple[Recipe, Budget]:
    """Train a student with each recipe for a tenth of the budget, and return the best one with what is left of the budget.

    The best student agrees most often with the teacher on the images of the other recipes. No real image is used.

    Raises:
        InputError: If a tenth of the budget is too short.
    """
    part = replace(budget, seconds=budget.seconds * RACE, steps=round(budget.steps * RACE))
    start = request.elapsed()
    students, images = [], []
    for recipe in recipes:
        student, pool = kept_trial(recipe, request, part)
        students.append(student)
        images.append(pool)
    scores = [
        sum(agreement(student, request.teacher, images[other]) for other in range(len(recipes)) if other != index)
        / (len(recipes) - 1)
        for index, student in enumerate(students)
    ]
    # each process has its own part of the images; all decide the same
    scores = request.fabric.all_reduce(torch.tensor(scores, device=request.fabric.device), reduce_op="mean").tolist()
    best = max(range(len(recipes)), key=scores.__getitem__)
    listed = ", ".join(f"{recipe.name} {100 * score:.1f} %" for recipe, score in zip(recipes, scores, strict=True))
    reason = f"{recipes[best].name}, the best of a race by the agreement on the images of the others ({listed})"
    left = replace(budget, steps=round(budget.steps * (1 - len(recipes) * RACE))) if budget.steps else budget
    earlier = request.trials.earlier if request.trials else 0.0
    earlier, spent = request.fabric.broadcast((earlier, request.elapsed() - start + earlier))
    if spent > budget.seconds:
        raise InputError(f"a budget of {budget} is too short for a race; give a longer --budget")
    left = replace(left, seconds=left.seconds - earlier)
    return replace(recipes[best], reason=reason), left


def kept_trial(recipe: Recipe, request: Request, part: Budget) -> tuple[Any, Any]:
    """Train a student with a recipe for a part of the budget, and return it with images of the method.

    It is kept on disk where the trials of the race are, and continued if it was interrupted.
    """

    def measured() -> Counts:
        own = replace(request, elapsed=lambda: 0.0, test_images=0, estimated=False)
        fitted = fit_to(recipe.method, own.schedule, own, replace(part, seconds=part.seconds + SAVING))
        return Counts(fitted.method, fitted.schedule, fitted.steps)

    trials = request.trials
    if trials is None:
        return trial(measured(), request)
    counts = trials.counts(recipe.name, measured)
    return trials.carry_out(recipe.name, counts, request.teacher, lambda callback: trial(counts, request, callback))


def trial(fitted: Counts, request: Request, callback: Callback = silent) -> tuple[Classifier, Images]:
    """Train a copy of the student, and return it with images of the method."""
    student = deepcopy(request.student)
    application = replace(request.application, steps=fitted.steps)
    with seeded(1):
        stream = Stream.of(request.apply(fitted.method), request.teacher, request.visible, fitted.schedule, callback)
        if isinstance(callback, RunLogger):
            callback.also_register(stream=stream)
        inputs = {**request.inputs(), "fabric": request.fabric, "callback": callback}
        application.build()(student, request.teacher, stream, **inputs)
        with divided(request.fabric):
            images = [next(stream).images for _ in range(max(1, RACE_IMAGES // request.schedule.batch_size))]
    return student.eval(), torch.cat(images)[:RACE_IMAGES]


def agreement(student: Classifier, teacher: Classifier, images: Images) -> float:
    """Return the fraction of images, or of their labels, on which student and teacher predict the same."""
    with frozen(student, teacher), torch.no_grad():
        same = [
            student.predict(student(resized_to(x, student))) == teacher.predict(teacher(x)) for x in images.split(128)
        ]
    return float(torch.cat(same).float().mean())
