"""Several processes compute what one computes: losses, random numbers, exchanged rows, and whole trainings."""

import cases
import gang
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from datafree import processes
from datafree.classifier import Classifier, cpu_state_dict
from datafree.losses import clamped_divergence, mean_prediction_entropy, relative_layer_distance, spectrum_distance
from datafree.processes import batch_norm as processes_of_batch_norm
from datafree.processes.batch_norm import batch_norm
from datafree.synthesis.schedule import Schedule
from datafree.types import InputError

TOLERANCE = cases.TOLERANCE


class Three:
    """The first of three processes that are not connected."""

    world_size, global_rank = 3, 1


def test_outside_of_a_division_nothing_changes():
    rows = torch.arange(6.0)
    assert processes.count() == 1 and processes.rank() == 0
    assert processes.part(rows) is rows and processes.total(rows) is rows and processes.mean(rows) is rows
    assert processes.gather(rows) is rows and processes.share(5) == 5


def test_a_process_has_its_rows_in_order():
    with processes.divided(Three()):
        assert processes.part(torch.arange(6)).tolist() == [2, 3]
        with processes.undivided():
            assert processes.part(torch.arange(6)).tolist() == [0, 1, 2, 3, 4, 5]
        with processes.arranged(1, 1):  # two batches of three images
            assert processes.part(torch.arange(6)).tolist() == [1, 4]
        assert processes.part(torch.arange(12).view(2, 6), dim=1).tolist() == [[2, 3], [8, 9]]
    assert processes.count() == 1


def test_random_numbers_are_a_part_of_those_of_one_process():
    torch.manual_seed(0)
    whole = torch.rand(6, 2)
    torch.manual_seed(0)
    with processes.divided(Three()):
        part = processes.draw_rows(torch.rand, (2, 2))
    assert torch.equal(part, whole[2:4])


def test_a_batch_that_cannot_be_divided_is_refused_with_the_nearest_size():
    with (
        processes.divided(Three()),
        pytest.raises(
            InputError, match="a batch of 10 images cannot be divided among 3 processes; use a batch size of 9"
        ),
    ):
        processes.share(10)


def quantities(rows: int) -> dict[str, Tensor]:
    """Return losses of a whole batch, their gradients, and rows that were exchanged."""
    fabric = cases.fabric_here()
    generator = torch.Generator().manual_seed(0)
    features, logits, weight = (
        torch.randn(*size, dtype=torch.float64, generator=generator) * 3 + 50
        for size in ((rows, 3, 4, 4), (rows, 5), (3,))
    )
    with processes.divided(fabric):
        features, logits = (processes.part(tensor).requires_grad_() for tensor in (features, logits))
        weight.requires_grad_()
        running = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
        normalised = (
            F.batch_norm(features, *running, weight, None, True, 0.1, 1e-5)
            if processes.count() == 1
            else batch_norm(features, *running, weight, None, True, 0.1, 1e-5)
        )
        stored = torch.full((3,), 50.0, dtype=torch.float64), torch.full((3,), 9.0, dtype=torch.float64)
        losses = {
            "entropy": mean_prediction_entropy(logits),
            "clamped": clamped_divergence(logits, logits.flip(1)),
            "statistics": relative_layer_distance(features, stored),
            "spectrum": spectrum_distance(features),
            "batch norm": (normalised**3).mean(),
        }
        (torch.stack(list(losses.values())).sum() / processes.count()).backward()
        assert features.grad is not None and logits.grad is not None and weight.grad is not None
        with processes.arranged(1, len(logits) - 1):
            arranged = processes.gather(processes.part(torch.arange(rows)))
        return {
            **processes.mean_terms(losses),
            "features": processes.gather(features.grad),
            "logits": processes.gather(logits.grad),
            "weight": processes.total(weight.grad).detach(),
            "mean": running[0],
            "var": running[1],
            "wanted": processes.gather(processes.fetch(logits.detach(), torch.tensor([5, 0, 0, 7, 2, 1]))),
            "arranged": arranged,
        }


def check(results: list[object], expected: dict[str, Tensor]) -> None:
    for result in results:
        assert isinstance(result, dict), result
        for name, value in expected.items():
            assert torch.allclose(result[name], value, rtol=TOLERANCE, atol=TOLERANCE), name


def first_cases(rows: int, pairs: list[tuple[str, str]], teacher: dict[str, Tensor]) -> tuple[object, object]:
    found = quantities(rows)
    processes_of_batch_norm.MOST_GATHERED = 1  # the sums that many processes exchange
    assert all(
        torch.allclose(a, b, rtol=TOLERANCE) for a, b in zip(quantities(rows).values(), found.values(), strict=True)
    )
    processes_of_batch_norm.MOST_GATHERED = 16
    return found, cases.train_all(pairs, teacher)


def test_two_processes_compute_what_one_computes(teacher: Classifier):
    """Losses, batch norm, exchanged rows, and a training with a pool, a generator, dropout and mixed images."""
    weights, pairs = cpu_state_dict(teacher), [("fast", "select")]
    expected, one = quantities(8), cases.train_all(pairs, weights)
    results = gang.run_together(2, first_cases, 8, pairs, weights)
    check([result[0] for result in results], expected)
    for _, trained in results:
        assert cases.differing(one, trained) == {}
        for pair in pairs:
            assert torch.equal(one[pair]["rng"], trained[pair]["rng"])
            assert trained[pair]["pool"] == one[pair]["pool"] / 2  # each process stores its part


PAIRS = [
    *((method, "distill") for method in cases.METHODS_HERE),
    *(("fast", application) for application in cases.APPLICATIONS),
    *(("group-stack", "amalgamate"), ("adi", "prune"), ("mixture", "select"), ("indivisible", "prune")),
    *(("noise", "extend"), ("procedural", "select"), ("third party", "select")),
]


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_every_method_and_application_on_several_processes(size: int, teacher: Classifier):
    weights = cpu_state_dict(teacher)
    one = cases.train_all(PAIRS, weights)
    for trained in gang.run_together(size, cases.train_all, PAIRS, weights):
        assert isinstance(trained, dict), trained
        assert set(trained) == set(PAIRS)
        assert cases.differing(one, trained) == {}


@pytest.mark.slow
def test_three_processes_compute_what_one_computes():
    check(gang.run_together(3, quantities, 12), quantities(12))


@pytest.mark.slow
def test_the_newest_batch_is_used_as_a_whole(teacher: Classifier):
    schedule = Schedule(refresh_every=1)
    one = cases.train("dafl", "distill", cpu_state_dict(teacher), schedule)
    for trained in gang.run_together(2, cases.train, "dafl", "distill", cpu_state_dict(teacher), schedule):
        assert cases.difference(one, trained) < TOLERANCE
