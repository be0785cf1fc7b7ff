"""Reports are complete, reproducible, and harmless whatever names they contain."""

import io
import json
import os
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import toys
from rich.console import Console

from datafree import teachers
from datafree.runs.experiment import run
from datafree.runs.logger import read_log
from datafree.runs.reporting import card, report
from datafree.runs.tasks import Task
from datafree.types import InputError, printable

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
    """The tags, attributes and words of an HTML page."""

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
    """A run whose classes have hostile names."""
    root = tmp_path_factory.mktemp("hostile")
    teacher = teachers.load_folder(digits_teacher)
    teacher.classes = tuple(HOSTILE)
    teachers.save_folder(teacher, root / "teacher")
    task = Task(teacher=f"local-dir:{root / 'teacher'}", student="convnet_w16", data="digits")
    return run(toys.experiment(root / "teacher", task=task), root / "run").path


@pytest.fixture
def page(finished: Path) -> Page:
    return Page((finished / "report.html").read_text())


def test_names_are_escaped(page: Page):
    visible = [printable(name) for name in HOSTILE]
    assert all(name[:59] in page.words for name in visible)


def test_control_characters_are_replaced(finished: Path):
    text = (finished / "report.html").read_text()
    assert "\u202e" not in text and "\ufffdtxt.exe" in text
    assert {c for c in text if c != "\n" and printable(c) != c} == set()


def test_multi_label_results_are_reported_as_average_precision(finished: Path):
    """Accuracy over all labels is high for a network that predicts no label at all."""
    summary = json.loads((finished / "summary.json").read_text())
    for network in ("teacher", "student"):
        summary[network] |= {"average_precision": [0.25] * 9 + [None], "accuracy": 0.97, "per_class": [0.97] * 10}
    words = " ".join(Page(report.page(finished, summary)).words.split())
    assert "25.00 % mean average precision of the student on" in words
    assert "Average precision of each label" in words
    assert "97.00" not in words


def test_the_page_has_no_active_content(page: Page):
    assert not {"script", "iframe", "object", "embed", "link", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]


def test_the_page_loads_no_external_resources(page: Page):
    sources = [value for name, value in page.attributes if name in ("src", "href", "xlink:href", "data", "action")]
    assert sources and all(value.startswith("data:image/png;base64,") for value in sources)


def test_the_page_has_results_hashes_settings_and_privacy(finished: Path, page: Page):
    summary = json.loads((finished / "summary.json").read_text())
    for fact in (
        "Real images seen by the student: 0",
        summary["teacher_sha256"],
        summary["student_sha256"],
        summary["experiment"]["task"]["teacher"],
        "schedule.warmup_batches",
        "DeepInversionConfig",
        report.PRIVACY,
    ):
        assert fact in page.words
    assert report.percent(summary["student"]["accuracy"]) in page.words
    assert {"svg", "img"} <= set(page.tags)


def test_a_page_written_again_has_the_same_bytes(finished: Path):
    before = (finished / "report.html").read_bytes()
    report.write_page(finished, report.read_summary(finished))
    assert (finished / "report.html").read_bytes() == before


def test_the_student_has_a_model_card(finished: Path):
    text = (finished / "student" / "README.md").read_text()
    assert text.startswith("---\nlibrary_name: timm")
    assert "Real images seen by the student: 0." in text and report.PRIVACY in text
    settings = text[text.index("```json") + 7 : text.rindex("```")]
    assert json.loads(settings) == report.read_summary(finished)["experiment"]


def test_notes_of_a_card_are_literal(finished: Path):
    hostile = "the set says <script>`x`</script> [a](b)\x1b[31m"
    config = json.loads((finished / "student" / "config.json").read_text())
    text = card.card(report.read_summary(finished) | {"notes": [hostile]}, config)
    assert "Note: ``the set says <script>`x`</script> [a](b)\ufffd[31m``." in text


def test_percent_by_hand():
    assert [report.percent(value) for value in (0.98765, 1.0, None)] == ["98.77 %", "100.00 %", "-"]


def test_the_results_table_by_hand():
    rows = [
        {
            "model": "teacher",
            "parameters": 1000,
            "macs": 2000,
            "accuracy": 0.99,
            "agreement": 1.0,
            "real_images_seen": None,
        },
        {
            "model": "student",
            "parameters": 10,
            "macs": 20,
            "accuracy": 0.965,
            "agreement": 0.9,
            "real_images_seen": 0,
            "seconds": 3.21,
        },
    ]
    console = Console(width=120, file=io.StringIO())
    with console.capture() as capture:
        console.print(report.results_table(rows))
    teacher, student = [line.split() for line in capture.get().splitlines() if "%" in line]
    assert teacher == ["teacher", "1,000", "99.00", "%", "-", "-", "-"]
    assert student == ["student", "10", "96.50", "%", "-2.50", "0", "3.2"]


def test_the_results_table_fits_into_80_columns():
    row = {
        "model": "student · deep-inversion",
        "parameters": 61_706,
        "macs": 1_234_567,
        "accuracy": 0.9,
        "agreement": 0.9,
    }
    console = Console(width=80, file=io.StringIO())
    with console.capture() as capture:
        console.print(
            report.results_table([{**row, "real_images_seen": None}, {**row, "real_images_seen": 0, "seconds": 12.3}])
        )
    assert "…" not in capture.get() and capture.get().count("student · deep-inversion ") == 2


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "copy")


def test_lines_of_the_log_that_are_no_events_are_skipped_and_counted_once(
    copied: Path, capsys: pytest.CaptureFixture[str]
):
    log = copied / "log.jsonl"
    expected = read_log(copied)
    bad = [b"\xff\x00", b"3", b"[]", b'{"phase": "other", "step": 1}', b'{"phase": [], "step": 1}', b'{"step": 1}']
    bad += [b'{"phase": "evaluation", "step": 1}', b'{"phase": "synthesis", "step": "1"}', b"[" * 10**5]
    log.write_bytes(b"\n".join([*bad, log.read_bytes()]))
    assert read_log(copied) == expected
    assert capsys.readouterr().err == f"datafree: skipped 9 lines that are no events in {log}\n"
    report.write_page(copied, report.read_summary(copied))


def test_values_of_the_log_that_cannot_be_drawn_are_left_out(copied: Path):
    values = '"nan": NaN, "inf": Infinity, "big": 1' + "0" * 400 + ', "text": "1", "true": true, "loss": 0.5'
    lines = [f'{{"phase": "application", "step": {step}, {values}}}' for step in (1, 2)]
    (copied / "log.jsonl").write_text("\n".join(lines))
    assert read_log(copied) == [{"phase": "application", "step": step, "loss": 0.5} for step in (1, 2)]
    report.write_page(copied, report.read_summary(copied))


@pytest.mark.parametrize("name", ["summary.json", "synthetic/grid.png", "synthetic", "log.jsonl", "report.html"])
@pytest.mark.parametrize("pipe", [True, False])
def test_a_report_follows_no_links_and_reads_no_pipes(copied: Path, tmp_path: Path, name: str, pipe: bool):
    secret = tmp_path / "secret"
    secret.mkdir() if name == "synthetic" else secret.write_text("secret")
    if (copied / name).is_dir():
        shutil.rmtree(copied / name)
    else:
        (copied / name).unlink()
    if pipe:
        os.mkfifo(copied / name)
    else:
        (copied / name).symlink_to(secret)
    with pytest.raises(InputError, match="is a symbolic link|is not a regular file"):
        report.read_summary(copied)


def test_every_value_of_a_summary_is_checked(copied: Path):
    """Each entry in turn gets another type; a report is refused in one sentence, or written."""
    file = copied / "summary.json"
    original, refused = json.loads(file.read_text()), 0
    for index, place in enumerate(places(original)):
        wrong = ([], {}, "x", None, 3, True)[index % 6]
        file.write_text(json.dumps(replaced(original, place, wrong)))
        try:
            list(report.tables(report.read_summary(copied)))
        except InputError as error:
            refused += 1
            assert "summary.json" in str(error) and "\n" not in str(error)
    assert refused > 30


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of the entries of JSON, to a depth of two."""
    if isinstance(node, dict) and len(path) < 2 and (not path or path[-1] not in ("experiment", "environment")):
        for key, child in node.items():
            yield (*path, key)
            yield from places(child, (*path, key))


def replaced(node: Any, path: tuple[Any, ...], value: Any) -> Any:
    """JSON with another value at a path."""
    return {**node, path[0]: replaced(node[path[0]], path[1:], value)} if path else value


def test_a_run_without_real_images_says_so(digits_teacher: Path, tmp_path: Path):
    path = run(toys.experiment(digits_teacher), tmp_path / "run").path
    words = Page((path / "report.html").read_text()).words
    assert "The student was not evaluated, since no real images were given" in words
    assert json.loads((path / "ledger.json").read_text()) == []


@pytest.mark.parametrize("started", [True, False])
def test_an_unfinished_run_has_no_report(tmp_path: Path, started: bool):
    if started:
        (tmp_path / "experiment.json").write_text('{"schema": 2}')
    with pytest.raises(InputError, match="datafree resume" if started else "give the folder of a run"):
        report.read_summary(tmp_path)


def test_the_command_that_is_recommended_has_a_quoted_path(tmp_path: Path):
    path = tmp_path / "my run"
    path.mkdir()
    (path / "experiment.json").write_text('{"schema": 2}')
    with pytest.raises(InputError) as refused:
        report.read_summary(path)
    assert str(refused.value).endswith(f"continue it with `datafree resume '{path}'`")


def test_a_report_sweeps_what_a_killed_process_left_beside_the_pictures(copied: Path):
    left = copied / "synthetic" / ".tmp-datafree-0123456789abcdef"
    left.mkdir()
    report.write_page(copied, report.read_summary(copied))
    assert not left.exists()
