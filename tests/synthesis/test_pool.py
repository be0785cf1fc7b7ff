"""The pool is a ring buffer of single images."""

import copy
import itertools
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datafree.synthesis.pool import Pool
from datafree.synthesis.storage import MemoryStore
from datafree.types import Batch


def numbered(number: int, size: int = 4) -> Batch:
    """Images that carry the number of their batch."""
    images = torch.full((size, 1, 2, 2), number / 100) + torch.arange(size).view(-1, 1, 1, 1) / 10000
    return Batch(images, torch.full((size,), number), {})


def filled(count: int, capacity: int = 3) -> Pool:
    pool = Pool(capacity)
    for number in range(count):
        pool.add(numbered(number))
    return pool


@pytest.mark.parametrize(("count", "stored"), [(1, {0}), (2, {0, 1}), (3, {0, 1, 2}), (4, {1, 2, 3}), (8, {5, 6, 7})])
def test_stores_the_last_batches(count: int, stored: set[int]):
    pool = filled(count)
    assert set(pool.all().targets.tolist()) == stored
    assert len(pool) == 4 * len(stored)


def test_images_keep_their_targets_and_every_bit():
    drawn = filled(5).draw(7)
    for image, target in zip(drawn.images, drawn.targets.tolist(), strict=True):
        assert any(torch.equal(image, original) for original in numbered(target).images)


def test_draws_different_images():
    drawn = filled(3).draw(12)
    assert len({image.sum().item() for image in drawn.images}) == 12


def test_draws_all_images_if_there_are_fewer():
    assert len(filled(1).draw(100)) == 4


def test_draws_evenly():
    pool = filled(3)
    counts = torch.bincount(torch.cat([pool.draw(3).targets for _ in range(400)]), minlength=3)
    assert counts.min() > 300


def test_each_draw_is_different():
    pool = filled(3)
    assert len({tuple(pool.draw(6).images.sum((1, 2, 3)).tolist()) for _ in range(10)}) == 10


def test_an_empty_pool_says_so():
    with pytest.raises(IndexError, match="empty"):
        Pool(2).draw(1)


def test_the_newest_batch_is_the_last_one_added():
    pool = filled(5)
    assert pool.newest.targets.tolist() == [4] * 4


def test_later_changes_of_a_batch_do_not_reach_the_pool():
    batch, pool = numbered(1), Pool(2)
    pool.add(batch)
    batch.images.zero_()
    assert pool.all().images.min() > 0


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_restores_its_state(count: int):
    pool, restored = filled(count), Pool(3)
    restored.load_state_dict(copy.deepcopy(pool.state_dict()))
    for each in (pool, restored):
        each.add(numbered(50))
    drawn = []
    for each in (pool, restored):
        torch.manual_seed(1)
        drawn.append(each.draw(9))
    assert torch.equal(drawn[0].images, drawn[1].images) and torch.equal(drawn[0].targets, drawn[1].targets)
    assert len(pool) == len(restored)


def test_the_state_includes_the_newest_batch():
    restored = Pool(3)
    restored.load_state_dict(filled(5).state_dict())
    assert torch.equal(restored.newest.images, numbered(4).images)


def test_teacher_logits_stay_with_their_images():
    pool, images = Pool(3), torch.rand(6, 1, 2, 2)
    pool.add(Batch(images, torch.zeros(6, dtype=torch.long), {}, images.flatten(1)))
    drawn = pool.draw(4)
    assert drawn.teacher_logits is not None and torch.equal(drawn.teacher_logits, drawn.images.flatten(1))


def test_soft_targets_are_stored_as_well():
    pool = Pool(2)
    pool.add(Batch(torch.rand(3, 1, 2, 2), torch.full((3, 4), 0.25), {}))
    assert pool.draw(2).targets.shape == (2, 4)


def blocks(pool: Pool) -> list[Tensor]:
    assert isinstance(pool.store, MemoryStore)
    return [block["images"] for block in pool.store.blocks]


def test_memory_grows_with_the_images_up_to_the_capacity_and_nothing_is_copied():
    pool, sizes, places = Pool(6), [], []
    for number in range(8):
        pool.add(numbered(number))
        sizes.append([len(block) for block in blocks(pool)])
        places.append([block.data_ptr() for block in blocks(pool)])
    assert sizes == [[4], [4, 4], *[[4, 4, 8]] * 2, *[[4, 4, 8, 8]] * 4]
    assert all(after[: len(before)] == before for before, after in itertools.pairwise(places))
    assert pool.all().targets.tolist() == [number for number in (6, 7, 2, 3, 4, 5) for _ in range(4)]


@given(st.integers(1, 5), st.lists(st.integers(1, 9), min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_batches_of_any_sizes_are_a_ring(capacity: int, sizes: list[int], chance: random.Random):
    pool, ring, number = Pool(capacity), [-1] * capacity * sizes[0], 0
    for size in sizes:
        size = min(size, len(ring))
        values = torch.arange(number, number + size)
        pool.add(Batch(values.view(-1, 1, 1, 1) / 2, values, {}, values.view(-1, 1) * 2.0))
        for value in values.tolist():
            ring[value % len(ring)] = value
        number += size
        if chance.random() < 0.3:
            state, pool = copy.deepcopy(pool.state_dict()), Pool(capacity)
            pool.load_state_dict(state)
    held = pool.all()
    assert held.targets.tolist() == ring[: len(pool)] and len(pool) == min(number, len(ring))
    assert (held.images.flatten() * 2).tolist() == held.targets.tolist()
    assert held.teacher_logits is not None and (held.teacher_logits[:, 0] / 2).tolist() == held.targets.tolist()
    assert pool.newest.targets.tolist() == list(range(number - pool.newest_size, number))


def test_the_state_of_an_earlier_version_is_restored():
    images, targets = torch.rand(4, 1, 2, 2), torch.arange(4)
    counts = {"written": 6, "newest_size": 2, "size": 4}
    pool = Pool(2)
    pool.load_state_dict({**counts, "device": "cpu", "tensors": {"images": images, "targets": targets}})
    assert torch.equal(pool.all().images, images) and pool.newest.targets.tolist() == [0, 1]
    empty = Pool(2)
    empty.load_state_dict({"written": 0, "newest_size": 0, "size": 0, "device": "cpu", "tensors": {}})
    assert len(empty) == 0


def test_a_restored_pool_grows_on():
    pool, restored = filled(2, capacity=5), Pool(5)
    restored.load_state_dict(copy.deepcopy(pool.state_dict()))
    for number in range(2, 9):
        for each in (pool, restored):
            each.add(numbered(number))
        assert torch.equal(pool.all().images, restored.all().images)


def test_generated_features_are_stored_only_if_they_are_read():
    batch = replace(numbered(1), block_inputs=(torch.rand(4, 2, 1, 1),))
    for keep in (False, True):
        pool = Pool(2)
        pool.keep_block_inputs = keep
        pool.add(batch)
        assert pool.store is not None
        assert ("block_inputs 0" in pool.store.names) == bool(pool.newest.block_inputs) == keep
