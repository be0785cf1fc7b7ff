"""Budgets are divided as computed by hand."""

import pytest

from datafree.methods import METHODS
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.runs.planning.budget import Budget
from datafree.runs.planning.fitting import WHOLE, Fitted, fit
from datafree.runs.planning.timing import SynthesisTime
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError

NOISE = Part(name="noise", method=METHODS["noise"], share=0.6, schedule=Schedule(refresh_every=2, pool_batches=8))
DREAM = Part(name="dream", method=DeepInversionConfig(steps=(500,), batch_size=128), share=0.4)
MIXTURE = Mixture(parts=(NOISE, DREAM))
TIMES = {"noise": SynthesisTime(batch=0.04), "dream": SynthesisTime(batch=25.0, step=0.05)}


def fit_mixture(budget: Budget, **arguments: float) -> Fitted:
    return fit(MIXTURE, MIXTURE.schedule, TIMES, **{"student": 0.08, "overhead": 9.96, **arguments}, budget=budget)


def parts(fitted: Fitted) -> dict[str, Part]:
    assert isinstance(fitted.method, Mixture)
    return {part.name: part for part in fitted.method.parts}


def test_a_mixture_by_hand():
    # A batch of noise every second step: 0.08 + 0.04 / 2 = 0.1 s a step. Overhead: 9.96 + 0.04 = 10 s of 510 s: 500 s are left.
    # 40 % are 200 s. 16 batches of 500 steps would take 400 s, so steps are 200 / (16 * 0.05) = 250, and 16 batches fit.
    # The other 300 s are 3000 steps.
    fitted = fit_mixture(Budget(seconds=510))
    dream = parts(fitted)["dream"]
    assert (dream.method.steps, dream.own_schedule.warmup_batches, fitted.steps) == ((250,), 16, 3000)
    assert dream.own_schedule.refresh_every == 0 and dream.own_schedule.pool_batches == 16
    assert parts(fitted)["noise"] == NOISE
    assert fitted.seconds == pytest.approx(510)


def test_optimizations_are_not_shorter_than_the_least():
    # 50 s: 20 s for images; 16 batches would get 25 steps each, so 4 batches get 100. 30 s are 300 steps.
    fitted = fit_mixture(Budget(seconds=60))
    dream = parts(fitted)["dream"]
    assert (dream.method.steps, dream.own_schedule.warmup_batches, fitted.steps) == ((100,), 4, 300)


def test_optimizations_are_not_longer_than_in_the_paper():
    # 4000 s: 1600 s for images; a batch of 500 steps takes 25 s: 64 batches. 2400 s are 24000 steps.
    fitted = fit_mixture(Budget(seconds=4010))
    dream = parts(fitted)["dream"]
    assert (dream.method.steps, dream.own_schedule.warmup_batches, fitted.steps) == ((500,), 64, 24000)
    # More time is for the student.
    longer = fit_mixture(Budget(seconds=8010))
    assert parts(longer)["dream"].own_schedule.warmup_batches == 64 and longer.steps == 64000


def test_a_small_budget_makes_the_batch_smaller():
    # 10 s: 4 s for images. 100 steps take 5 s, so the batch has 128 * 4 / 5 = 102 images.
    fitted = fit_mixture(Budget(seconds=20))
    dream = parts(fitted)["dream"]
    assert (dream.method.batch_size, dream.method.steps, dream.own_schedule.warmup_batches) == (102, (100,), 1)
    # They take 5 * 102 / 128 = 3.984 s, and not the 5 s of a whole batch: 6.016 s are 60 steps.
    assert fitted.steps == 60 and fitted.seconds == pytest.approx(10 + 3.984375 + 6)


def test_a_part_without_time_is_left_out_and_said():
    # 1 s: 0.4 s for images, which are 128 * 0.4 / 5 = 10 images, too few.
    fitted = fit_mixture(Budget(seconds=11))
    assert fitted.method == NOISE.method and fitted.schedule.refresh_every == 2 and fitted.steps == 10
    assert fitted.notes == ("dream is left out of the mixture: the budget is too short for its images",)


def test_a_budget_in_steps_does_not_depend_on_the_overhead():
    # 3000 steps take 300 s, which are 60 %; 40 % are 200 s.
    fitted = fit_mixture(Budget(steps=3000), overhead=500)
    dream = parts(fitted)["dream"]
    assert (dream.method.steps, dream.own_schedule.warmup_batches, fitted.steps) == ((250,), 16, 3000)


def test_an_adaptive_method_synthesizes_while_the_student_trains():
    # 100 s: 40 s for 8 batches of 100 steps; 2 before the student, and one every 600 / 6 = 100 steps.
    adi, times = DeepInversionConfig(steps=(2000,), compete=10.0), {WHOLE: SynthesisTime(batch=100.0, step=0.05)}
    fitted = fit(adi, adi.schedule, times, student=0.1, overhead=10, budget=Budget(seconds=110))
    assert (fitted.method.steps, fitted.steps) == ((100,), 600)
    assert (fitted.schedule.warmup_batches, fitted.schedule.refresh_every) == (2, 100)
    assert fitted.schedule.pool_batches == 8 and fitted.schedule.batch_size == adi.schedule.batch_size


def test_a_generator_keeps_its_schedule():
    # A batch for every step: 0.1 + 0.3 s; 40 s without the batch before the first step: 99 steps of 0.4 s.
    fast, times = METHODS["fast"], {WHOLE: SynthesisTime(batch=0.3)}
    schedule = Schedule(refresh_every=1)
    fitted = fit(fast, schedule, times, student=0.1, overhead=0, budget=Budget(seconds=40))
    assert (fitted.method, fitted.schedule, fitted.steps) == (fast, schedule, 99)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (
            5,
            "a budget of 5 s is too short: loading the networks, one step and saving take 10 s; give a longer --budget",
        ),
        (10.2, "it takes 12 s to optimize 16 images in 100 steps and to train the student as long; give a longer"),
    ],
)
def test_a_budget_that_is_too_short_names_the_least(seconds: float, message: str):
    adi, times = DeepInversionConfig(steps=(2000,), batch_size=128), {WHOLE: SynthesisTime(batch=100.0, step=0.05)}
    with pytest.raises(InputError, match=message):
        fit(adi, adi.schedule, times, student=0.1, overhead=10, budget=Budget(seconds=seconds))
