"""What a run leaves for people: complete, harmless whatever things are called, and the same each time."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from rich.console import Console

from datafree import teachers
from datafree.runs import report
from datafree.runs.experiment import run
from datafree.runs.tasks import Task
from datafree.types import Batch, InputError

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</table><iframe src='http://evil.example'>",
    "<svg onload=alert(1)>",
    "{{ 7 * 7 }}",
    "javascript:alert(1)",
    "' onmouseover='alert(1)",
    "&lt;b&gt; & <b>",
    "\u202etxt.exe",
    "x" * 2000,
]


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def finished(digits_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose teacher's classes have the worst names."""
    root = tmp_path_factory.mktemp("hostile")
    teacher = teachers.load_folder(digits_teacher)
    teacher.classes = tuple(HOSTILE)
    teachers.save_folder(teacher, root / "teacher")
    task = Task(teacher=f"local-dir:{root / 'teacher'}", student="convnet_w16", data="digits")
    return run(toys.experiment(root / "teacher", task=task), root / "run").path


@pytest.fixture
def page(finished: Path) -> Page:
    return Page((finished / "report.html").read_text())


def test_names_are_text_and_nothing_else(page: Page):
    assert all(name in page.words for name in HOSTILE)


def test_several_labels_are_told_by_their_average_precision(finished: Path):
    """The part of right answers flatters a network that says no to everything."""
    summary = json.loads((finished / "summary.json").read_text())
    for who in ("teacher", "student"):
        summary[who] |= {"average_precision": [0.25] * 9 + [None], "accuracy": 0.97, "per_class": [0.97] * 10}
    words = " ".join(Page(report.page(finished, summary)).words.split())
    assert "The student reaches 25.00 % mean average precision" in words
    assert "Average precision of each label" in words
    assert "97.00" not in words


def test_the_page_has_nothing_that_acts(page: Page):
    assert not {"script", "iframe", "object", "embed", "link", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_nothing_from_elsewhere(page: Page):
    loaded = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "action")]
    assert loaded and all(value.startswith(("data:", "#")) for value in loaded)


def test_the_page_says_what_matters(finished: Path, page: Page):
    summary = json.loads((finished / "summary.json").read_text())
    for fact in (
        "Real images seen by the student: 0",
        summary["teacher sha256"],
        summary["experiment"][:40],
        report.PRIVACY,
    ):
        assert fact in page.words
    assert report.percent(summary["student"]["accuracy"]) in page.words
    assert {"svg", "img"} <= set(page.tags)


def test_a_page_drawn_again_is_the_same_to_the_last_byte(finished: Path):
    before = (finished / "report.html").read_bytes()
    report.rewrite(finished, report.read_summary(finished))
    assert (finished / "report.html").read_bytes() == before


def test_figures_follow_from_their_numbers():
    rows: list[dict[str, Any]] = [{"model": "a", "accuracy": 0.5}, {"model": "b", "accuracy": 0.75}, {"model": "c"}]
    assert report.bars(rows) == report.bars(rows)
    assert report.bars(rows) != report.bars(rows[:1])


def test_curves_are_drawn_for_each_phase_with_health_apart():
    log = [{"phase": "synthesis", "step": i, "tv": 1.0 / i, "health/classes": 0.5} for i in (1, 2)]
    log += [{"phase": "application", "step": i, "distillation": 0.0} for i in (1, 20)]
    drawn = report.curves(log)
    assert list(drawn) == ["application, terms", "synthesis, terms", "synthesis, health"]
    assert all(svg.startswith("<svg") for svg in drawn.values())


def test_a_single_point_is_no_curve():
    assert report.curves([{"phase": "application", "step": 1, "distillation": 1.0}]) == {}


def test_the_student_has_a_card_that_timm_can_read(finished: Path):
    card = (finished / "student" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: timm")
    assert "Real images seen by the student: 0." in card and report.PRIVACY in card


def test_the_contact_sheet_is_sorted_by_class():
    images = torch.stack([torch.full((1, 8, 8), shade) for shade in (1.0, 0.0, 0.5)])
    sheet = report.contact_sheet(Batch(images, torch.tensor([2, 0, 1]), {}), ("a", "b", "c"), columns=3)
    shades = [sheet.getpixel((2 + 50 * place + 20, 20))[0] for place in range(3)]
    assert shades == [0, 127, 255]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_number_of_channels_can_be_shown(channels: int):
    assert report.displayable(torch.rand(2, channels, 4, 4)).shape == (2, 3, 4, 4)


def test_percent_by_hand():
    assert [report.percent(value) for value in (0.98765, 1.0, None)] == ["98.77 %", "100.00 %", "-"]


def test_the_ladder_by_hand():
    rows = [
        {"model": "teacher", "parameters": 1000, "macs": 2000, "accuracy": 0.99, "agreement": 1.0, "real": None},
        {
            "model": "student",
            "parameters": 10,
            "macs": 20,
            "accuracy": 0.965,
            "agreement": 0.9,
            "real": 0,
            "seconds": 3.21,
        },
    ]
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(report.ladder(rows))
    teacher, student = [line.split() for line in capture.get().splitlines() if "%" in line]
    assert teacher == ["teacher", "1,000", "99.00", "%", "-", "-", "-"]
    assert student == ["student", "10", "96.50", "%", "-2.50", "0", "3.2"]


def test_the_ladder_fits_into_eighty_columns():
    row = {
        "model": "student · deep-inversion",
        "parameters": 61_706,
        "macs": 1_234_567,
        "accuracy": 0.9,
        "agreement": 0.9,
    }
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(report.ladder([{**row, "real": None}, {**row, "real": 0, "seconds": 12.3}]))
    assert "…" not in capture.get() and "deep-inversion" in capture.get()


def test_a_run_without_real_images_says_so(digits_teacher: Path, tmp_path: Path):
    path = run(toys.experiment(digits_teacher), tmp_path / "run").path
    words = Page((path / "report.html").read_text()).words
    assert "No real images were given to evaluate the student" in words
    assert json.loads((path / "ledger.json").read_text()) == []


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_is_not_finished_has_no_report(tmp_path: Path, begun: bool):
    if begun:
        (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(InputError, match="datafree resume" if begun else "give the folder of a run"):
        report.read_summary(tmp_path)
