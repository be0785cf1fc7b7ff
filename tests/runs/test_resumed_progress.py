"""A resumed run says what was done before, and what is left; its loops begin where they were."""

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import toys
from rich.console import Console

from datafree.progress import Display, display
from datafree.runs.experiment import resume, run
from datafree.runs.logger import RunLogger


def test_a_resumed_run_counts_what_is_left(digits_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    steps, original = [], RunLogger.log
    monkeypatch.setattr(display, "LINE_EVERY", 0.0)

    def save(self: RunLogger, *, early: bool = False) -> None:
        if self.folder and len(self.first_batches) and self.step == 6:
            self.save()

    def interrupted(self: RunLogger, step: int, terms: Any) -> None:
        original(self, step, terms)
        if step == 8:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunLogger, "save_if_due", save)
        patch.setattr(RunLogger, "log", interrupted)
        run(toys.experiment(digits_teacher), tmp_path / "run")
    begin = Display.begin

    def began(self: Display, label: str, total: int, done: int = 0) -> Any:
        steps.append((label, done, total))
        return begin(self, label, total, done)

    monkeypatch.setattr(Display, "begin", began)
    text = StringIO()
    resume(tmp_path / "run", Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    assert ("distill", 6, 12) in steps
    assert re.fullmatch(
        r"device   cpu, teacher [\d,]+ parameters, student [\d,]+ parameters, about [\d.,]+ [MG]B", lines[0]
    )
    resumed = next(line for line in lines if line.startswith("resumed "))
    assert re.fullmatch(r"resumed  after 2/2 batches, 6/12 steps, about \d+ s left", resumed)
    progress = next(line for line in lines if line.startswith("progress distill"))
    assert progress.startswith("progress distill 7/12, 2/2 batches, 7/12 steps, about ")
