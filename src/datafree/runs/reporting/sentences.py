"""Sentences about a run, for the model card and the report."""

from collections.abc import Iterator, Mapping
from typing import Any

from datafree.errors import printable
from datafree.runs.reading.summary import StudentStart, held_out

SHOWN = 3
"""findings of a verdict on the console"""


def percent(fraction: float | None) -> str:
    """Format a fraction as a percentage; "-" for None."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def costs(network: Mapping[str, Any]) -> str:
    """Return the size and the latency of a network as a phrase."""
    operations = "MACs not counted" if network["macs"] is None else f"{network['macs']:,} MACs"
    return (
        f"{network['parameters']:,} parameters, {operations}, {network['milliseconds']:.2f} ms per image "
        "on the machine of the run"
    )


def pruning(summary: Mapping[str, Any]) -> str:
    """Return one sentence about what was pruned; empty if nothing was."""
    pruned = summary.get("pruned")
    if not pruned:
        return ""
    before, after = pruned["filters_before"], pruned["filters_after"]
    wanted = f" Target {pruned['target']}: {pruned['reached']} was reached." if pruned.get("target") else ""
    if pruned.get("multiple", 1) > 1:
        wanted += f" Layers that lost filters have a multiple of {pruned['multiple']}."
    return (
        f"{percent(1 - after / before)} of the filters ({before - after:,} of {before:,}) were pruned "
        f"in {pruned['rounds']} rounds.{wanted}"
    )


def real_images(summary: Mapping[str, Any]) -> str:
    """Return one or two sentences about the number of real images that the student and the method used."""
    seen, new = summary["real_images_seen"], summary.get("new_class_images_seen")
    if new is None:
        sentence = f"Real images seen by the student: {seen:,}."
    else:
        sentence = f"Real images seen by the student: {seen:,} of the old classes and {new:,} of the new classes."
    if start := summary.get("student_start"):
        sentence = f"{sentence[:-1]} in this run; it started from the weights in {StudentStart(**start).sentence}."
    if folders := pictures(summary):
        sentence += f" They include {folders}: this run is not data-free."
    measured = summary.get("real_images_measured", 0)
    return f"{sentence} Real images used to measure feature statistics: {measured:,}." if measured else sentence


def pictures(summary: Mapping[str, Any]) -> str:
    """Return how many unlabelled pictures of which folders the student saw; empty if there are none."""
    entries = [entry for entry in summary.get("ledger", []) if entry["purpose"] == "student training (pictures)"]
    folders = {printable(entry["source"].removeprefix("unlabelled:")): entry["images"] or 0 for entry in entries}
    return " and ".join(
        f"{images:,} unlabelled {'picture' if images == 1 else 'pictures'} from {folder}"
        for folder, images in folders.items()
    )


def old_and_new_classes(evaluation: Mapping[str, Any]) -> str:
    """Return one sentence about the accuracy on old and on new classes; empty if there are no new classes."""
    old, new = evaluation.get("old_classes_accuracy"), evaluation.get("new_classes_accuracy")
    if old is None or new is None:
        return ""
    return f"Old classes {percent(old)}, new classes {percent(new)}, mean of both {percent((old + new) / 2)}."


def results(summary: Mapping[str, Any]) -> str:
    """Return the held-out accuracy of student and teacher in one or two sentences."""
    student, teacher = summary["student"], summary["teacher"]
    if "accuracy" not in student:
        return unscored(student)
    measure = "mean average precision" if student.get("average_precision") else "accuracy"
    sentence = (
        f"Held-out {measure}: {percent(held_out(student))} (teacher: {percent(held_out(teacher))}), evaluated once, at "
        f"the end, on {student['images']:,} real images."
    )
    return f"{sentence} {old_and_new_classes(student)}".strip()


def unscored(student: Mapping[str, Any]) -> str:
    """Return what is known about a student without labelled images: its agreement with the teacher, or nothing."""
    if student.get("agreement") is None:
        return "The student was not evaluated, since no real images were given."
    return (
        f"The student predicts the same as the teacher on {percent(student['agreement'])} of {student['images']:,} real "
        "images, compared once, at the end. They have no labels, so no accuracy is known."
    )


def verdict_lines(verdict: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the lines of a verdict on the console: a label of up to eight letters, and a text."""
    yield "verdict", f"{verdict['word']}: {verdict['sentence']}"
    shown = verdict["findings"][:SHOWN]
    for finding in shown:
        advice = finding.get("advice", "").replace("`", "")
        yield finding["level"], f"{finding['sentence']}; {advice}" if advice else finding["sentence"]
    if rest := len(verdict["findings"]) - len(shown):
        yield "more", f"{rest} more in the report"
