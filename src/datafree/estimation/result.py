"""What is said about a student: its retention with an interval, a word, and one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any, Literal

UNTESTED = (
    " Estimates were tuned on grey images; the four students of photographs that were tried were underrated by 16 "
    "points."
)
"""said besides of colour images: of a teacher of CIFAR-10 at 32 x 32; see `benchmarks/results/estimate.md`"""
REFUSED = "Retention was not estimated: "
"""how the sentence about a student begins that is not estimated"""
Word = Literal["good", "doubtful", "collapsed", "not estimated"]

GOOD, DOUBTFUL = 0.90, 0.75
"""smallest S of a good and of a doubtful student"""
BOUND = 0.85
"""below it S is more often too high than too low: the agreement of weak students is overrated"""
LOST = 0.3
"""S of a class below which it counts as lost"""
WIDE, NARROW = 1.8, 0.5
"""factors of 1 - S at the low and at the high end of the interval"""
MARGIN = 0.005
"""added at both ends: quantised networks that keep all of their accuracy have an S of .99 or more, and would lie outside"""
MAX_NAMED = 5
"""lost classes that a sentence names"""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How much of its teacher's accuracy a student keeps, estimated without real images."""

    retention: float | None
    """accuracy of the student divided by that of the teacher, from 0 to 1; None if it was not estimated"""
    low: float | None = None
    """lower end of the interval that covered 9 of 10 students of the benchmark"""
    high: float | None = None
    """upper end of the interval"""
    word: Word
    """good, doubtful or collapsed; or not estimated"""
    accuracy: float | None = None
    """retention times the accuracy of the teacher, if that is known"""
    per_class: list[float] = field(default_factory=list)
    """retention of each class of the teacher; empty if there are too few images for that"""
    lost_classes: list[str] = field(default_factory=list)
    """names of the classes that the student does not know"""
    images: int = 0
    """pool images that student and teacher were compared on"""
    pools: dict[str, int] = field(default_factory=dict)
    """pool images by family"""
    own_agreement: float | None = None
    """stability-weighted agreement on the student's own kind of images; None if it was not measured"""
    often_overrated: bool = False
    """whether such students are more often overrated than underrated, as weak ones and those of several teachers are"""
    real_agreement: float | None = None
    """share of unlabelled real pictures on which both decide the same; None if there were none"""
    real_images: int = 0
    """number of these pictures"""
    sentence: str
    """the result, or why there is none"""

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON values."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """Return the estimate as a notebook shows it: the sentence on a line in the colour of the word."""
        colour = {"good": "#2c7a4b", "doubtful": "#b07a10", "collapsed": "#c9392f"}.get(self.word, "#8a857d")
        style = f"font-family:system-ui,sans-serif;border-left:4px solid {colour};padding:.2rem 0 .2rem 1rem"
        rest = f"<br><span>Pool images by family: {listed(self.pools)}.</span>" if self.pools else ""
        return f'<div style="{style}"><b>{escape(self.word)}.</b> {escape(self.sentence)}{rest}</div>'


def listed(pools: Mapping[str, int]) -> str:
    """Return the families and their images as HTML."""
    return escape(", ".join(f"{name} {count:,}" for name, count in pools.items()))


def not_estimated(reason: str, **values: Any) -> Estimate:
    """Return an estimate without a result.

    Args:
        reason: Why, as the second half of a sentence.
        values: Further fields.
    """
    return Estimate(retention=None, word="not estimated", sentence=f"{REFUSED}{reason}.", **values)


def interval(total: float, deviation: float = 0.0) -> tuple[float, float]:
    r"""Return the interval of a retention.

    .. math:: 1 - 1.8 (1 - S) - \delta - 0.005 \;\dots\; 1 - 0.5 (1 - S) + \delta + 0.005

    Args:
        total: S, the stability-weighted agreement.
        deviation: :math:`\delta`, what few images and families add; see `datafree.estimation.agreement`.

    Returns:
        Both ends, within [0, 1].
    """
    low, high = 1 - WIDE * (1 - total), 1 - NARROW * (1 - total)
    low, high = low - deviation - MARGIN, high + deviation + MARGIN
    return max(0.0, low), min(1.0, high)


def word_for(total: float, own: float | None = None) -> Word:
    """Return the word for a stability-weighted agreement.

    A student that does not agree with its teacher even on the kind of images that it was trained on is not good: it has not
    learned them, and what it has not learned it does not know elsewhere.

    Args:
        total: S, on the images of other families.
        own: The same on images of the student's own families; None if there are none.
    """
    if total >= GOOD and (own is None or own >= GOOD):
        return "good"
    return "doubtful" if total >= DOUBTFUL else "collapsed"


def is_often_overrated(total: float, *, several: bool = False, grey: bool = True) -> bool:
    """Return whether a student is of a kind that is overrated more often than underrated; with colour images none is.

    Args:
        total: S, the stability-weighted agreement.
        several: Whether the student has several teachers. On the benchmark 21 of 24 such students are overrated, by 9 points
            in the mean; of the weak grey ones with one teacher, 31 of 49.
        grey: Whether the images are grey.
    """
    return grey and (several or total < BOUND)


def sentence_for(
    total: float,
    ends: tuple[float, float],
    word: Word,
    lost: Sequence[str],
    accuracy: float | None,
    images: int,
    *,
    often_overrated: bool = False,
    grey: bool = True,
    own: float | None = None,
) -> str:
    """Return the result in one sentence or two, and for colour images a third one: the estimate was tested on grey images."""
    low, high = (f"{100 * end:.0f}" for end in ends)
    what = f"The student keeps about {100 * total:.0f} % of its teacher's accuracy ({low} to {high} %)"
    if accuracy is not None:
        what += f", so its accuracy is about {100 * accuracy:.0f} %"
    verdict = {"good": "good", "doubtful": "doubtful", "collapsed": "it has collapsed"}[word]
    text = f"{what}: {verdict}; estimated on {images:,} synthesized images, without real ones."
    if often_overrated:
        text += " Such students are overrated more often than underrated."
    if own is not None and word_for(total) != word:
        text += f" It agrees with its teacher on only {100 * own:.0f} % of the kind of images that it was trained on."
    if lost:
        named = ", ".join(lost[:MAX_NAMED]) + (f" and {len(lost) - MAX_NAMED} more" if len(lost) > MAX_NAMED else "")
        text += f" Class {named} was lost." if len(lost) == 1 else f" Classes {named} were lost."
    return text if grey else text + UNTESTED


def lost_classes(per_class: Sequence[float], names: Sequence[str]) -> list[str]:
    """Return the names of the classes whose retention is below `LOST`."""
    return [name for name, value in zip(names, per_class, strict=True) if value < LOST]
