"""The rules of the verdict: each compares what was measured with the range of runs that went well.

The ranges come from runs on digits, MNIST and CIFAR-10; a run outside of one may still be good, so most rules only warn.
"""

import math
import re
import statistics
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from datafree.runs.verdict.evidence import Evidence

Level = Literal["note", "warning", "fault"]
LEVELS: tuple[Level, ...] = ("note", "warning", "fault")
"""levels of a finding, from what is worth knowing to what ruins a run"""
LEAST_LINES = 10
"""logged steps of the student below which nothing is said about its loss"""
LEAST_CHECKS = 3
"""checked batches in a third of a run below which nothing is said about a trend"""


@dataclass(frozen=True)
class Rule:
    """What is compared, with which range, and what to do outside of it."""

    name: str
    value: str
    """what is measured"""
    range: str
    """values of runs that went well"""
    meaning: str
    """what a value outside of the range means"""
    advice: str
    """what to do then, without a full stop"""
    while_it_runs: bool = False
    """whether faults are said as soon as they are found, not only at the end"""


@dataclass(frozen=True)
class Finding:
    """A value outside of the range of a rule."""

    rule: str
    level: Level
    value: float
    range: str
    sentence: str
    advice: str

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as JSON."""
        return asdict(self)


Found = tuple[Level, float, str] | tuple[Level, float, str, str]
"""level, value and sentence of a finding, and the part of a mixture that it is about"""
Check = Callable[[Evidence], Iterator[Found]]
"""yields what is outside of the range"""
OF_PARTS = re.compile(r"`--(?:method\.|(?=(?:warmup|pool)-batches`))")
"""how options begin that each part of a mixture has: those of its method and of its schedule"""
RULES: dict[str, tuple[Rule, Check]] = {}
"""all rules by name, with their checks"""


def rule(rule: Rule) -> Callable[[Check], Check]:
    """Register the check of a rule."""

    def register(check: Check) -> Check:
        RULES[rule.name] = rule, check
        return check

    return register


def findings(evidence: Evidence, *, while_it_runs: bool = False) -> list[Finding]:
    """Return what is outside of the range of its rule, the worst first.

    Args:
        evidence: What is known about the run.
        while_it_runs: Only check the rules that can be checked before the end.
    """
    found = [
        Finding(rule.name, level, round(value, 4), rule.range, sentence, for_part(rule.advice, *part))
        for rule, check in RULES.values()
        if rule.while_it_runs or not while_it_runs
        for level, value, sentence, *part in check(evidence)
    ]
    return sorted(found, key=lambda finding: -LEVELS.index(finding.level))


def level_below(value: float, warning: float, fault: float) -> Level | None:
    """Return how bad a value is that should be high; None if it is not."""
    return "fault" if value < fault else "warning" if value < warning else None


def level_above(value: float, warning: float, fault: float = math.inf) -> Level | None:
    """Return how bad a value is that should be low; None if it is not."""
    return "fault" if value > fault else "warning" if value > warning else None


def for_part(advice: str, part: str = "") -> str:
    """Return an advice with the options of a part of a mixture, such as `--method.refine.steps`."""
    return OF_PARTS.sub(rf"`--method.{part}.", advice) if part else advice


def of(part: str) -> str:
    """Return the name of a part for a sentence."""
    return f" of {part}" if part else ""


@rule(
    Rule(
        "one class",
        "`class_balance` of the latest batches, divided by what their number of images can reach",
        "0.5 or more",
        "The teacher predicts the same class on nearly all images, so the student learns little about the others.",
        "use another method; or balance the classes: with a generator by `--method.entropy`, with an inversion by "
        "`--method.targets balanced`",
        while_it_runs=True,
    )
)
def one_class(evidence: Evidence) -> Iterator[Found]:
    """Check `one class`."""
    for part in evidence.parts:
        balance, images = evidence.latest(part, "class_balance"), evidence.batch_images.get(part, 0)
        if balance is None or min(images, evidence.classes) < 2:
            continue
        reached = balance * math.log(evidence.classes) / math.log(min(images, evidence.classes))
        if level := level_below(reached, 0.5, 0.1):
            few = (
                "nearly all images{} are of one class" if level == "fault" else "few classes have most of the images{}"
            )
            yield level, reached, f"{few.format(of(part))} (class balance {reached:.2f})", part


@rule(
    Rule(
        "near-duplicates",
        "`duplicates` of the latest batches",
        "0.2 or less",
        "Images repeat each other, so there are fewer of them than it seems: a generator has collapsed, or all images start "
        "from the same picture.",
        "use another seed; with a generator, lower `--method.lr`, or reset it more often (`--method.reset-every`)",
        while_it_runs=True,
    )
)
def near_duplicates(evidence: Evidence) -> Iterator[Found]:
    """Check `near-duplicates`."""
    for part in evidence.parts:
        share = evidence.latest(part, "duplicates")
        if share is not None and (level := level_above(share, 0.2, 0.9)):
            yield (
                level,
                share,
                f"{100 * share:.0f} % of the images{of(part)} have a near-duplicate in their batch",
                part,
            )


@rule(
    Rule(
        "labels per image",
        "`labels_per_image` of the latest batches, for multi-label teachers",
        "0.5 or more",
        "Almost no image has a label: empty images minimise one-hot and sparsity losses.",
        "try another seed, or lower the one-hot and sparsity weights",
        while_it_runs=True,
    )
)
def labels_per_image(evidence: Evidence) -> Iterator[Found]:
    """Check `labels per image`."""
    for part in evidence.parts:
        labels = evidence.latest(part, "labels_per_image")
        if labels is not None and (level := level_below(labels, 0.5, 0.1)):
            yield level, labels, f"almost no image{of(part)} has a label ({labels:.2f} labels per image)", part


@rule(
    Rule(
        "teacher unsure",
        "`confidence` of the latest batches, on a scale from 0 at chance level to 1",
        "0.2 or more",
        "The teacher recognises nothing on the images: its answers on them say little about its classes.",
        "use a method that optimizes images for the teacher, such as deep-inversion or fast; check the mean "
        "and std of the teacher",
        while_it_runs=True,
    )
)
def teacher_unsure(evidence: Evidence) -> Iterator[Found]:
    """Check `teacher unsure`."""
    chance = 1 / max(2, evidence.classes)
    for part in evidence.parts:
        confidence = evidence.latest(part, "confidence")
        if confidence is None or evidence.signals(part, "labels_per_image"):
            continue
        scaled = (confidence - chance) / (1 - chance)
        if level := level_below(scaled, 0.2, 0.05):
            yield (
                level,
                scaled,
                f"the teacher is unsure of every image{of(part)} (mean confidence {confidence:.2f})",
                part,
            )


@rule(
    Rule(
        "classes not reached",
        "`on_target` of the latest batches, for methods that choose the class of each image",
        "0.8 or more",
        "The optimization of the images did not reach its class term: the teacher predicts other classes than intended.",
        "optimize the images in more steps (`--method.steps`), or lower the weights of the other terms",
        while_it_runs=True,
    )
)
def classes_not_reached(evidence: Evidence) -> Iterator[Found]:
    """Check `classes not reached`."""
    for part in evidence.parts:
        share = evidence.latest(part, "on_target")
        if evidence.aims and share is not None and (level := level_below(share, 0.8, 0.3)):
            yield (
                level,
                share,
                f"only {100 * share:.0f} % of the images{of(part)} are predicted as their target class",
                part,
            )


@rule(
    Rule(
        "statistics not converged",
        "`relative_statistics` of the latest batches, for objectives with the term `statistics`",
        "0.3 or less",
        "The features of the images are far from those of the training data, although the objective asks for it.",
        "optimize the images in more steps (`--method.steps`), raise the weight of the statistics "
        "(`--method.statistics`), or use larger batches",
    )
)
def statistics_not_converged(evidence: Evidence) -> Iterator[Found]:
    """Check `statistics not converged`."""
    for part in evidence.parts:
        distance = evidence.latest(part, "relative_statistics")
        if evidence.has_term(part, "statistics") and distance is not None and (level := level_above(distance, 0.3, 3)):
            sentence = f"the feature statistics of the images{of(part)} have not converged ({distance:.2f})"
            yield level, distance, sentence, part


@rule(
    Rule(
        "few images",
        "synthesized images per class of the teacher",
        "50 or more",
        "The student sees few different images of each class.",
        "synthesize more (`--warmup-batches`, `--budget`), or add a cheap source (`--method "
        "procedural:0.7,deep-inversion:0.3`)",
    )
)
def few_images(evidence: Evidence) -> Iterator[Found]:
    """Check `few images`."""
    total = sum(evidence.images.values())
    if not total or not evidence.classes:
        return
    each = total / evidence.classes
    if level := level_below(each, 50, 5):
        yield level, each, f"there are {total:,} images for {evidence.classes:,} classes, {each:.1f} per class"


@rule(
    Rule(
        "agreement falling",
        "fall of `agreement` from the best third of a run to its last third",
        "0.1 or less",
        "The student agrees less and less with the teacher on new images: it forgets, or the images run away from it.",
        "store more images (`--pool-batches`), or lower the weight of the adversary or the competition",
    )
)
def agreement_falling(evidence: Evidence) -> Iterator[Found]:
    """Check `agreement falling`."""
    for part in evidence.parts:
        values = evidence.signals(part, "agreement")
        third = len(values) // 3
        if third < LEAST_CHECKS:
            continue
        thirds = [statistics.fmean(values[start : start + third]) for start in (0, third, len(values) - third)]
        fall = max(thirds) - thirds[-1]
        if level := level_above(fall, 0.1, 0.3):
            sentence = (
                f"the agreement on new images{of(part)} fell from {100 * max(thirds):.0f} % to {100 * thirds[-1]:.0f} %"
            )
            yield level, fall, sentence, part


@rule(
    Rule(
        "learning rate too high",
        "largest loss of the training, divided by the loss of its first step",
        "2 or less",
        "The loss of the student rose far above that of an untrained student.",
        "lower `--lr`, or raise it more slowly (`--lr-warmup`)",
    )
)
def learning_rate_too_high(evidence: Evidence) -> Iterator[Found]:
    """Check `learning rate too high`."""
    losses = evidence.losses
    if len(losses) < LEAST_LINES or losses[0] <= 0:
        return
    ratio = max(losses) / losses[0]
    if level := level_above(ratio, 2, 20):
        yield level, ratio, f"the loss of the student rose to {ratio:,.1f} times the loss of its first step"


@rule(
    Rule(
        "still learning",
        "mean loss of the last fifth of the training, divided by that of the fifth before",
        "0.6 or more",
        "The loss of the student was still falling fast when its training ended.",
        "use more steps (`--steps`, `--budget`)",
    )
)
def still_learning(evidence: Evidence) -> Iterator[Found]:
    """Check `still learning`."""
    losses = evidence.losses
    fifth = len(losses) // 5
    if len(losses) < LEAST_LINES:
        return
    before, last = (statistics.fmean(losses[start : start + fifth]) for start in (-2 * fifth, len(losses) - fifth))
    if before > 0 and last / before < 0.6:
        yield (
            "warning",
            last / before,
            f"the student was still learning: its loss fell by {100 * (1 - last / before):.0f} % in the last fifth",
        )


@rule(
    Rule(
        "student does not fit",
        "agreement of the finished student with the teacher on images that it was trained on",
        "0.75 or more",
        "The student does not even reproduce the teacher on its own training images: it is too small or learned too little.",
        "use more steps (`--steps`, `--budget`), another learning rate (`--lr`), or a larger student",
    )
)
def student_does_not_fit(evidence: Evidence) -> Iterator[Found]:
    """Check `student does not fit`."""
    agreement = evidence.probe.get("agreement")
    if agreement is not None and (level := level_below(agreement, 0.75, 0.5)):
        yield (
            level,
            agreement,
            f"the student agrees with the teacher on only {100 * agreement:.0f} % of its training images",
        )


@rule(
    Rule(
        "batch norm not settled",
        "fraction of images that the student predicts alike with its running statistics and with those of the images",
        "0.8 or more",
        "The running statistics of the student's batch norm do not fit its weights, so it predicts badly outside of training.",
        "use more steps (`--steps`, `--budget`), or a lower learning rate (`--lr`)",
    )
)
def batch_norm_not_settled(evidence: Evidence) -> Iterator[Found]:
    """Check `batch norm not settled`."""
    same = evidence.probe.get("settled")
    if same is not None and (level := level_below(same, 0.8, 0.5)):
        yield (
            level,
            same,
            f"with its own running statistics the student predicts {100 * (1 - same):.0f} % of its images differently",
        )
