"""Mixtures on the command line: their options, their help and every refusal."""

from dataclasses import asdict

import pytest

from datafree.commands.experiments import AMALGAMATE, DISTILL, EXTEND, PRUNE, experiment_of
from datafree.commands.images import SYNTHESIZE
from datafree.commands.mixtures import scheduled
from datafree.commands.options.help import help_text
from datafree.commands.options.parsing import Form
from datafree.commands.options.table import check, commands
from datafree.methods import METHODS
from datafree.runs.serialization import from_json, to_json
from datafree.runs.tasks import Task
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture
from datafree.types import InputError

MIX = "fast:0.3,deep-inversion:0.7"
NETWORKS = ["--teacher", "a", "--student", "b"]


def mixture_of(arguments: list[str]) -> Mixture:
    check("distill", arguments)
    method = experiment_of(DISTILL.parse(arguments), Task).method
    assert isinstance(method, Mixture)
    return method


def test_a_mixture_has_the_presets_of_its_methods():
    mixture = mixture_of([*NETWORKS, "--method", MIX])
    assert [(part.name, part.share) for part in mixture.parts] == [("fast", 0.3), ("deep-inversion", 0.7)]
    assert [part.method for part in mixture.parts] == [METHODS["fast"], METHODS["deep-inversion"]]
    assert [part.own_schedule for part in mixture.parts] == [part.method.schedule for part in mixture.parts]
    assert mixture.batch_size == 128


def test_each_part_has_its_settings_and_its_schedule():
    words = ["--batch-size", "64", "--method.deep-inversion.steps", "30", "20", "--method.fast.pool-batches", "7"]
    mixture = mixture_of([*NETWORKS, f"--method={MIX}", *words, "--method.fast.no-reuse-batch"])
    fast, inversion = (part.method for part in mixture.parts)
    assert inversion.steps == (30, 20) and not fast.reuse_batch  # type: ignore[attr-defined]
    assert mixture.batch_size == 64 and mixture.parts[0].own_schedule.pool_batches == 7
    assert mixture.parts[1].own_schedule == METHODS["deep-inversion"].schedule


def test_the_experiment_of_a_mixture_survives_json():
    experiment = experiment_of(DISTILL.parse([*NETWORKS, "--method", MIX, "--batch-size", "32"]), Task)
    assert from_json(to_json(experiment)) == experiment
    assert experiment.schedule == Schedule(batch_size=32)


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (DISTILL, NETWORKS),
        (EXTEND, ["--teacher", "a", "--new-data", "digits"]),
        (AMALGAMATE, ["--teacher", "a", "--teacher", "b"]),
        (PRUNE, ["a"]),
        (SYNTHESIZE, ["--teacher", "a", "--out", "b"]),
    ],
    ids=lambda value: value.verb if isinstance(value, Form) else "",
)
def test_every_option_of_the_table_is_parsed(form: Form, words: list[str]):
    selected = [MIX if selector.mixes else selector.default for selector in commands()[form.verb].selectors]
    given = [*words, "--method", MIX]
    for option in commands()[form.verb].options_of(selected):
        if option.name.startswith("--") and option.default and option.name not in words:
            given += [option.name, *option.default.split(" ")] if option.count else [option.name]
    check(form.verb, given)
    assert asdict(form.parse(given)) == asdict(form.parse([*words, "--method", MIX]))


def test_the_schedule_of_a_part_has_all_fields_but_the_batch_size():
    assert {*scheduled(), "batch_size"} == set(Schedule.__dataclass_fields__)


def test_help_lists_the_settings_of_each_part():
    text = help_text("distill", ["--method", MIX])
    fast, inversion = (text.index(f"settings of the part {name} of the mixture") for name in ("fast", "deep-inversion"))
    assert fast < text.index("--method.fast.pool-batches") < inversion < text.index("--method.deep-inversion.steps")
    # The width of the terminal decides where a line ends.
    assert text.count("--batch-size INT") == 1 and "in proportion to their shares" in " ".join(text.split())
    assert "settings of the part" not in help_text("distill", ["--method", "fast"])


def test_the_training_is_that_of_the_largest_part():
    options = commands()["distill"].options_of(["zskd:0.6,noise:0.4"])
    assert next(option.default for option in options if option.name == "--temperature") == "20.0"
    options = commands()["distill"].options_of(["zskd:0.4,noise:0.6"])
    assert next(option.default for option in options if option.name == "--temperature") == "4.0"


WRONG = {
    "one part": (["--method", "noise:0.7"], "a mixture needs two or more parts; use --method noise for one method"),
    "no share": (
        ["--method", "noise:,adi:1"],
        "noise has no share in the mixture; write noise:SHARE, such as noise:0.3",
    ),
    "no colon": (["--method", "noise,adi:1"], "noise has no share in the mixture"),
    "no name": (["--method", "noise:.5,,adi:.5"], "the mixture has a part without a name; write NAME:SHARE,NAME:SHARE"),
    "no number": (["--method", "noise:.5,adi:x"], "the share of adi is 'x', which is not a number"),
    "zero": (
        ["--method", "noise:0,adi:1"],
        "the share of noise is 0, but it must be above 0 and finite; leave noise out",
    ),
    "negative": (["--method", "noise:-1,adi:1"], "the share of noise is -1, but it must be above 0"),
    "infinite": (
        ["--method", "noise:inf,adi:1"],
        "the share of noise is inf, but it must be above 0 and finite; give another one",
    ),
    "not a number": (["--method", "noise:nan,adi:1"], "the share of noise is nan, but it must be above 0"),
    "twice": (["--method", "noise:.5,noise:.5"], "noise is twice in the mixture; give it once, with the sum"),
    "real": (["--method", "real:.5,noise:.5"], "real images cannot be part of a mixture; use --method real alone"),
    "race misspelt": (["--method", "auto:rac"], "unknown method 'auto:rac'; did you mean auto:race?"),
    "auto": (["--method", "auto:.5,noise:.5"], "auto chooses a whole method and cannot be part of a mixture"),
    "unknown": (["--method", "nois:.5,adi:.5"], "unknown method 'nois' in the mixture; did you mean noise?"),
    "setting without part": (
        ["--method", MIX, "--method.steps", "3"],
        "say of which part: --method.deep-inversion.steps",
    ),
    "schedule without part": (
        ["--method", MIX, "--pool-batches", "3"],
        "say of which part: --method.fast.pool-batches or --method.deep-inversion.pool-batches",
    ),
    "typing error": (
        ["--method", MIX, "--method.deep-inversion.stpes", "3"],
        "did you mean --method.deep-inversion.steps?",
    ),
    "value": (
        ["--method", MIX, "--method.deep-inversion.steps", "x"],
        "invalid value 'x' for --method.deep-inversion.steps",
    ),
}


@pytest.mark.parametrize(("words", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_mixture_is_refused_in_one_sentence(words: list[str], sentence: str):
    with pytest.raises(InputError) as refusal:
        check("distill", [*NETWORKS, *words])
    assert sentence in str(refusal.value)


def test_a_setting_that_a_method_refuses_names_the_part():
    words = ["--method", MIX, "--method.fast.discard-first", "500"]
    with pytest.raises(InputError, match=r"fast in the mixture: reset-every is 200, but it must be at least 501"):
        experiment_of(DISTILL.parse([*NETWORKS, *words]), Task)
