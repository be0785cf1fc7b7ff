"""What is shown of loops: bars, plain lines, or events."""

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import torch
import toys
from rich.console import Console
from rich.table import Table

import datafree
from datafree.applications.distillation import DistillationConfig
from datafree.callback import Callback
from datafree.classifier import Classifier
from datafree.progress import Display, Output, Pace, Work, display, emit, with_progress
from datafree.progress.reporter import Reporter
from datafree.synthesis import Schedule, Stream


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Show every step."""
    for name in ("LINE_EVERY", "EVENT_EVERY", "BAR_EVERY"):
        monkeypatch.setattr(display, name, 0.0)
    yield


def plain() -> tuple[Console, StringIO]:
    text = StringIO()
    return Console(file=text, width=100), text


def as_json() -> tuple[Output, StringIO]:
    text, output = StringIO(), Output()
    output.use("json", text)
    return output, text


def events(text: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


@pytest.mark.usefixtures("at_once")
class TestDisplay:
    def test_without_a_terminal_there_are_plain_lines(self):
        console, text = plain()
        with Display(console) as shown:
            assert list(shown.track(range(3), "count")) == [0, 1, 2]
        lines = text.getvalue().splitlines()
        assert [line.split(",")[0] for line in lines] == [f"progress count {n}/3" for n in (1, 2, 3)]
        assert all(line.endswith(" left") for line in lines)

    def test_a_loop_that_goes_on_begins_where_it_was(self):
        console, text = plain()
        with Display(console) as shown:
            list(shown.track(range(7, 9), "count"))
        assert [line.split(",")[0] for line in text.getvalue().splitlines()] == [
            "progress count 8/9",
            "progress count 9/9",
        ]

    def test_a_bar_that_goes_on_begins_where_it_was(self):
        text = StringIO()
        with Display(Console(file=text, force_terminal=True, width=100)) as shown:
            loop = shown.begin("invert", 10, 4)
            assert loop.bar is not None and shown.bars.tasks[0].completed == 4
            shown.advance(loop, 5)
            shown.bars.refresh()
            assert loop.done - loop.first == 1  # the speed is that of this process
        assert "invert" in text.getvalue() and "5/10" in text.getvalue()

    def test_the_line_of_a_run_has_the_counts_of_all_its_work(self):
        console, text = plain()
        pace = Pace(Work(steps=20, batches={"": 3}, synthesis_seconds=300.0, student_seconds=300.0))
        with Display(console, pace) as shown:
            next(shown.track(range(5), "invert"))
            loop = shown.begin("invert", 5)
            shown.advance(loop, 2)
        assert text.getvalue().splitlines() == ["progress invert 2/5, 0/3 batches, 0/20 steps, about 10 min left"]

    def test_events_have_the_numbers(self):
        output, text = as_json()
        with Display(output, Pace(Work(steps=4))) as shown:
            list(shown.track(range(1), "distill"))
        (event,) = events(text)
        assert event["event"] == "progress" and event["loop"] == "distill"
        assert (event["done"], event["total"], event["steps"], event["steps_total"]) == (1, 1, 0, 4)
        assert event["seconds_left"] is None

    def test_quiet_shows_nothing(self):
        output, text = as_json()
        output.use("quiet", text)
        with Display(output) as shown:
            list(shown.track(range(3), "count"))
        assert text.getvalue() == ""

    def test_an_evaluation_counts_images(self):
        console, text = plain()
        list(with_progress([[1, 2], [3]], 3, "evaluate", console))
        assert [line.split(",")[0] for line in text.getvalue().splitlines()] == [
            "progress evaluate 2/3",
            "progress evaluate 3/3",
        ]


def test_lines_are_half_a_minute_apart():
    console, text = plain()
    with Display(console) as shown:
        list(shown.track(range(1000), "count"))
        assert text.getvalue() == "" and display.LINE_EVERY == 30
        shown.last -= 31
        list(shown.track(range(5), "count"))
    assert len(text.getvalue().splitlines()) == 1


def test_a_notebook_gets_plain_lines(monkeypatch: pytest.MonkeyPatch):
    console = Console(file=StringIO(), force_terminal=True)
    assert not Display(console).bars.disable
    monkeypatch.setattr(console, "is_jupyter", True)
    assert Display(console).bars.disable


def test_a_table_is_an_event_with_its_cells():
    output, text = as_json()
    table = Table("network", "held-out\nscore")
    table.add_row("[bold]a[/]", "1 %")
    output.print(table, "text")
    assert events(text) == [
        {"event": "table", "columns": ["network", "held-out score"], "rows": [["[bold]a[/]", "1 %"]]},
        {"event": "text", "text": "text"},
    ]


def test_numbers_that_are_not_finite_are_null():
    output, text = as_json()
    assert emit(output, "result", loss=float("nan"), deep={"x": [float("inf"), 1.0]})
    assert events(text) == [{"event": "result", "loss": None, "deep": {"x": [None, 1.0]}}]
    assert not emit(Console(file=StringIO()), "result")


class Log(Callback):
    """Keeps the steps it is told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.batches = 0

    def log(self, step: int, terms: Any) -> None:
        self.steps.append(step)

    def on_batch(self, batch: Any, count: int, due: int) -> None:
        self.batches += 1


@pytest.mark.usefixtures("at_once")
def test_progress_in_python_shows_lines_and_passes_on(
    teacher: Classifier, student: Classifier, capsys: pytest.CaptureFixture[str]
):
    callback = Log()
    schedule = Schedule(warmup_batches=2, refresh_every=0, pool_batches=2, batch_size=8)
    stream = Stream.of(toys.TINY["noise"], teacher, student, schedule)
    datafree.distill(student, teacher, stream, DistillationConfig(steps=4), callback=callback, progress=True)
    assert "\nprogress distill 4/4, 2/2 batches, 4/4 steps" in capsys.readouterr().out
    assert callback.steps == [1, 2, 3, 4] and callback.batches == 2
    datafree.distill(student, teacher, stream, DistillationConfig(steps=2))
    assert capsys.readouterr().out == ""


def test_progress_changes_nothing(teacher: Classifier):
    def trained(**settings: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        student = toys.conv_net((4, 4))
        stream = Stream.of(toys.TINY["adi"], teacher, student)
        return dict(datafree.distill(student, teacher, stream, DistillationConfig(steps=3), **settings).state_dict())

    assert toys.same(trained(progress=True), trained())


def test_the_reporter_says_notes():
    console, text = plain()
    Reporter(Callback(), Work(), console).note("a thing [to] know")
    assert text.getvalue() == "note     a thing [to] know\n"
