"""Where a network comes from that a command was given: the run that trained it, if it is the student of one."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datafree.classifier import Classifier, fingerprint
from datafree.export.cards import Header, Relation
from datafree.runs.reading.layout import SUMMARY
from datafree.runs.reading.summary import held_out, read_summary
from datafree.runs.reporting.card_header import header_of, short_name
from datafree.teachers.folders import LOCAL
from datafree.teachers.origins import origin_of
from datafree.types import InputError


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a network comes from."""

    header: Header
    """of its model card"""
    facts: dict[str, Any]
    """what the metadata of a file say, by name"""


def provenance_of(
    spec: str, classifier: Classifier, *, weights: str = "", library: str, relation: Relation = "", name: str = ""
) -> Provenance:
    """Return where a network comes from, for a file or a folder that is made from it.

    Args:
        spec: How it was named.
        classifier: The network.
        weights: The weights file that was named with it.
        library: The library that loads what is made, by its name on the hub.
        relation: How what is made relates to the network; empty: it is the same network, so that the relation of the network
            to its own teachers stays.
        name: Name of what is made; default: that of the network.
    """
    sha256 = fingerprint(classifier.model)
    summary = run_of(spec, sha256)
    if summary is None:
        origin = origin_of(spec, weights)
        header = Header(
            name=name or short_name(spec), library=library, tags=(library,), origins=(origin,), relation=relation
        )
        return Provenance(header=header, facts={"network": short_name(spec)})
    header = header_of(summary, library)
    return Provenance(
        header=replace(header, name=name or header.name, relation=relation or header.relation),
        facts={
            "network": header.name,
            "method": summary["method"],
            "teacher_sha256": summary["teacher_sha256"],
            **({"held_out": held_out(summary["student"])} if held_out(summary["student"]) is not None else {}),
        },
    )


def run_of(spec: str, sha256: str) -> dict[str, Any] | None:
    """Return the summary of the run whose student a network is; None if it is not a student, or was changed since.

    Args:
        spec: How the network was named.
        sha256: The hash of its weights.
    """
    folder = Path(spec.removeprefix(LOCAL))
    run = (folder.parent if folder.is_file() else folder).resolve().parent
    if not (run / SUMMARY).is_file():
        return None
    try:
        summary = read_summary(run)
    except (InputError, OSError):  # a folder beside which there is something else
        return None
    return summary if summary["student_sha256"] == sha256 else None
