"""The second line of a run: its device, its networks, and about how long it will take and how much memory it will need."""

from datafree.classifier import Classifier
from datafree.evaluation import count_parameters
from datafree.processes import is_sharded, local
from datafree.progress import Work
from datafree.progress.words import duration
from datafree.runs.hardware import peak_memory

LONG = 3600.0
"""seconds from which a run says how it can be shortened"""
BUDGET = "30m"
"""the budget that is proposed"""


def networks(
    teacher: Classifier, student: Classifier, work: Work, *, closing: float = 0.0, resuming: bool = False
) -> str:
    """Return the device of a run, the sizes of its networks, and its expected time and memory.

    Args:
        teacher: The teacher.
        student: The student; on the device of the run, as the teacher.
        work: What there is to do, with its expected time and memory.
        closing: Seconds from the end of the work to that of the run.
        resuming: Whether a part of it was done before, so that another line says how much time is left.
    """
    sizes = (count_parameters(model) for model in (teacher, student))
    line = "{}, teacher {:,} parameters, student {:,} parameters".format(teacher.device, *sizes)
    if is_sharded(teacher):
        line += f" (of the teacher {sum(local(p).numel() for p in teacher.parameters()):,} in each process)"
    if work.seconds is None or work.bytes is None:
        return line
    space = memory(peak_memory() * 10**6 + work.bytes)
    return f"{line}, about {space}" if resuming else f"{line}, about {duration(work.seconds + closing)} and {space}"


def note_on_length(work: Work, *, synthesizes: bool) -> str:
    """Return that a run takes long, and how to shorten it; empty if it does not, or if its time is not known.

    Args:
        work: What there is to do, with its expected time.
        synthesizes: Whether images are synthesized, so that there can be a budget.
    """
    if work.seconds is None or work.seconds <= LONG:
        return ""
    shorter = "lower --steps"
    if synthesizes:
        shorter = f"--budget {BUDGET} does the same with fewer images and steps"
        if (work.synthesis_seconds or 0) < work.seconds / 2:
            shorter += ", and so does a lower --steps"
    return f"this run takes about {duration(work.seconds)}: {shorter}"


def memory(count: float) -> str:
    """Return a size in words: `40 MB`, `1.5 GB`, `12 GB`."""
    if count < 1e9:
        return f"{max(1, round(count / 1e6))} MB"
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"
