"""Pieces of work in processes of their own: the same results, in order, and errors that arrive."""

import multiprocessing
import os
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from datafree.runs.parallel import side_by_side
from datafree.types import InputError

QUIET = Console(quiet=True)


def squared(number: int, console: Console | None) -> tuple[int, int, bool]:
    if number < 0:
        raise InputError(f"{number} has no root; give another")
    time.sleep(2 if number == 0 else 0)
    return number * number, os.getpid(), console is None


def everything(jobs: int, numbers: range = range(4)) -> list[tuple[int, int, bool]]:
    """Results in the order of the pieces."""
    return [result for _, result in sorted(side_by_side(squared, numbers, jobs, QUIET, "numbers"))]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_piece_has_its_own_result(jobs: int):
    assert [square for square, _, _ in everything(jobs)] == [0, 1, 4, 9]


def test_one_at_a_time_is_done_here_and_shows_its_own_progress():
    assert {(pid, silent) for _, pid, silent in everything(1)} == {(os.getpid(), False)}


def test_several_at_a_time_are_done_elsewhere_and_are_silent():
    found = list(everything(2))
    assert os.getpid() not in {pid for _, pid, _ in found} and all(silent for _, _, silent in found)


def test_what_is_done_first_comes_first():
    places = [place for place, _ in side_by_side(squared, range(6), 2, QUIET, "numbers")]
    assert sorted(places) == list(range(6)) and places[0] != 0  # the first piece takes its time


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_a_user_caused_is_told_as_it_was(jobs: int):
    with pytest.raises(InputError, match="-1 has no root; give another"):
        list(everything(jobs, range(-1, 3)))


def test_a_terminal_shows_how_many_are_done():
    shown = StringIO()
    console = Console(file=shown, force_terminal=True, width=80)
    list(side_by_side(squared, range(3), 2, console, "numbers"))
    assert "numbers" in shown.getvalue() and "3/3" in shown.getvalue()


def test_a_piece_may_take_what_it_likes_from_its_own_folder(tmp_path: Path):
    list(side_by_side(written, [tmp_path / "a", tmp_path / "b"], 2, QUIET, "files"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def written(path: Path, console: Console | None) -> None:
    path.write_text("done")


def test_a_worker_that_was_ended_is_told_in_one_sentence():
    with pytest.raises(InputError, match="most likely for want of memory; do fewer pieces at a time with --jobs"):
        list(side_by_side(ended, range(2), 2, QUIET, "pieces"))


def ended(number: int, console: Console | None) -> None:
    os._exit(9)


def test_what_is_left_early_leaves_nobody_at_work(tmp_path: Path):
    begun = side_by_side(slow, [tmp_path / "quick", tmp_path / "slow"], 2, QUIET, "files")
    next(begun)
    begun.close()  # as when the keyboard interrupts
    assert not multiprocessing.active_children()


def slow(path: Path, console: Console | None) -> None:
    time.sleep(600 if path.name == "slow" else 0)
