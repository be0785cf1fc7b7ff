"""Work items in parallel processes: same results, and errors that reach the caller."""

import multiprocessing
import os
import time
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from datafree.runs.parallel import parallel_map
from datafree.types import InputError

QUIET = Console(quiet=True)


def squared(number: int, console: Console | None) -> tuple[int, int, bool]:
    if number < 0:
        raise InputError(f"{number} has no square root; give another")
    time.sleep(2 if number == 0 else 0)
    return number * number, os.getpid(), console is None


def everything(jobs: int, numbers: range = range(4)) -> list[tuple[int, int, bool]]:
    """The results in the order of the items."""
    return [result for _, result in sorted(parallel_map(squared, numbers, jobs, QUIET, "numbers"))]


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_item_has_its_own_result(jobs: int):
    assert [square for square, _, _ in everything(jobs)] == [0, 1, 4, 9]


def test_with_one_job_items_run_in_this_process_and_show_their_progress():
    assert {(pid, silent) for _, pid, silent in everything(1)} == {(os.getpid(), False)}


def test_with_several_jobs_items_run_in_other_processes_and_are_silent():
    results = everything(2)
    assert os.getpid() not in {pid for _, pid, _ in results} and all(silent for _, _, silent in results)


def test_results_are_yielded_as_soon_as_they_are_done():
    order = [index for index, _ in parallel_map(squared, range(6), 2, QUIET, "numbers")]
    assert sorted(order) == list(range(6)) and order[0] != 0  # item 0 is slow


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_input_error_reaches_the_caller(jobs: int):
    with pytest.raises(InputError, match="-1 has no square root; give another"):
        list(everything(jobs, range(-1, 3)))


def test_a_terminal_shows_how_many_items_are_done():
    output = StringIO()
    console = Console(file=output, force_terminal=True, width=80)
    list(parallel_map(squared, range(3), 2, console, "numbers"))
    assert "numbers" in output.getvalue() and "3/3" in output.getvalue()


def test_items_may_write_files(tmp_path: Path):
    list(parallel_map(written, [tmp_path / "a", tmp_path / "b"], 2, QUIET, "files"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def written(path: Path, console: Console | None) -> None:
    path.write_text("done")


def test_a_killed_worker_is_reported_in_one_sentence():
    with pytest.raises(InputError, match="most likely for lack of memory; run fewer items at a time with --jobs"):
        list(parallel_map(killed, range(2), 2, QUIET, "items"))


def killed(number: int, console: Console | None) -> None:
    os._exit(9)


def test_closing_the_iterator_early_ends_all_workers(tmp_path: Path):
    results = parallel_map(slow, [tmp_path / "quick", tmp_path / "slow"], 2, QUIET, "files")
    next(results)
    results.close()  # as after Ctrl-C
    assert not multiprocessing.active_children()


def slow(path: Path, console: Console | None) -> None:
    time.sleep(600 if path.name == "slow" else 0)
