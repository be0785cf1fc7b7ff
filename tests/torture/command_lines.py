"""Random command lines: right ones with one to three words changed into something that somebody might type."""

import random
from collections.abc import Iterator
from pathlib import Path

from torture.trials import Trial, clean, command
from torture.workshop import MACHINE, Workshop

TINY = ["--steps", "1", "--warmup-batches", "1", "--pool-batches", "1", "--batch-size", "4", "--method.batch-size", "4"]
VALUES = [
    *(
        "0",
        "-1",
        "1",
        "3",
        "0.5",
        "1e9",
        "1e-9",
        "nan",
        "inf",
        "-inf",
        "1" + "0" * 20,
        "abc",
        "",
        " ",
        "None",
        "True",
        "[]",
    ),
    *(
        "1²",
        "½",
        "-",
        "--",
        "1,2",
        "cuda",
        "tpu",
        "mps",
        "cpu",
        "meta",
        "auto",
        "digits",
        "digits:0-4",
        "digits:9-99",
        "mnist",
    ),
    *(
        "folder:/nowhere",
        "local-dir:/nowhere",
        "local-dir:",
        "resnet18",
        "resnet18.foo",
        "convnet_w16",
        "lenet5",
        "x" * 300,
    ),
    *(
        "[/b]",
        "\x1b[31m",
        "日本",
        "a=b",
        "num_heads=5",
        "depth=-1",
        "patch_size=0",
        "nonsense=5",
        "num_classes=3",
        "/dev/null",
        ".",
    ),
    *(
        "32-true",
        "bf16-mixed",
        "16-mixed",
        "64-true",
        "noise",
        "adi",
        "zskd",
        "real",
        "saved",
        "group-stack",
        "adamw",
        "sgd",
    ),
]
OPTIONS = [
    *(
        "--steps",
        "--lr",
        "--batch-size",
        "--temperature",
        "--ema",
        "--shift",
        "--rotate",
        "--scale",
        "--mix",
        "--optimizer",
    ),
    *(
        "--warmup-batches",
        "--refresh-every",
        "--pool-batches",
        "--lr-warmup",
        "--weight-decay",
        "--seed",
        "--device",
        "--threads",
    ),
    *(
        "--precision",
        "--devices",
        "--checkpoint-interval",
        "--evaluation-interval",
        "--data",
        "--data-root",
        "--classes",
        "--input",
    ),
    *(
        "--mean",
        "--std",
        "--student",
        "--student-args",
        "--weights",
        "--teacher",
        "--out",
        "--method",
        "--method.batch-size",
    ),
    *(
        "--method.steps",
        "--method.lr",
        "--method.jitter",
        "--method.statistics",
        "--method.layers",
        "--method.betas",
        "--ratio",
    ),
    *(
        "--rounds",
        "--importance-batches",
        "--labels",
        "--gate",
        "--shared-labels",
        "--into",
        "--recipe",
        "--new-data",
        "--images",
    ),
    *(
        "--format",
        "--epochs",
        "--batch",
        "--foo",
        "-x",
        "--help",
        "--inherit",
        "--per-teacher",
        "--tensorboard",
        "--application.steps",
    ),
]


def command_lines(workshop: Workshop, count: int) -> Iterator[Trial]:
    """So many command lines; whatever is wrong with them is one sentence."""
    for number in range(count):
        numbers = random.Random(f"line {number}")
        words = changed(numbers.choice(bases(workshop)), numbers)

        def check(folder: Path, words: list[str] = words) -> str:
            outcome = command([word.replace("{folder}", str(folder)) for word in words], timeout=60, cwd=folder)
            failure = clean(outcome, 0, 2, 70)
            if not failure and outcome.code == 2:
                spoken = [line for line in outcome.output.splitlines() if line.startswith("datafree: ")]
                failure = "" if len(spoken) == 1 else f"not one sentence: {outcome.output[-300:]}"
            return f"{failure} <- {' '.join(words)!r}" if failure else ""

        yield Trial("command lines", f"{number:04d}", check)


def bases(workshop: Workshop) -> list[list[str]]:
    """Command lines that are right, and small."""
    teacher, out = ["--teacher", workshop.teacher()], ["--out", "{folder}/out"]
    inversion = ["--method.steps", "1"]
    distill = ["distill", *teacher, "--student", "convnet_w16"]
    both = ["--teacher", workshop.teacher("low"), "--teacher", workshop.teacher("high"), "--shared-labels", "same"]
    extend = ["extend", "--teacher", workshop.teacher("low"), "--new-data", "digits:5-9", "--new-batch-size", "4"]
    return [
        [*distill, "--method", "deep-inversion", *TINY, *inversion, *MACHINE, *out],
        [*distill, "--method", "adi", *TINY, *inversion, *MACHINE, *out],
        [*distill, "--method", "noise", *TINY, *MACHINE, *out],
        [*distill, "--method", "zskd", *TINY, *inversion, *MACHINE, *out],
        [*distill, "--method", "fast", *TINY, *MACHINE, *out],
        [
            "prune",
            workshop.teacher(),
            "--method",
            "noise",
            *TINY,
            "--rounds",
            "1",
            "--importance-batches",
            "1",
            *MACHINE,
            *out,
        ],
        [*extend, "--method", "deep-inversion", *TINY, *inversion, *MACHINE, *out],
        ["amalgamate", *both, "--method", "noise", *TINY, *MACHINE, *out],
        ["synthesize", *teacher, "--images", "4", "--method.batch-size", "4", *inversion, "--device", "cpu", *out],
        ["statistics", workshop.teacher(), "--data", "digits", "--images", "4", "--device", "cpu", *out],
        ["evaluate", workshop.teacher(), "--data", "digits", "--device", "cpu"],
        ["crosscheck", str(workshop.root / "set"), workshop.teacher(), "--device", "cpu"],
        ["train", "convnet_w16", "--data", "digits", "--steps", "1", "--device", "cpu", *out],
        ["report", str(workshop.root / "finished")],
        ["resume", str(workshop.root / "finished")],
        ["methods"],
    ]


def changed(words: list[str], numbers: random.Random) -> list[str]:
    """One to three changes: a value, an option, a word left out, a word twice, a word with a letter missing."""
    words = list(words)
    for _ in range(numbers.randint(1, 3)):
        place = numbers.randrange(len(words))
        match numbers.randrange(5):
            case 0 if place:
                words[place] = numbers.choice(VALUES)
            case 1:
                words += [numbers.choice(OPTIONS), numbers.choice(VALUES)]
            case 2 if len(words) > 1:
                del words[place]
            case 3:
                words.insert(place + 1, words[place])
            case _:
                words[place] = words[place][:-1]
    return words
