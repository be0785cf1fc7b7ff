"""Default pools are bounded, and nothing else is changed."""

from dataclasses import replace

from datafree.methods import METHODS
from datafree.runs.planning.pools import POOL, with_bounded_pools
from datafree.runs.settings import Experiment
from datafree.runs.tasks import Task
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part


def experiment(method: Method | None, schedule: Schedule | None = None) -> Experiment:
    default = method.schedule if method else Schedule()
    return Experiment(task=Task(teacher="local-dir:teacher"), method=method, schedule=schedule or default)


def test_a_default_pool_of_large_images_is_bounded_with_a_note():
    # 2 * 10^9 / (256 * 4 * 3 * 224 * 224) = 12.97 batches.
    before = experiment(METHODS["procedural"])
    after, notes = with_bounded_pools(before, (3, 224, 224))
    assert (after.schedule.pool_batches, after.schedule.warmup_batches) == (12, 12)
    assert replace(after, schedule=before.schedule) == before
    assert notes == (
        "the pool holds 12 batches instead of 64, so that it takes at most 2 GB; set --pool-batches to store more",
    )
    assert after.schedule.pool_batches * 256 * 4 * 3 * 224 * 224 <= POOL


def test_what_the_user_has_set_is_left_alone():
    chosen = replace(METHODS["procedural"].schedule, pool_batches=63)
    assert with_bounded_pools(experiment(METHODS["procedural"], chosen), (3, 224, 224)) == (
        experiment(METHODS["procedural"], chosen),
        (),
    )


def test_small_images_and_real_ones_change_nothing():
    for method in (METHODS["procedural"], METHODS["adi"], None):
        assert with_bounded_pools(experiment(method), (3, 32, 32)) == (experiment(method), ())
    assert with_bounded_pools(experiment(None), (3, 224, 224)) == (experiment(None), ())


def test_parts_of_a_mixture_are_bounded_one_by_one():
    own = Schedule(warmup_batches=1, refresh_every=0, pool_batches=40)
    parts = (
        Part(name="procedural", method=METHODS["procedural"], share=0.5),
        Part(name="refine", method=METHODS["refine"], share=0.5, schedule=own),
    )
    after, notes = with_bounded_pools(experiment(Mixture(parts=parts)), (3, 224, 224))
    assert isinstance(after.method, Mixture)
    assert [part.own_schedule.pool_batches for part in after.method.parts] == [6, 40]
    assert len(notes) == 1 and "--method.procedural.pool-batches" in notes[0]


def test_a_mixture_that_fits_stays_equal():
    mixture = Mixture(parts=tuple(Part(name=name, method=METHODS[name], share=1) for name in ("noise", "procedural")))
    assert with_bounded_pools(experiment(mixture), (3, 8, 8))[0] == experiment(mixture)
