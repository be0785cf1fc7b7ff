"""Reports and comparisons in a browser: on a phone and a desktop, in light and dark, whatever a run is like."""

import json
import shutil
from pathlib import Path
from typing import Any

import made_up_runs
import pytest

from datafree.runs.reading.summary import read_summary
from datafree.runs.reporting.pages.comparison import write_comparison
from datafree.runs.reporting.pages.run import write_page

LIMIT = 2_000_000
"""bytes of a page"""
VIEWS = [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")]
SCREENS = [(390, 664), (1280, 720)]
"""what a browser leaves of a phone and of a small laptop"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of every shape with its report, and a page that compares them."""
    root = tmp_path_factory.mktemp("runs")
    for name, (summary, answers) in made_up_runs.SHAPES.items():
        folder = made_up_runs.write(root / name, summary, answers)
        write_page(folder, read_summary(folder))
    chosen = [root / name for name in ("measured", "estimated", "collapsed", "hostile", "mixture", "no images")]
    write_comparison(chosen, root / "comparison.html", "Runs <b>compared</b>", ["One sentence.", "Two.", "Three."])
    return root


def pages(root: Path) -> dict[str, Path]:
    found = {name: root / name / "report.html" for name in made_up_runs.SHAPES}
    return found | {"comparison": root / "comparison.html", "classes": root / "1000 classes/synthetic/classes-1.html"}


def opened(browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> tuple[Any, list[str]]:
    """A tab with a page, and what went wrong in it."""
    tab = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    faults: list[str] = []
    tab.on("request", lambda r: None if r.url.startswith(("data:", path.as_uri())) else faults.append(r.url))
    tab.on("console", lambda message: faults.append(message.text))
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.goto(path.as_uri())
    return tab, faults


@pytest.mark.parametrize("name", [*made_up_runs.SHAPES, "comparison", "classes"])
def test_a_page_fits_every_screen(browser: Any, runs: Path, name: str):
    path, colours = pages(runs)[name], set()
    assert path.stat().st_size <= LIMIT
    for width, scheme in VIEWS:
        tab, faults = opened(browser, path, width, scheme)
        assert faults == [] and tab.title() not in ("owned", "1")
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        colours.add((scheme, tab.evaluate("getComputedStyle(document.body).backgroundColor")))
        tab.close()
    assert len(colours) == 2


def shown_at_once(tab: Any, selector: str, width: int, height: int) -> bool:
    """Whether the whole box of an element is in the window of a page that was opened and not scrolled."""
    tab.set_viewport_size({"width": width, "height": height})
    box = tab.locator(selector).bounding_box()
    return (
        box["width"] > 100
        and box["height"] > 20
        and box["x"] >= 0
        and box["y"] >= 0
        and box["x"] + box["width"] <= width
        and box["y"] + box["height"] <= height
        and tab.evaluate("scrollY") == 0
    )


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_whole_verdict_is_visible_without_scrolling(browser: Any, runs: Path, width: int, height: int):
    for name, path in pages(runs).items():
        if name != "classes":
            tab, _ = opened(browser, path, width)
            assert shown_at_once(tab, "#verdict", width, height), name
            tab.close()


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_word_of_a_run_with_every_fault_is_visible_without_scrolling(
    browser: Any, tmp_path: Path, width: int, height: int
):
    """The findings may go on below the window, but the word and the figure are above them."""
    summary, answers = made_up_runs.SHAPES["collapsed"]
    finding = {"rule": "x", "level": "fault", "sentence": "A long sentence about a fault. " * 8, "advice": "Do that."}
    verdict = {**summary["verdict"], "findings": [finding] * 12}
    folder = made_up_runs.write(tmp_path / "run", {**summary, "verdict": verdict}, answers)
    write_page(folder, read_summary(folder))
    tab, _ = opened(browser, folder / "report.html", width)
    assert tab.locator("#verdict li").count() == 12 and not shown_at_once(tab, "#verdict", width, height)
    assert shown_at_once(tab, "#verdict .top", width, height)
    assert "Collapsed" in tab.locator("#verdict .top").inner_text()
    tab.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_curves_are_seen_in_both_colour_schemes(browser: Any, runs: Path, scheme: str):
    tab, _ = opened(browser, pages(runs)["measured"], scheme=scheme)
    stroke, paper = tab.evaluate("""[getComputedStyle(document.querySelector("svg .line")).stroke,
        getComputedStyle(document.body).backgroundColor]""")
    tab.close()
    light = {
        colour: sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(","))) for colour in (stroke, paper)
    }
    assert abs(light[stroke] - light[paper]) > 150


def test_the_largest_page_opens_in_a_second(browser: Any, runs: Path):
    largest = max(pages(runs).values(), key=lambda path: path.stat().st_size)
    assert largest.stat().st_size > LIMIT / 4
    times = []
    for _ in range(5):
        tab, _ = opened(browser, largest)
        times.append(tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
        tab.close()
    assert min(times) < 1000


def test_a_click_selects_the_whole_command(browser: Any, runs: Path):
    tab, _ = opened(browser, pages(runs)["measured"])
    tab.locator(".command code span").nth(1).click()
    selected = " ".join(tab.evaluate("getSelection().toString()").split())
    tab.close()
    assert selected == made_up_runs.SHAPES["measured"][0]["command"]


def test_a_printed_report_has_its_settings(browser: Any, runs: Path):
    tab, _ = opened(browser, pages(runs)["measured"])
    tab.emulate_media(media="print", color_scheme="dark")
    settings = tab.locator("table.settings").first.bounding_box()
    paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.close()
    assert settings["height"] > 50 and paper == "rgb(255, 255, 255)"


def test_pages_of_a_run_are_linked(browser: Any, runs: Path):
    tab, _ = opened(browser, pages(runs)["1000 classes"])
    tab.locator("a", has_text="page 1").first.click()
    assert tab.title() == "Classes, page 1 of 20"
    tab.locator("a", has_text="next").click()
    assert tab.title() == "Classes, page 2 of 20"
    tab.locator("a", has_text="Report").click()
    assert "convnet_w64 to convnet_w16" in tab.title()
    tab.close()


def test_a_comparison_leads_to_its_runs(browser: Any, runs: Path):
    tab, _ = opened(browser, pages(runs)["comparison"])
    tab.locator("a", has_text="estimated").first.click()
    assert tab.title() == "convnet_w64 to convnet_w16: Good"
    tab.close()


def words(browser: Any, path: Path) -> str:
    tab, _ = opened(browser, path)
    text = " ".join(tab.locator("main").inner_text().split())
    tab.close()
    return text


def test_what_is_said_first(browser: Any, runs: Path):
    found = pages(runs)
    assert "Good 95.00 % accuracy of the student on 450 held-out real images" in words(browser, found["measured"])
    estimated = words(browser, found["estimated"])
    assert (
        "Good About 94 % of the teacher's accuracy, between 84 and 97 %; an estimate without real images" in estimated
    )
    assert "Collapsed About 20 % of the teacher's accuracy" in words(browser, found["collapsed"])
    unknown = words(browser, found["unknown"])
    assert "The accuracy of the student is not known: no real images were given." in unknown


def test_floor_and_ceiling_come_from_runs_beside(runs: Path, tmp_path: Path):
    """They have the same teacher and student; a run of another teacher is none."""
    digits = made_up_runs.DIGITS
    for name, method, accuracy, sha in (
        ("mine", "fast", 0.95, "a"),
        ("floor", "noise", 0.34, "a"),
        ("top", "real images", 0.98, "a"),
        ("other", "noise", 0.5, "c"),
    ):
        student = made_up_runs.network(parameters=9162, **made_up_runs.measured(accuracy, 10))
        made_up_runs.write(
            tmp_path / name, made_up_runs.summary(digits, method=method, student=student, teacher_sha256=sha * 64)
        )
    write_page(tmp_path / "mine", read_summary(tmp_path / "mine"))
    text = (tmp_path / "mine" / "report.html").read_text()
    assert "floor (noise) 34.00 %" in text and "ceiling (real images) 98.00 %" in text and "50.00 %" not in text


def test_a_report_of_fewer_classes_removes_old_pages(runs: Path, tmp_path: Path):
    folder = shutil.copytree(runs / "1000 classes", tmp_path / "run")
    assert len(list((folder / "synthetic").glob("classes-*.html"))) == 20
    (folder / "synthetic" / "answers.json").unlink()
    write_page(folder, read_summary(folder))
    assert not list((folder / "synthetic").glob("classes-*.html"))


@pytest.mark.parametrize(
    "change",
    [
        {"data": "javascript:alert(1)"},
        {"data": '"><script>'},
        {"kind": "svg+xml"},
        {"target": 10},
        {"target": -1},
        {"student": {"classes": [99], "confidence": 0.5}},
    ],
)
def test_damaged_answers_are_refused(tmp_path: Path, change: dict[str, Any]):
    answers = made_up_runs.answers(10, (4, 4), "L")
    answers["parts"][0]["pictures"][3] |= change
    folder = made_up_runs.write(tmp_path / "run", made_up_runs.summary(made_up_runs.DIGITS), answers)
    with pytest.raises(ValueError, match="answers.json") as refused:
        write_page(folder, read_summary(folder))
    assert "\n" not in str(refused.value)


def test_the_same_folder_gives_the_same_bytes(runs: Path, tmp_path: Path):
    folder = shutil.copytree(runs / "mixture", tmp_path / "mixture")
    found = []
    for _ in range(2):
        write_page(folder, read_summary(folder))
        found.append({path: path.read_bytes() for path in folder.rglob("*.html")})
    assert found[0] == found[1]


def test_a_page_of_someone_else_is_not_replaced(runs: Path, tmp_path: Path):
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="is no report of datafree; give another --page"):
        write_comparison([runs / "measured"], tmp_path / "mine.html", "x")
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"


def test_settings_that_differ_are_listed(runs: Path, tmp_path: Path):
    for name, seed in (("a", 0), ("b", 1)):
        summary = made_up_runs.summary(made_up_runs.DIGITS)
        made_up_runs.write(tmp_path / name, summary | {"experiment": summary["experiment"] | {"seed": seed}})
    write_comparison([tmp_path / "a", tmp_path / "b"], tmp_path / "c.html", "x")
    text = (tmp_path / "c.html").read_text()
    rows = text[text.index("Settings that differ") :]
    assert "<td>seed</td><td>0</td><td>1</td>" in rows and "task.teacher" not in rows
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["experiment"]["seed"] == 0
