"""`--quiet` and `--json`, for every command."""

import json
from pathlib import Path
from typing import Any

import pytest

from datafree.commands.console.output import OPTIONS, take_options
from datafree.commands.main import main
from datafree.commands.options.help import own_options
from datafree.commands.verbs import VERBS
from datafree.errors import InputError

Capture = pytest.CaptureFixture[str]


def events(text: str) -> list[dict[str, Any]]:
    """The objects of an output; every line must be one, with its kind."""
    rows = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(row, dict) and isinstance(row["event"], str) for row in rows)
    return rows


def run_words(teacher: Path, out: Path) -> list[str]:
    words = f"--teacher local-dir:{teacher} --student convnet_w16 --data digits --method noise --steps 2 --device cpu"
    return ["distill", *words.split(), "--out", str(out)]


class TestJson:
    def test_a_run_prints_objects_only(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        out = tmp_path / "run"
        assert main([*run_words(digits_teacher, out), "--json"]) == 0
        rows = events(capsys.readouterr().out)
        assert rows[0] == {
            "event": "start",
            "verb": "distill",
            "teacher": f"local-dir:{digits_teacher}",
            "student": "convnet_w16",
            "method": "noise",
            "data": "digits",
            "output": str(out),
        }
        labels = [row["label"] for row in rows if row["event"] == "line"]
        assert labels[0] == "device" and {"verdict", "student", "report"} <= set(labels)
        assert rows[-1]["event"] == "result" and rows[-1]["run"] == str(out)
        assert rows[-1]["summary"]["verdict"] == json.loads((out / "summary.json").read_text())["verdict"]
        assert main(["report", str(out), "--json"]) == 0
        assert [row["event"] for row in events(capsys.readouterr().out)][-1] == "result"
        assert main(["report", str(out), "--quiet"]) == 0
        assert capsys.readouterr() == ("", "")

    def test_an_evaluation_prints_numbers(self, digits_teacher: Path, capsys: Capture):
        words = ["evaluate", f"local-dir:{digits_teacher}", "--data", "digits", "--device", "cpu", "--json"]
        assert main(words) == 0
        (result,) = [row for row in events(capsys.readouterr().out) if row["event"] == "result"]
        assert 0.5 < result["evaluations"][f"local-dir:{digits_teacher}"]["accuracy"] <= 1

    def test_an_error_is_an_object_and_a_sentence(self, tmp_path: Path, capsys: Capture):
        assert main(["report", str(tmp_path), "--json"]) == 2
        captured = capsys.readouterr()
        (error,) = [row for row in events(captured.out) if row["event"] == "error"]
        assert captured.err == f"datafree: {error['message']}\n" and error["code"] == 2

    def test_the_list_of_methods(self, capsys: Capture):
        assert main(["methods", "--json"]) == 0
        (table,) = [row for row in events(capsys.readouterr().out) if row["event"] == "table"]
        assert table["columns"][0] == "method" and [row[0] for row in table["rows"] if row[0] == "noise"] == ["noise"]

    def test_inspect_has_an_option_of_its_own(self, digits_teacher: Path, capsys: Capture):
        assert main(["inspect", str(digits_teacher), "--json", "--device", "cpu"]) == 0
        assert "parameters" in json.loads(capsys.readouterr().out)


class TestQuiet:
    def test_a_run_prints_nothing(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        assert main([*run_words(digits_teacher, tmp_path / "run"), "--quiet"]) == 0
        assert capsys.readouterr().out == "" and (tmp_path / "run" / "summary.json").is_file()

    def test_errors_are_still_said(self, tmp_path: Path, capsys: Capture):
        assert main(["report", str(tmp_path), "--quiet"]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.startswith("datafree: ") and captured.err.count("\n") == 1

    def test_the_next_command_prints_again(self, capsys: Capture):
        assert main(["methods", "--quiet"]) == 0 and capsys.readouterr().out == ""
        assert main(["methods"]) == 0 and "noise" in capsys.readouterr().out


def test_both_at_once_are_refused(capsys: Capture):
    assert main(["methods", "--quiet", "--json"]) == 2
    assert capsys.readouterr().err == "datafree: --quiet and --json are given; leave one of them out\n"
    with pytest.raises(InputError):
        take_options(["--json", "--quiet"], [])


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_lists_them_once(verb: str, capsys: Capture):
    assert main([verb, "--help"]) == 0
    lines = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    assert all(lines.count(name) == 1 for name in OPTIONS) and set(own_options(verb)) <= set(OPTIONS)


def test_options_of_the_command_itself_are_left_to_it():
    assert take_options(["a", "--json", "b"], []) == (["a", "b"], "json")
    assert take_options(["a", "--json", "--quiet"], ["--json"]) == (["a", "--json"], "quiet")
    assert take_options(["a"], []) == (["a"], "text")
