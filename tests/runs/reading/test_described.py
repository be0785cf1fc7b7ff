"""Settings that a file names as text are compared with those of today, and the text is never run."""

from dataclasses import replace
from pathlib import Path

import pytest

from datafree.methods import METHODS
from datafree.runs.reading.described import LONGEST, describes
from datafree.synthesis import Method, Schedule
from datafree.synthesis.mixture import Mixture, Part

MIXTURE = Mixture(
    parts=(
        Part(name="noise", method=METHODS["noise"], share=0.5),
        Part(name="dream", method=METHODS["deep-dream"], share=0.5),
    )
)


@pytest.mark.parametrize("settings", [*METHODS.values(), MIXTURE], ids=[*METHODS, "mixture"])
def test_settings_are_found_again_by_their_text(settings: Method):
    text = repr(settings)
    spaced = text.replace("=", " = ")
    assert describes(text, settings) and describes(spaced, settings)
    assert not describes(text, replace(settings, batch_size=settings.batch_size + 1))
    assert [name for name, other in METHODS.items() if describes(spaced, other)] == (
        [name for name, other in METHODS.items() if other == settings]
    )


def test_an_absent_setting_has_its_default_and_another_value_is_told_apart():
    schedule = Schedule()
    assert describes("Schedule()", schedule)
    assert describes(f"Schedule(batch_size={schedule.batch_size})", schedule)
    assert not describes(f"Schedule(batch_size={schedule.batch_size})", replace(schedule, batch_size=7))
    assert describes("Schedule(batch_size=7)", replace(schedule, batch_size=7))
    assert not describes("Schedule(unknown=7)", schedule)


def test_a_setting_that_was_renamed_is_understood():
    assert describes("DeepInversionConfig(spectrum='natural')", replace(METHODS["deep-inversion"], start="natural"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Schedule(",
        "Schedule(**{})",
        "Schedule(1)",
        "Unknown()",
        "Schedule(batch_size=[].append(1))",
        "Schedule(batch_size=-'a')",
        "Schedule(batch_size=inf)",
        "Schedule(batch_size=1j)",
        "Schedule(batch_size=9**9**9)",
        "Schedule(batch_size=1, batch_size=1)",
        "Schedule(batch_size=" + "(" * 3000 + ")" * 3000 + ")",
        "Schedule(batch_size=" + "-" * 9000 + "1)",
        "\0",
        "Schedule()" + " " * LONGEST,
    ],
    ids=lambda text: text[:30],
)
def test_what_is_no_settings_describes_nothing(text: str):
    assert not describes(text, Schedule())


def test_the_text_is_never_run(tmp_path: Path):
    assert not describes(f"open({str(tmp_path / 'made')!r}, 'w')", Schedule())
    assert not describes(f"Schedule(batch_size=open({str(tmp_path / 'made')!r}, 'w'))", Schedule())
    assert not (tmp_path / "made").exists()
