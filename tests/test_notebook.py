"""A classifier and a result in a notebook: a small table of its own, in which names of classes are inert."""

from html.parser import HTMLParser
from pathlib import Path

import toys

from datafree.classifier import Classifier
from datafree.ensemble import Ensemble
from datafree.notebook import NAMED
from datafree.runs.experiment import Result, run
from datafree.teachers import create

HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m&\u202e\"'"


class Reader(HTMLParser):
    """Collects the elements, attributes and texts of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str]] = set()
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {(name, value or "") for name, value in attrs}
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, "elements are closed in order"

    def handle_data(self, data: str) -> None:
        self.text += data + "|"


def test_a_classifier_is_a_small_table():
    network = create("convnet_w16", classes=("zero", "one"), shape=(1, 8, 8), mean=(0.25,), std=(0.5,))
    network.notes = ("first note", "second note")
    page = Reader(network._repr_html_())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert page.text == (
        f"network|convnet_w16|parameters|{parameters:,}|image|1 x 8 x 8, pixels in [0, 1]|mean, std|0.25; 0.5|"
        "classes|2: zero, one|notes|first note; second note|"
    )
    assert page.tags == {"table", "tbody", "tr", "th", "td"} and not page.open
    assert {name for name, _ in page.attributes} == {"style"}


def test_several_labels_many_classes_and_networks_of_ones_own():
    network = Classifier(toys.conv_net().model, shape=toys.SHAPE, classes=1000, multi_label=True)
    text = Reader(network._repr_html_()).text
    assert "|ConvNet|" in text
    assert "1,000, several per image: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 990 more|" in text
    assert "notes" not in text
    function = Classifier(lambda images: images.flatten(1)[:, :3], shape=toys.SHAPE, classes=3)
    assert "|FunctionNetwork|parameters|0|" in Reader(function._repr_html_()).text
    ensemble = Ensemble([create("convnet_w16", classes=names, shape=(1, 8, 8)) for names in (("a", "b"), ("c", "d"))])
    assert "|Ensemble of 2|" in Reader(ensemble._repr_html_()).text


def test_hostile_names_stay_inert():
    names = (HOSTILE, "</td></table><script>alert(1)</script>", "x" * 10_000, *map(str, range(20)))
    network = create("convnet_w16", classes=names, shape=(1, 8, 8))
    network.notes = (HOSTILE,)
    network.model.pretrained_cfg = {"architecture": HOSTILE}  # type: ignore[assignment]
    html = network._repr_html_()
    page = Reader(html)
    assert page.tags == {"table", "tbody", "tr", "th", "td"} and not page.open
    assert "<img src=x onerror=alert(1)>" in page.text, "it is shown as text"
    assert "\x1b" not in html and "\u202e" not in html
    assert len(html) < 5000 and f"and {len(names) - NAMED} more" in page.text


def test_a_result_shows_hostile_names_as_text(digits_teacher: Path, tmp_path: Path):
    result = run(toys.experiment(digits_teacher), tmp_path / "run")
    plain = Reader(result._repr_html_())
    summary = {**result.summary, "classes": [HOSTILE] * 10}
    summary["experiment"] = {**summary["experiment"], "task": {**summary["experiment"]["task"], "student": HOSTILE}}
    summary["verdict"] = {
        **summary["verdict"],
        "findings": [{"sentence": HOSTILE, "advice": HOSTILE, "level": "fault"}],
    }
    html = Result(result.student, summary, tmp_path / "run")._repr_html_()
    page = Reader(html)
    assert {"div", "table"} <= plain.tags and "script" not in plain.tags
    assert page.tags <= plain.tags | {"b", "code"} and "teacher" in page.text and "student" in page.text
    assert all(value.startswith("data:image/") for name, value in page.attributes if name in ("src", "href"))
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "\x1b" not in html and "\u202e" not in html
    assert "onerror=alert(1)" in page.text
