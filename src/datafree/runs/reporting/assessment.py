"""What is measured at the end of a run: size, speed and quality of both networks, and what a report says about the run."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from datafree.classifier import Classifier
from datafree.evaluation import agreement_of, answers, class_places, evaluate_answers, measure
from datafree.progress import with_progress
from datafree.real.data import RealImages
from datafree.runs.reading.answers import Comparison
from datafree.runs.reporting.answers import compare, name_of, to_plain
from datafree.runs.reporting.command import repeating_command
from datafree.runs.settings import Experiment


def assess(
    model: Classifier, teacher: Classifier, test: RealImages | None, console: Console | None = None
) -> dict[str, Any]:
    """Measure the size and latency of a network and, given real images, evaluate it.

    Args:
        model: The network.
        teacher: The classifier that agreement is measured with; may be `model` itself.
        test: Held-out images; None: only measure.
        console: Where progress is shown; default: nowhere.

    Returns:
        The fields of `Cost` and, given real images, of `Evaluation`; only `agreement` and `images` if they have no labels.
    """
    return assess_and_compare(model, teacher, test, console)[0]


def assess_and_compare(
    model: Classifier, teacher: Classifier, test: RealImages | None, console: Console | None = None
) -> tuple[dict[str, Any], Comparison | None]:
    """Assess a network, and compare its answers with those of the teacher; see `assess`.

    Returns:
        The results of `assess`, and the comparison; None without real images.
    """
    costs = asdict(measure(model))
    if test is None:
        return costs, None
    class_places(teacher, model)  # refuses other classes before any image is read
    batches = with_progress(test.batches_for(model, teacher), len(test), "evaluate", console)
    logits, teacher_logits, truth = answers(model, teacher, batches)
    if not test.labelled:
        agreement = {"agreement": agreement_of(model, teacher, logits, teacher_logits), "images": len(logits)}
        return costs | agreement, compare(model, teacher, logits, teacher_logits)
    evaluation = asdict(evaluate_answers(model, teacher, logits, teacher_logits, truth))
    return costs | evaluation, compare(model, teacher, logits, teacher_logits, truth)


def assess_both(
    teacher: Classifier, student: Classifier, test: RealImages | None, console: Console | None
) -> dict[str, Any]:
    """Return the entries of a summary on the quality of teacher and student, and their comparison on real images."""
    own, compared = assess_and_compare(student, teacher, test, console)
    entries = {"teacher": assess(teacher, teacher, test, console), "student": own}
    return entries | ({"comparison": to_plain(compared)} if compared else {})


def about(experiment: Experiment, teacher: Classifier, student: Classifier) -> dict[str, Any]:
    """Return the entries of a summary that introduce a run: command, date and the names of the networks."""
    return {
        "command": repeating_command(experiment),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "networks": {"teacher": name_of(teacher), "student": name_of(student)},
    }
