"""`make torture`: the whole campaign, resumable, with one table at the end.

    python -m torture --out runs/torture

Trials that are done are read from `trials.jsonl` in that folder and not repeated; what failed stays there to be looked at, and
is tried once more with `--again`.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from torture.command_lines import command_lines
from torture.corruptions import corruptions
from torture.hostile import hostile_files
from torture.kills import cold_kills, placed_faults, placed_kills, random_kills
from torture.mutants import GROUP, mutants
from torture.trials import Trial
from torture.workshop import Workshop

FAMILIES = {
    "random kills": (random_kills, 120),
    "cold kills": (cold_kills, 30),
    "placed kills": (placed_kills, 100),
    "placed faults": (placed_faults, 60),
    "corruptions": (corruptions, 400),
    "hostile files": (hostile_files, 200),
    "command lines": (command_lines, 1500),
    "mutants": (mutants, 4000),
}
"""family: what makes its trials, and how many there are in the whole campaign"""


def trials(workshop: Workshop, counts: dict[str, int]) -> Iterator[Trial]:
    """All trials of a campaign, family by family."""
    for family, count in counts.items():
        yield from islice(FAMILIES[family][0](workshop, count), count)


def table(results: dict[str, dict[str, str]]) -> str:
    """Tried, survived, and each failure by name, as Markdown."""
    lines = ["| family | tried | survived |", "|---|---|---|"]
    for family, outcomes in results.items():
        size = GROUP if family == "mutants" else 1
        failed = sum(why.count("FAULT ") or size for why in outcomes.values() if why)
        lines.append(f"| {family} | {size * len(outcomes):,} | {size * len(outcomes) - failed:,} |")
    failures = [f"- {family} {name}: {why}" for family, each in results.items() for name, why in each.items() if why]
    return "\n".join([*lines, "", *(failures or ["No trial failed."]), ""])


def campaign(out: Path, counts: dict[str, int], jobs: int = 1, again: bool = False) -> dict[str, dict[str, str]]:
    """Do all trials that are not done yet; return the reason of failure, or nothing, by family and name.

    Args:
        out: Folder of the campaign.
        counts: Number of trials by family.
        jobs: Trials at a time.
        again: Also repeat the trials that have failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    workshop = Workshop(out / "workshop")
    workshop.build()
    log = out / "trials.jsonl"
    done = read_log(log)
    todo = [trial for trial in trials(workshop, counts) if _is_due(done.get(trial.family, {}).get(trial.name), again)]
    context = multiprocessing.get_context("fork")  # trials fork as well, so that no thread may run here
    workers = [context.Process(target=work, args=(todo[place::jobs], out, log)) for place in range(jobs)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done = read_log(log)
    return {family: done.get(family, {}) for family in counts}


def _is_due(outcome: str | None, again: bool) -> bool:
    return outcome is None or (again and bool(outcome))


def work(todo: Sequence[Trial], out: Path, log: Path) -> None:
    """Do some trials, and write down each as soon as it is done."""
    for trial in todo:
        place = out / "trials" / re.sub(r"\W+", "-", f"{trial.family} {trial.name}")
        failure = trial.run(place)
        with log.open("a") as file:
            file.write(json.dumps([trial.family, trial.name, failure]) + "\n")
        if failure:
            print(f"FAILED {trial.family} {trial.name}: {failure}", flush=True)


def read_log(log: Path) -> dict[str, dict[str, str]]:
    """The outcomes of the trials that are done, by family and name."""
    results: dict[str, dict[str, str]] = {}
    for line in log.read_text().splitlines() if log.is_file() else []:
        family, name, failure = json.loads(line)
        results.setdefault(family, {})[name] = failure
    return results


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", type=Path, default=Path("runs/torture"), help="folder of the campaign")
    arguments.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="only these families")
    arguments.add_argument("--share", type=float, default=1.0, help="fraction of the trials of each family")
    arguments.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="trials at a time")
    arguments.add_argument("--again", action="store_true", help="repeat the trials that have failed")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    begin = time.monotonic()
    counts = {family: max(1, round(options.share * FAMILIES[family][1])) for family in options.only}
    results = campaign(options.out.resolve(), counts, options.jobs, options.again)
    text = table(results)
    (options.out / "table.md").write_text(text)
    print(text)
    print(f"{(time.monotonic() - begin) / 60:.1f} minutes")
    return int(any(failure for outcomes in results.values() for failure in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())
