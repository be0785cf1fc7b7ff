"""What to propose in place of an option that does not exist: other tools' words, earlier names, the closest name."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datafree.commands.options.table import Command

SYNONYMS: dict[str, tuple[str, ...]] = {
    "--epochs": ("--steps",),
    "--iterations": ("--steps",),
    "--iters": ("--steps",),
    "--max-steps": ("--steps",),
    "--batch": ("--batch-size",),
    "--bs": ("--batch-size",),
    "-b": ("--batch-size",),
    "--learning-rate": ("--lr",),
    "--tau": ("--temperature",),
    "--sparsity": ("--ratio",),
    "--pruning-ratio": ("--ratio",),
    "--gpu": ("--device cuda",),
    "--gpus": ("--device cuda",),
    "--cuda": ("--device cuda",),
    "--cpu": ("--device cpu",),
    "--mps": ("--device mps",),
    "--accelerator": ("--device",),
    "--output": ("--out",),
    "--output-dir": ("--out",),
    "-o": ("--out",),
    "--dataset": ("--data",),
    "--data-dir": ("--data-root",),
    "--root": ("--data-root",),
    "--optim": ("--optimizer",),
    "--wd": ("--weight-decay",),
    "--amp": ("--precision 16-mixed",),
    "--bf16": ("--precision bf16-mixed",),
    "--fp16": ("--precision 16-mixed",),
    "--workers": ("--jobs", "--threads"),
    "--num-images": ("--images",),
    "--checkpoint": ("--checkpoint-interval", "--weights"),
    "--curve": ("--evaluation-interval",),
    "--warmup": ("--lr-warmup",),
    "--race": ("--method auto:race",),
    "--names": ("--shared-labels",),
    "--apart": ("--per-teacher",),
    "--model": ("NETWORK", "--teacher"),
    "--network": ("NETWORK", "--teacher"),
    "--teacher": ("NETWORK",),
    "--verifier": ("NETWORK",),
    "--images": ("IMAGES",),
    "--run": ("RUN",),
    "--table": ("TABLE",),
    "--schedule.show": ("--batch-size",),
    "--schedule.warmup": ("--warmup-batches",),
    "--schedule.every": ("--refresh-every",),
    "--schedule.keep": ("--pool-batches",),
    "--application.show": ("--new-batch-size",),
    "--application.looks": ("--importance-batches",),
    "--application.measure": ("--measure-batches",),
    "--application.warmup": ("--lr-warmup",),
    "--application.spread": ("--rounds-fraction",),
    "--application.look-temperature": ("--importance-temperature",),
    "--application.slice": ("--importance-slice",),
    "--application.macs": ("--macs-weight",),
    "--application.least": ("--min-kept",),
    "--application.blockwise": ("--blockwise-fraction",),
    "--application.feed": ("--generated-fraction",),
    "--application.points": ("--branch-points",),
    "--application.old": ("--old-weight",),
    "--application.new": ("--new-weight",),
    "--application.remember": ("--remember-weight",),
    "--application.local": ("--local-weight",),
    "--application.head": ("--head-weight",),
    "--application.features": ("--feature-weight",),
    "--method.batch": ("--method.batch-size",),
    "--method.show": ("--method.student-batch-size",),
    "--method.latent": ("--method.latent-size",),
    "--method.life": ("--method.reset-every",),
    "--method.skip": ("--method.discard-first",),
    "--method.reuse": ("--method.reuse-batch",),
    "--method.measured": ("--method.feature-statistics",),
    "--method.more": ("--method.extra-label-probability",),
    "--method.onehot": ("--method.one-hot",),
}
"""an option of another tool or an earlier version: what to propose, the first that the command has"""

PREFIXES = ("application.augment.", "training.augment.", "application.", "schedule.", "training.", "task.", "machine.")
"""of options in earlier versions"""

NOTES = {
    ("prune", "--student"): "a pruned network is always a copy of NETWORK",
    ("prune", "--inherit"): "a pruned network always keeps the weights of NETWORK",
    ("extend", "--student"): "the student is always a copy of the teacher with a wider last layer",
}
"""command and option: why it does not exist"""


def propose(name: str, verb: str, selected: Sequence[str], commands: Mapping[str, "Command"]) -> str:
    """Return the end of the error message about an unknown option; empty if nothing is close.

    Args:
        name: The unknown option, without its value.
        verb: The command.
        selected: The values of its selectors.
        commands: All commands.
    """
    if note := NOTES.get((verb, name)):
        return note
    command = commands[verb]
    known = [selector.name for selector in command.selectors]
    known += [option.name for option in command.options_of(selected)]
    plain = "--" + name.lstrip("-").lower().replace("_", "-") if name.startswith("--") else name
    short = next(("--" + plain[2 + len(p) :] for p in PREFIXES if plain.startswith("--" + p)), plain)
    candidates = (*SYNONYMS.get(plain, ()), *SYNONYMS.get(short, ()), short)
    for candidate in candidates:
        if candidate.split(" ")[0] in known:
            if candidate.isupper():
                return f"give it without an option: datafree {verb} {_positionals(known)}"
            return f"did you mean {candidate}?"
    if parts := of_which_part(plain, known):
        return parts
    if others := [key for key, options in command.options.items() if plain in {option.name for option in options}]:
        return _belongs_to(plain, command, selected, others)
    return _closest_option(plain, known, command, selected)


def _closest_option(name: str, known: Sequence[str], command: "Command", selected: Sequence[str]) -> str:
    """Propose the option with the most similar name; one of another selection with the values that have it."""
    elsewhere = {option.name for options in command.options.values() for option in options}
    if " ".join(selected) not in command.options:  # a mixture, whose options have the names of its parts
        elsewhere = set()
    near = closest(name, sorted(option for option in elsewhere.union(known) if option.startswith("--")))
    if near in known or not near:
        return f"did you mean {near}?" if near else ""
    owners = [key for key, options in command.options.items() if near in {option.name for option in options}]
    return f"did you mean {near} of {_selection(command, selected, owners)}?"


def _positionals(known: Iterable[str]) -> str:
    return " ".join(name for name in known if not name.startswith("-"))


def _belongs_to(name: str, command: "Command", selected: Sequence[str], others: Sequence[str]) -> str:
    """Say which values of a selector have the option; the selection differs in one selector at least."""
    owners = _selection(command, selected, others)
    for place, selector in enumerate(command.selectors):
        if owners.startswith(f"{selector.name} "):
            return f"only {owners} has it, and {selector.name} is {selected[place]}"
    return f"{name} is an option of {owners}"


def _selection(command: "Command", selected: Sequence[str], others: Sequence[str]) -> str:
    """Return the first selector whose value must change for one of the other selections, and its possible values."""
    for place, selector in enumerate(command.selectors):
        values = list(dict.fromkeys(key.split(" ")[place] for key in others))
        if selected[place] not in values:
            return f"{selector.name} {', '.join(values)}"
    return "another selection"


def of_which_part(name: str, known: Iterable[str]) -> str:
    """Return the end of the error message about an option that only exists for the parts of a mixture; else nothing.

    Args:
        name: The option as it is given, such as `--method.steps`.
        known: The options of the mixture.
    """
    setting = "." + name.removeprefix("--").removeprefix("method.")
    owners = [option for option in known if option.startswith("--method.") and option.endswith(setting)]
    return f"say of which part: {' or '.join(owners)}" if owners else ""


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most similar, or nothing."""
    return next(iter(get_close_matches(word, list(known), n=1, cutoff=0.6)), "")
