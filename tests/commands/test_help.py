"""Help and refusals come from the table of options: they are clear, they propose the right word, and need no torch."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from datafree.commands.main import main
from datafree.commands.options.help import BASIC
from datafree.commands.options.proposals import SYNONYMS, propose
from datafree.commands.options.table import check, commands
from datafree.commands.verbs import VERB_SYNONYMS, VERBS
from datafree.methods import METHODS

Capture = pytest.CaptureFixture[str]
CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
PROGRAM = """
import sys
sys.modules["torch"] = None  # so that an import of torch fails
from datafree.commands.main import main
code = main(sys.argv[1:])
print(sorted({"tyro", "rich", "numpy"} & set(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def help_of(capsys: Capture, *arguments: str) -> str:
    """The help of a command."""
    assert main([*arguments, "--help"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def refusal(capsys: Capture, arguments: Sequence[str]) -> str:
    """The one sentence with which a command refuses its arguments."""
    assert main(list(arguments)) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("datafree: ") and output.err.count("\n") == 1
    return output.err.removeprefix("datafree: ").rstrip("\n")


def sections(text: str) -> dict[str, list[str]]:
    """The options and arguments in each section of a help text."""
    groups: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        title, *lines = block.splitlines()
        if title.endswith(":"):
            groups[title[:-1]] = [line.split()[0].rstrip(",") for line in lines if line[:2] == "  " and line[2] != " "]
    return groups


class TestHelp:
    def test_the_overview_lists_every_command(self, capsys: Capture):
        assert main(["--help"]) == main([]) == main(["help"]) == 0
        text = capsys.readouterr().out
        assert all(f"  {verb} " in text for verb in VERBS) and text.startswith("usage: datafree COMMAND [OPTIONS]")

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_command_has_help(self, verb: str, capsys: Capture):
        text = help_of(capsys, verb)
        assert text.startswith(f"usage: datafree {verb}") and VERBS[verb][1][1:] in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= 110

    @pytest.mark.parametrize("verb", VERBS)
    def test_help_is_free_of_noise(self, verb: str, capsys: Capture):
        text = help_of(capsys, verb)
        for noise in ("{None}", "(default: )", "(default: '')", "[INT [INT", "[STR", "None", "\n\n\n", " STR"):
            assert noise not in text

    def test_options_are_in_two_groups_and_those_of_the_method(self, capsys: Capture):
        groups = sections(help_of(capsys, "distill"))
        assert list(groups) == ["basic options", "settings of the method auto", "advanced options", "output options"]
        assert groups["basic options"] == [
            *("--teacher", "--student", "--labels", "--others", "--data", "--out", "--method", "--budget"),
            *("--steps", "--batch-size", "--lr", "--temperature", "--ratio", "--seed", "--device"),
        ]
        assert groups["settings of the method auto"] == [
            *("--method.batch-size", "--method.race", "--method.flip", "--method.keep-lr"),
        ]
        assert {"--precision", "--weight-decay", "--shift"} <= set(groups["advanced options"])

    @pytest.mark.parametrize(
        ("verb", "row"),
        [("distill", "auto"), ("prune", "auto"), ("extend", "deep-inversion"), ("amalgamate", "group-stack")],
    )
    def test_the_method_has_a_row_with_choices_and_default(self, verb: str, row: str, capsys: Capture):
        method = " ".join(help_of(capsys, verb).split()).split("--method NAME ")[1].split(f"(default: {row})")[0]
        assert method.startswith("how images are synthesized: auto, auto:race, noise, ") and "(default" not in method
        assert all(f"{name}, " in method for name in ("deep-dream", "dafl-authors", "zskd", "saved"))

    def test_recipe_and_into_have_rows_too(self, capsys: Capture):
        assert "preset of the loss weights: replay, abd, lwf, fine-tuning (default: replay)" in " ".join(
            help_of(capsys, "extend").split()
        )
        into = " ".join(help_of(capsys, "amalgamate").split()).split("--into NAME ")[1].split(" --")[0]
        assert "target-net, student; " in into and into.endswith("(default: target-net)")
        other = help_of(capsys, "amalgamate", "--method", "noise")
        assert "and the default of all others (default: student)" in " ".join(other.split())

    def test_the_settings_and_defaults_are_those_of_the_named_method(self, capsys: Capture):
        text = help_of(capsys, "distill", "--method", "dafl")
        assert "settings of the method dafl:" in text and "--method.latent-size INT" in text
        assert "--method.tv" not in text and "--method.latent-size" not in help_of(capsys, "distill")
        assert "(default: 20.0)" in " ".join(help_of(capsys, "distill", "--method=zskd").split())

    @pytest.mark.parametrize(
        ("verb", "line"),
        [
            ("evaluate", "usage: datafree evaluate NETWORK --data DATA [OPTIONS]"),
            ("train", "usage: datafree train NETWORK --data DATA --out FOLDER [OPTIONS]"),
            ("statistics", "usage: datafree statistics NETWORK --data DATA --out FOLDER [OPTIONS]"),
            ("prune", "usage: datafree prune NETWORK [OPTIONS]"),
            ("crosscheck", "usage: datafree crosscheck IMAGES NETWORK ... [OPTIONS]"),
            ("distill", "usage: datafree distill --teacher NETWORK [OPTIONS]"),
            ("extend", "usage: datafree extend --teacher NETWORK --new-data DATA [OPTIONS]"),
            ("amalgamate", "usage: datafree amalgamate --teacher NETWORK [OPTIONS]"),
            ("synthesize", "usage: datafree synthesize --teacher NETWORK --out FOLDER [OPTIONS]"),
            ("bench", "usage: datafree bench TABLE [OPTIONS]"),
            ("report", "usage: datafree report RUN ... [OPTIONS]"),
            ("methods", "usage: datafree methods"),
        ],
    )
    def test_the_usage_line_names_what_must_be_given(self, verb: str, line: str, capsys: Capture):
        assert help_of(capsys, verb).splitlines()[0] == line

    def test_a_switch_that_is_on_is_shown_with_the_option_that_turns_it_off(self, capsys: Capture):
        text = help_of(capsys, "amalgamate")
        assert "--method.filters, --method.no-filters" in text and "(default: on)" in " ".join(text.split())
        assert "--inherit" in help_of(capsys, "distill") and "--no-inherit" not in help_of(capsys, "distill")

    @pytest.mark.parametrize("option", ["--device", "--threads", "--seed"])
    def test_common_options_have_one_default(self, option: str):
        defaults = {
            row.default
            for command in commands().values()
            for rows in command.options.values()
            for row in rows
            if row.name == option
        }
        assert defaults == {{"--device": "auto", "--threads": "1", "--seed": "0"}[option]}

    def test_every_basic_option_exists(self):
        table = commands().values()
        names = {row.name for command in table for rows in command.options.values() for row in rows}
        names |= {selector.name for command in table for selector in command.selectors}
        assert set(BASIC) <= names


WRONG = {
    # other tools' words
    "epochs": (["distill", "--epochs", "3"], "unknown option '--epochs'; did you mean --steps?"),
    "batch": (["distill", "--batch", "64"], "unknown option '--batch'; did you mean --batch-size?"),
    "bs": (["distill", "--bs", "64"], "unknown option '--bs'; did you mean --batch-size?"),
    "learning rate": (["distill", "--learning-rate", "1"], "unknown option '--learning-rate'; did you mean --lr?"),
    "learning rate, underscore": (["train", "--learning_rate=1"], "'--learning_rate'; did you mean --lr?"),
    "gpu": (["distill", "--gpu"], "unknown option '--gpu'; did you mean --device cuda?"),
    "cuda": (["evaluate", "--cuda"], "unknown option '--cuda'; did you mean --device cuda?"),
    "output": (["distill", "--output", "x"], "unknown option '--output'; did you mean --out?"),
    "o": (["synthesize", "-o", "x"], "unknown option '-o'; did you mean --out?"),
    "dataset": (["evaluate", "--dataset", "mnist"], "unknown option '--dataset'; did you mean --data?"),
    "amp": (["distill", "--amp"], "unknown option '--amp'; did you mean --precision 16-mixed?"),
    "workers": (["bench", "digits", "--workers", "2"], "did you mean --jobs?"),
    "sparsity": (["prune", "net", "--sparsity", "0.5"], "did you mean --ratio?"),
    # names of earlier versions
    "application": (["distill", "--application.steps", "3"], "'--application.steps'; did you mean --steps?"),
    "schedule": (["distill", "--schedule.show", "3"], "'--schedule.show'; did you mean --batch-size?"),
    "warm-up": (["distill", "--method", "adi", "--schedule.warmup", "3"], "did you mean --warmup-batches?"),
    "augmentation": (["distill", "--application.augment.shift", "3"], "did you mean --shift?"),
    "training": (["train", "--training.augment.rotate", "3"], "did you mean --rotate?"),
    "importance": (["prune", "net", "--application.looks", "3"], "did you mean --importance-batches?"),
    "weight of the old": (["extend", "--application.old", "3"], "did you mean --old-weight?"),
    "reset": (["distill", "--method", "fast", "--method.life", "3"], "did you mean --method.reset-every?"),
    "images made": (["distill", "--method.batch", "3"], "did you mean --method.batch-size?"),
    "images shown": (["distill", "--method", "dafl", "--method.show", "3"], "--method.student-batch-size?"),
    "checkpoint": (["distill", "--checkpoint", "3"], "did you mean --checkpoint-interval?"),
    "names": (["amalgamate", "--names", "same"], "did you mean --shared-labels?"),
    "model": (["evaluate", "--model", "x"], "give it without an option: datafree evaluate NETWORK"),
    "network": (["train", "--network", "x"], "give it without an option: datafree train NETWORK"),
    "teacher of statistics": (["statistics", "--teacher", "x"], "without an option: datafree statistics NETWORK"),
    "teacher of pruning": (["prune", "--teacher", "x"], "without an option: datafree prune NETWORK"),
    "images": (["crosscheck", "--images", "x"], "without an option: datafree crosscheck IMAGES NETWORK"),
    "verifier": (["crosscheck", "--verifier", "x"], "without an option: datafree crosscheck IMAGES NETWORK"),
    "model of distillation": (["distill", "--model", "x"], "did you mean --teacher?"),
    "student of pruning": (["prune", "net", "--student", "x"], "a pruned network is always a copy of NETWORK"),
    "inherited pruning": (["prune", "net", "--inherit"], "always keeps the weights of NETWORK"),
    "student of an extension": (["extend", "--student", "x"], "a copy of the teacher with a wider last layer"),
    # options of another choice
    "method": (
        ["distill", "--method.latent-size", "8"],
        "unknown option '--method.latent-size'; only --method dafl, dafl-authors, group-stack, fast has it, "
        "and --method is auto",
    ),
    "method of another": (
        ["distill", "--method", "adi", "--method.latent-size", "8"],
        "only --method dafl, dafl-authors, group-stack, fast has it, and --method is adi",
    ),
    "into": (["amalgamate", "--into", "student", "--measure-batches", "8"], "only --into target-net has it"),
    # slips
    "misspelt": (["distill", "--precison", "x"], "unknown option '--precison'; did you mean --precision?"),
    "misspelt setting": (["distill", "--method", "adi", "--method.stepz", "3"], "did you mean --method.steps?"),
    "misspelt setting of another method": (
        ["distill", "--method.latentsize", "8"],
        "unknown option '--method.latentsize'; did you mean --method.latent-size of --method dafl, dafl-authors, "
        "group-stack, fast?",
    ),
    "nothing like it": (["distill", "--zzz"], "unknown option '--zzz'; see `datafree distill --help`"),
    "the schedule of what auto chooses": (
        ["distill", "--warmup-batches", "4"],
        "unknown option '--warmup-batches'; only --method noise, ",
    ),
    "an option that is a method": (["distill", "--race"], "unknown option '--race'; did you mean --method auto:race?"),
    "plural": (["prune", "net", "--ratios", "0.5"], "unknown option '--ratios'; did you mean --ratio?"),
    "no options": (["methods", "--all"], "unknown option '--all'; see `datafree methods --help`"),
    "dashes only": (["methods", "--"], "unknown option '--'; see `datafree methods --help`"),
    # values
    "no value": (["prune", "net", "--ratio"], "--ratio has no value; give FLOAT"),
    "no value before an option": (["prune", "net", "--ratio", "--seed", "1"], "--ratio has no value; give FLOAT"),
    "no resolution": (["distill", "--method", "adi", "--method.steps"], "--method.steps has no value; give INT ..."),
    "no method": (["distill", "--method"], "--method has no value; give NAME"),
    "option for a method": (["distill", "--method", "--seed", "1"], "--method has no value; give NAME"),
    "an empty value": (["distill", "--budget", ""], "--budget has no value; give TIME"),
    "no number": (["distill", "--seed", "many"], "invalid value 'many' for --seed; give an integer"),
    "half a step": (["distill", "--steps", "0.5"], "invalid value '0.5' for --steps; give an integer"),
    "an integer in scientific notation": (
        ["distill", "--steps", "1e9"],
        "invalid value '1e9' for --steps; give an integer, such as 1000000000",
    ),
    "an integer with a superscript": (["distill", "--seed", "1\N{SUPERSCRIPT TWO}"], "for --seed; give an integer"),
    "digits that are not ASCII": (["distill", "--seed", "\N{ARABIC-INDIC DIGIT ONE}"], "for --seed; give an integer"),
    "too many digits": (["distill", "--steps", 5000 * "9"], "the value of --steps has 5000 digits; give a smaller"),
    "an empty number": (["distill", "--lr="], "--lr has no value; give FLOAT"),
    "not UTF-8": (["distill", "--teacher", "a\udcff"], "word 3 of the command ('a\\udcff') is not valid UTF-8 text"),
    "NUL": (["report", "a\0b"], "word 2 of the command ('a\\x00b') is not valid UTF-8 text; rename the file or folder"),
    "no real number": (["distill", "--lr", "fast"], "invalid value 'fast' for --lr; give a number"),
    "one of two": (
        ["distill", "--method", "adi", "--method.betas", "0.5"],
        "--method.betas needs 2 values; give FLOAT FLOAT",
    ),
    "no format": (
        ["synthesize", "--format", "gif"],
        "invalid value 'gif' for --format; choose one of folder, parquet",
    ),
    "near a choice": (
        ["distill", "--method", "adi", "--method.js", "clampd"],
        "'clampd' for --method.js; did you mean clamped?",
    ),
    "unknown table": (["bench", "digit"], "invalid value 'digit' for TABLE; did you mean digits?"),
    "unknown method": (
        ["distill", "--method", "deep-inversio"],
        "unknown method 'deep-inversio'; did you mean deep-inversion?",
    ),
    "far from a method": (["synthesize", "--method", "real"], "unknown method 'real'; choose one of noise, "),
    "saved images to synthesize": (
        ["synthesize", "--method", "saved"],
        "unknown method 'saved'; choose one of noise, ",
    ),
    "unknown recipe": (["extend", "--recipe", "repla"], "unknown recipe 'repla'; did you mean replay?"),
    "unknown into": (["amalgamate", "--into", "x"], "unknown into 'x'; choose one of target-net, student"),
    "method twice": (
        ["distill", "--method", "adi", "--method", "dafl"],
        "--method is given more than once; give it once",
    ),
    # missing and surplus
    "missing": (["distill", "--student", "x"], "--teacher is missing; see `datafree distill --help`"),
    "only the teacher is required": (["distill"], "--teacher is missing; see `datafree distill --help`"),
    "both missing": (["extend"], "--teacher and --new-data are missing; see `datafree extend --help`"),
    "missing network": (["evaluate", "--data", "digits"], "NETWORK is missing; see `datafree evaluate --help`"),
    "missing networks": (["crosscheck", "images"], "NETWORK is missing; see `datafree crosscheck --help`"),
    "missing table": (["bench"], "TABLE is missing; see `datafree bench --help`"),
    "missing run": (["resume"], "RUN is missing; see `datafree resume --help`"),
    "surplus": (["resume", "a", "b"], "unexpected argument 'b'; see `datafree resume --help`"),
    # commands
    "command": (["distil"], "unknown command 'distil'; did you mean distill?"),
    "command of an earlier version": (["verify"], "unknown command 'verify'; did you mean crosscheck?"),
    "nothing like a command": (["xyz"], "unknown command 'xyz'; `datafree --help` lists the commands"),
    "help of no command": (["distil", "--help"], "unknown command 'distil'; did you mean distill?"),
    "help of no method": (
        ["distill", "--method", "x", "--help"],
        "unknown method 'x'; choose one of auto, auto:race, noise, ",
    ),
}


@pytest.mark.parametrize(("arguments", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_command_line_is_refused_with_the_right_word(arguments: list[str], sentence: str, capsys: Capture):
    assert sentence in refusal(capsys, arguments)


def test_every_synonym_names_something_that_exists():
    table = commands().values()
    names = {option.name for command in table for options in command.options.values() for option in options}
    assert {candidate.split(" ")[0] for candidates in SYNONYMS.values() for candidate in candidates} <= names


def test_every_renamed_option_is_proposed_under_its_new_name():
    table = [line.split("|")[1:3] for line in CHANGELOG.read_text().splitlines() if line.startswith("  | `--")]
    renamed = [pair for old, new in table for pair in zip(expand(old), expand(new), strict=True)]
    assert len(renamed) > 30
    for old, new in renamed:
        proposals = {propose(old, verb, key.split(), commands()) for verb, c in commands().items() for key in c.options}
        assert f"did you mean {new}?" in proposals, (old, new)


def expand(cell: str) -> list[str]:
    """The options in a cell of the changelog's table; `.x` has the prefix of the option before it."""
    options: list[str] = []
    for word in re.findall(r"`(--[^` ]+|\.[^` ]+)`", cell):
        options.append(options[0].rsplit(".", 1)[0] + word if word.startswith(".") else word)
    return options


def test_negative_numbers_and_infinity_are_values():
    given = check("distill", ["--teacher", "a", "--ema", "-1", "--mean", "0", "-.5", "-inf", "--std=-1e-3"]).values
    assert (given["--ema"], given["--mean"], given["--std"]) == (["-1"], ["0", "-.5", "-inf"], ["-1e-3"])


@pytest.mark.parametrize(
    ("option", "values", "sentence"),
    [
        ("--lr", ["-1"], "--lr is -1.0, but it must be at least 1e-09"),
        ("--method.tv", ["-inf"], "--method.tv is -inf, but it must be at least 0"),
        ("--method.betas", ["0", "-1"], "--method.betas is -1.0, but it must be at least 0"),
        ("--weight-decay", ["inf"], "--weight-decay is inf, but it must be at least 0 and finite"),
    ],
)
def test_negative_numbers_and_infinity_are_values_of_bounded_options_too(
    option: str, values: list[str], sentence: str, capsys: Capture
):
    assert refusal(capsys, ["distill", "--teacher", "a", "--method", "adi", option, *values]) == sentence


def test_both_spellings_of_an_option_are_known():
    check("distill", ["--teacher=a", "--student=b", "--method.batch_size=8", "--batch-size", "8", "--no-inherit"])


def test_synonyms_of_commands_name_commands():
    assert set(VERB_SYNONYMS.values()) <= set(VERBS) and not set(VERB_SYNONYMS) & set(VERBS)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["distil"], 2),
        (["distill", "--help"], 0),
        (["amalgamate", "--method", "dafl", "--help"], 0),
        (["distill", "--epochs", "3"], 2),
        (["distill"], 2),
        (["extend", "--teacher", "a"], 2),
        (["distill", "--teacher", "a", "--student", "b", "--steps", "1e9"], 2),
        (["bench", "digit"], 2),
    ],
)
def test_help_and_refusals_do_not_import_torch(arguments: list[str], code: int):
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=30)
    assert done.returncode == code and json.loads(done.stderr.splitlines()[-1].replace("'", '"')) == []


def test_the_list_of_methods_does_not_import_torch_and_fits_into_80_columns():
    environment = {**os.environ, "COLUMNS": "80"}
    words = [sys.executable, "-c", PROGRAM, "methods"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, env=environment)
    assert done.returncode == 0 and all(name in done.stdout for name in METHODS)
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["distill", "--teacher", "local-dir:t", "--student=convnet_w16"],
            "distill  teacher local-dir:t, student convnet_w16, method auto, output runs/distill-001",
        ),
        (
            ["amalgamate", "--teacher", "a", "--teacher", "b", "--out", "o"],
            "amalgamate teacher a b, method group-stack, output o",
        ),
        (["resume", "runs/\x1b[31m"], "resume   run runs/\ufffd[31m"),
    ],
)
def test_the_first_line_comes_before_torch_and_a_failed_start_leaves_no_folder(
    arguments: list[str], line: str, tmp_path: Path
):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert done.stdout == f"{line}\n" and "ModuleNotFoundError: import of torch halted" in done.stderr
    assert not list((tmp_path / "runs").glob("*"))
