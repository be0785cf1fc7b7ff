"""Output that cannot be written stops no command, and text from elsewhere controls neither the terminal nor the tables."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from datafree import teachers
from datafree.commands.main import main
from datafree.files.streams import Output, lenient_output, lost_output
from datafree.runs.reporting.console import plain, say

Capture = pytest.CaptureFixture[str]
HOSTILE = "[/b][bold]:smile:\x1b[31m\u202e"
SHOWN = "[/b][bold]:smile:\ufffd[31m\ufffd"
HELP = [sys.executable, "-m", "datafree", "distill", "--help"]


class Broken(io.StringIO):
    """A stream that cannot be written to."""

    def __init__(self, fault: OSError) -> None:
        super().__init__()
        self.raised = fault

    def write(self, _: str) -> int:
        raise self.raised


class TestOutput:
    def test_a_fault_is_kept_and_work_goes_on(self):
        output = Output(Broken(OSError(28, "No space left on device")))
        for _ in range(2):
            assert output.write("line\n") == 5
        output.flush()
        assert lost_output([output]) is output.fault and output.isatty() is False

    def test_a_closed_pipe_is_no_fault(self):
        output = Output(Broken(BrokenPipeError()))
        output.write("line\n")
        assert output.fault is not None and lost_output([output]) is None

    def test_characters_that_an_encoding_lacks_are_replaced(self, monkeypatch: pytest.MonkeyPatch):
        contents = io.BytesIO()
        stream = io.TextIOWrapper(contents, encoding="ascii")
        monkeypatch.setattr("sys.stdout", stream)
        with lenient_output():
            print("student · adi → 8², 日\udcff")
        assert contents.getvalue() == b"student - adi -> 8^2, ??\n" and stream.errors == "strict"

    def test_a_stream_that_is_closed_from_the_start_is_left_alone(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("sys.stdout", None)
        with lenient_output() as outputs:
            print("nothing")
        assert len(outputs) == 1


def test_a_reader_that_has_seen_enough_causes_no_message():
    command = subprocess.Popen(HELP, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout and command.stderr
    command.stdout.close()
    assert command.stderr.read() == "" and command.wait(timeout=30) == 0
    command.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_lost_output_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(HELP, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("datafree: the command has ended, but its output could not be written")


def test_text_from_elsewhere_is_literal():
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    say(console, "note", HOSTILE)
    table = Table()
    table.add_column("model")
    table.add_row(plain(HOSTILE))
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.startswith(f"note     {SHOWN}\n") and text.count(SHOWN) == 2


def test_names_of_networks_are_printed_literally(tmp_path: Path, capsys: Capture):
    folder = tmp_path / "[red]:smile:\x1b[31m"
    teachers.save_folder(teachers.create("convnet_w16", classes=tuple("0123456789"), shape=(1, 8, 8)), folder)
    assert main(["evaluate", f"local-dir:{folder}", "--data", "digits", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and text.count("[red]:smile:\ufffd[31m") >= 1


@pytest.mark.parametrize("words", [["methods"], ["--help"], ["demo", "--help"], ["distill", "--help"]])
def test_tables_and_help_fit_a_terminal_of_80_columns(
    words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
