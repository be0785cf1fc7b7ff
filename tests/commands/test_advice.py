"""Every exit code and every advice is followed: it leads on."""

import contextlib
import importlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from datafree.commands.main import main
from datafree.commands.verbs import INTERRUPTED, OUT_OF_MEMORY

Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
LOAD = "datafree.teachers.options.load"
"""what loads the teacher of a command"""
TINY = ["--method", "noise", "--steps", "1", "--warmup-batches", "1", "--batch-size", "4", "--device", "cpu"]


def interrupt(*_: object, **__: object) -> None:
    """Ctrl-C at this place."""
    os.kill(os.getpid(), signal.SIGINT)


def hidden_interrupt(*_: object, **__: object) -> None:
    """Ctrl-C in a library that turns it into another exception."""
    try:
        interrupt()
    except KeyboardInterrupt as fault:
        raise ImportError("initialization failed") from fault


def advice(capsys: Capture, words: list[str], code: int) -> str:
    """The one sentence of a command that ends with this code."""
    capsys.readouterr()
    assert main(words) == code
    error = capsys.readouterr().err
    assert error.startswith("datafree: ") and error.count("\n") == 1
    return error.removeprefix("datafree: ").rstrip("\n")


@pytest.fixture
def run(digits_teacher: Path, tmp_path: Path) -> list[str]:
    """A run that takes a moment, in a folder whose name must be quoted."""
    out = tmp_path / "my run"
    return [
        *("distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", "--out", str(out)),
        *TINY,
    ]


@pytest.mark.parametrize("interruption", [interrupt, hidden_interrupt])
def test_a_run_that_has_not_started_is_started_again(
    interruption: object, run: list[str], tmp_path: Path, capsys: Capture, monkeypatch: Patch
):
    with monkeypatch.context() as patch:
        patch.setattr(LOAD, interruption)
        assert advice(capsys, run, INTERRUPTED) == "interrupted; run the command again"
    assert not (tmp_path / "my run").exists() and main(run) == 0


def test_a_started_run_is_resumed_as_the_advice_says(run: list[str], capsys: Capture, monkeypatch: Patch):
    with monkeypatch.context() as patch:
        patch.setattr("datafree.runs.experiment.train", interrupt)
        text = advice(capsys, run, INTERRUPTED)
    assert text.startswith("interrupted; continue with: datafree resume '")
    words = shlex.split(text.split("datafree ")[1])
    assert main(words) == 0
    assert "is a finished run" in advice(capsys, words, 2)


def test_another_run_in_the_folder_is_not_recommended(run: list[str], capsys: Capture, monkeypatch: Patch):
    with monkeypatch.context() as patch:
        patch.setattr("datafree.runs.experiment.train", interrupt)
        advice(capsys, run, INTERRUPTED)
    with monkeypatch.context() as patch:
        patch.setattr(LOAD, interrupt)
        assert advice(capsys, [*run, "--seed", "1"], INTERRUPTED) == "interrupted; run the command again"
    assert "is an unfinished run; continue it with" in advice(capsys, [*run, "--seed", "1"], 2)


def test_a_run_that_was_finished_is_shown(run: list[str], capsys: Capture, monkeypatch: Patch):
    with monkeypatch.context() as patch:
        patch.setattr("datafree.commands.runs.finish", interrupt)
        patch.setattr("datafree.commands.experiments.finish", interrupt)
        text = advice(capsys, run, INTERRUPTED)
    assert text.startswith("interrupted; the run is finished; see it with: datafree report '")
    assert main(shlex.split(text.split("datafree ")[1])) == 0


def test_output_of_the_demo_is_deleted_first(tmp_path: Path, capsys: Capture, monkeypatch: Patch):
    words = ["demo", "--out", str(tmp_path / "demo"), "--jobs", "1"]
    monkeypatch.setattr("datafree.benchmarks.demo._train_teacher", lambda *_: (tmp_path / "demo").mkdir())
    monkeypatch.setattr("datafree.benchmarks.demo._experiments", interrupt)
    assert advice(capsys, words, INTERRUPTED) == f"interrupted; delete {tmp_path / 'demo'}, then run the command again"
    assert "already exists" in advice(capsys, words, 2)
    (tmp_path / "demo").rmdir()
    assert "delete" in advice(capsys, words, INTERRUPTED)


def test_a_numbered_folder_is_released(run: list[str], tmp_path: Path, capsys: Capture, monkeypatch: Patch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in run if word not in ("--out", str(tmp_path / "my run"))]
    with monkeypatch.context() as patch:
        patch.setattr(LOAD, interrupt)
        advice(capsys, words, INTERRUPTED)
    assert not list(Path("runs").iterdir())
    assert main(words) == 0 and [path.name for path in Path("runs").iterdir()] == ["distill-001"]


@pytest.mark.parametrize(
    ("verb", "fix"),
    [
        ("distill", "lower --method.batch-size or --batch-size"),
        ("synthesize", "lower --method.batch-size"),
        ("train", "lower --batch-size"),
        ("evaluate", "use a machine with more memory"),
    ],
)
def test_the_advice_about_memory_names_options_that_the_command_has(
    verb: str, fix: str, digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: Patch
):
    teacher = f"local-dir:{digits_teacher}"
    out = ["--out", str(tmp_path / "out")]
    words = {
        "distill": ["--teacher", teacher, "--student", "convnet_w16", *out],
        "synthesize": ["--teacher", teacher, *out],
        "train": ["convnet_w16", "--data", "digits", *out],
        "evaluate": [teacher, "--data", "digits"],
    }[verb]

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for place in (LOAD, "datafree.teachers.create"):
        monkeypatch.setattr(place, fail)
    text = advice(capsys, [verb, *words], OUT_OF_MEMORY)
    assert text.startswith("the memory is not sufficient") and fix in text and "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_an_interrupt_that_an_import_has_caught_still_ends_the_command(
    run: list[str], tmp_path: Path, capsys: Capture, monkeypatch: Patch
):
    def import_module(name: str) -> object:
        with contextlib.suppress(KeyboardInterrupt):
            interrupt()
        return importlib.__import__(name, fromlist=["distill"])

    monkeypatch.setattr("importlib.import_module", import_module)
    assert advice(capsys, run, INTERRUPTED) == "interrupted; run the command again"
    assert not (tmp_path / "my run").exists()


def test_a_second_signal_does_not_disturb_the_end(run: list[str], capsys: Capture, monkeypatch: Patch):
    def twice(*_: object, **__: object) -> None:
        try:
            interrupt()
        finally:
            interrupt()

    monkeypatch.setattr(LOAD, twice)
    assert advice(capsys, run, INTERRUPTED) == "interrupted; run the command again"


def test_an_interrupt_in_code_from_a_string_ends_the_process_with_the_exit_code(run: list[str], tmp_path: Path):
    """As in dataclasses and named tuples, which compile their methods while they are imported."""
    (tmp_path / "program.py").write_text("""
import sys
from datafree.commands import main
from datafree.commands.console import announcement
def announce(*_):
    exec("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
announcement.announce = announce
sys.exit(main.main())
""")
    words = [
        sys.executable,
        "-m",
        "program",
        *run,
    ]  # only of a module started this way is it Python that ends the process
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, "datafree: interrupted; run the command again\n")
