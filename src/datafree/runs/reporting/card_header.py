"""What the header of a student's model card says, from the summary of its run."""

from collections.abc import Mapping
from typing import Any

from datafree.export.cards import Header, Measured, Relation
from datafree.files.validation import CONFIG
from datafree.runs.reading.summary import held_out
from datafree.teachers.origins import Origin, origin_of

RELATIONS: dict[str, Relation] = {"AmalgamationTask": "merge"}
"""task: how its student relates to its teachers; all other students are fine-tuned from one"""


def header_of(summary: Mapping[str, Any], library: str) -> Header:
    """Return the header of a student's model card.

    Args:
        summary: The summary of the run.
        library: The library that loads the student, by its name on the hub.
    """
    task = summary["experiment"]["task"]
    teachers = origins_of(task)
    with_pictures = any(entry["purpose"] == "student training (pictures)" for entry in summary.get("ledger", []))
    kind = "pruning" if summary.get("pruned") else "knowledge-distillation"
    names = "+".join(short_name(origin.spec) for origin in teachers)
    return Header(
        name=f"student of {names}",
        library=library,
        tags=(library, *(() if with_pictures else ("data-free",)), kind),
        origins=teachers,
        relation=RELATIONS.get(task.get(CONFIG, ""), "finetune"),
        measured=measured_in(summary),
    )


def origins_of(task: Mapping[str, Any]) -> tuple[Origin, ...]:
    """Return where the weights of the teachers of a task come from."""
    teachers, weights = task.get("teacher", ()), task.get("weights", "")
    return tuple(origin_of(spec, weights) for spec in ([teachers] if isinstance(teachers, str) else teachers))


def measured_in(summary: Mapping[str, Any]) -> tuple[Measured, ...]:
    """Return the held-out score of the student, if it was measured on labelled real images."""
    student, task = summary["student"], summary["experiment"]["task"]
    value = held_out(student)
    if value is None:
        return ()
    metric = "mean_average_precision" if student.get("average_precision") else "accuracy"
    return (Measured(metric=metric, value=value, data=data_name(task)),)


def data_name(task: Mapping[str, Any]) -> str:
    """Return the name of the images on which a student was evaluated; the path of a folder is private."""
    sources = [str(task.get(entry) or "") for entry in ("data", "new_data")]
    names = ["folder" if source.startswith("folder:") else source for source in sources if source]
    return " + ".join(names) or "real images"


def short_name(spec: str) -> str:
    """Return the last part of the name or the path of a network."""
    return spec.rstrip("/").rpartition("/")[2].rpartition(":")[2] or spec
