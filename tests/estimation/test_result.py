"""The interval, the words and the sentence of an estimate."""

import json

import pytest

from datafree.estimation.result import (
    UNTESTED,
    Estimate,
    interval,
    is_often_overrated,
    lost_classes,
    not_estimated,
    sentence_for,
    word_for,
)


@pytest.mark.parametrize(
    ("total", "word"),
    [(1.0, "good"), (0.9, "good"), (0.8999, "doubtful"), (0.75, "doubtful"), (0.7499, "collapsed"), (0.1, "collapsed")],
)
def test_words(total: float, word: str):
    assert word_for(total) == word


@pytest.mark.parametrize(("own", "word"), [(0.9, "good"), (0.89, "doubtful"), (0.1, "doubtful"), (None, "good")])
def test_a_student_that_has_not_learned_its_own_kind_of_images_is_not_good(own: float | None, word: str):
    assert word_for(0.95, own) == word
    assert word_for(0.8, own) == "doubtful" and word_for(0.7, own) == "collapsed"


class TestInterval:
    def test_it_contains_the_estimate_and_stays_within_zero_and_one(self):
        for hundredths in range(101):
            total = hundredths / 100
            low, high = interval(total, 0.02)
            assert 0 <= low <= total <= high <= 1

    def test_fewer_images_widen_it(self):
        (low, high), (lower, higher) = interval(0.9, 0.005), interval(0.9, 0.05)
        assert lower < low
        assert high < higher


class TestSentence:
    def test_a_good_student(self):
        sentence = sentence_for(0.961, (0.93, 0.98), "good", [], 0.951, 1440)
        assert sentence == (
            "The student keeps about 96 % of its teacher's accuracy (93 to 98 %), so its accuracy is about 95 %: good; "
            "estimated on 1,440 synthesized images, without real ones."
        )

    def test_a_weak_student_is_often_overrated(self):
        assert is_often_overrated(0.6)
        sentence = sentence_for(0.6, (0.2, 0.8), "collapsed", [], None, 500, often_overrated=True)
        assert "keeps about 60 % of its teacher's accuracy (20 to 80 %): it has collapsed;" in sentence

    def test_good_students_have_one_if_they_have_several_teachers(self):
        assert not is_often_overrated(0.9)
        assert is_often_overrated(0.9, several=True)
        assert not is_often_overrated(0.6, several=True, grey=False)

    @pytest.mark.parametrize(
        ("lost", "text"),
        [
            (["cat"], " Class cat was lost."),
            (["cat", "dog"], " Classes cat, dog were lost."),
            ([str(number) for number in range(8)], " Classes 0, 1, 2, 3, 4 and 3 more were lost."),
        ],
    )
    def test_lost_classes_are_named(self, lost: list[str], text: str):
        assert sentence_for(0.8, (0.7, 0.9), "doubtful", lost, None, 500).endswith(text)


def test_a_class_below_a_third_is_lost():
    assert lost_classes([0.9, 0.29, 0.31], ["a", "b", "c"]) == ["b"]


def test_without_an_estimate_there_is_a_reason():
    found = not_estimated("the student saw real images", images=3)
    assert (found.retention, found.low, found.word, found.images) == (None, None, "not estimated", 3)
    assert found.sentence == "Retention was not estimated: the student saw real images."


def test_an_estimate_is_json():
    found = not_estimated("of a reason", pools={"zskd": 3})
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert Estimate(**plain) == found


class TestNotebook:
    def test_it_has_the_word_the_sentence_and_the_pools(self):
        found = Estimate(retention=0.9, word="good", sentence="It keeps 90 %.", pools={"zskd": 1200, "fast": 32})
        shown = found._repr_html_()
        assert "<b>good.</b> It keeps 90 %." in shown
        assert "zskd 1,200, fast 32." in shown

    def test_markup_in_names_of_classes_stays_inert(self):
        shown = not_estimated("class <script>alert(1)</script> is unknown")._repr_html_()
        assert "<script>" not in shown
        assert "&lt;script&gt;" in shown


def test_colour_images_are_said_to_be_untested():
    arguments = (0.55, (0.04, 0.92), "collapsed", [], None, 576)
    assert is_often_overrated(0.55) and not is_often_overrated(0.55, grey=False)
    assert UNTESTED not in sentence_for(*arguments)
    colour = sentence_for(*arguments, grey=False)
    assert "keeps about 55 %" in colour and colour.endswith(UNTESTED)
