"""Run folders of every shape, made up without a network: what a report reads, and nothing else."""

import base64
import io
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

HOSTILE = (
    "<script>document.title = 'owned'</script>",
    '"><img src=x onerror="document.title = 1">',
    "\u202etxt.exe\x1b[31m\x00",
    "=HYPERLINK(1)",
    "{{ 7 * 7 }}",
    "https://evil.example/?" + "x" * 3000,
    "قطة",
    "",
)
ENVIRONMENT = {"datafree": "0.1.0", "torch": "2.10", "python": "3.11", "device": "cpu", "threads": 1}


def network(**changes: Any) -> dict[str, Any]:
    return {"parameters": 56554, "macs": 461440, "bytes": 227528, "milliseconds": 0.2} | changes


def measured(accuracy: float, classes: int, images: int = 450) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "agreement": accuracy,
        "calibration_error": 0.02,
        "per_class": [max(0.0, accuracy - 0.01 * (i % 7)) for i in range(classes)],
        "images": images,
    }


def comparison(classes: int, *, labelled: bool, images: int = 450) -> dict[str, Any]:
    pairs = [[i, i, 40] for i in range(classes)] + [[i, (i + 1) % classes, 3] for i in range(classes)]
    bins = [{"confidence": c, "correct": min(1.0, c + 0.05), "images": 20} for c in (0.35, 0.55, 0.75, 0.97)]
    return {
        "images": images,
        "agreement": 0.93,
        "labelled": labelled,
        "classes": [{"images": 43, "agreement": 0.93} for _ in range(classes)],
        "confusion": pairs[:400] if classes <= 20 else pairs[classes:][:400],
        "student": bins,
        "teacher": bins if labelled else [],
    }


def summary(classes: Sequence[str], **changes: Any) -> dict[str, Any]:
    """A finished run that was evaluated on real images."""
    count = len(classes)
    finding = {"rule": "student_does_not_fit", "level": "warning", "value": 0.7, "range": "0.8 or more"}
    finding |= {"sentence": "the student agrees on only 70 % of its images", "advice": "give it more `--steps`"}
    return {
        "experiment": {"config": "Experiment", "seed": 0, "task": {"config": "Task", "teacher": "a", "student": "b"}},
        "method": "deep-inversion",
        "classes": list(classes),
        "teacher": network(**measured(0.99, count)),
        "student": network(parameters=9162, bytes=37148, **measured(0.95, count)),
        "teacher_sha256": "a" * 64,
        "student_sha256": "b" * 64,
        "images_synthesized": 2944,
        "real_images_seen": 0,
        "health": {"class_balance": 0.98, "confidence": 0.93},
        "notes": ["a note about `--mean` and <b>markup</b>"],
        "ledger": [{"source": "digits", "split": "test", "purpose": "evaluation", "images": 450}],
        "seconds": 154.0,
        "environment": ENVIRONMENT,
        "command": "datafree distill --teacher local-dir:demo/teacher --student convnet_w16 --method deep-inversion --data digits",
        "finished": "2026-11-26T22:50:00+00:00",
        "networks": {"teacher": "convnet_w64", "student": "convnet_w16"},
        "times": {"loading": 0.3, "synthesis": 141.0, "training": 13.1, "evaluation": 0.2},
        "comparison": comparison(count, labelled=True) if count > 1 else None,
        "verdict": {"word": "good", "sentence": "the student keeps 96.0 % of the score", "findings": [finding]},
    } | changes


def picture(width: int, height: int, mode: str, numbers: random.Random) -> dict[str, Any]:
    """A noisy picture, as large as a file can get."""
    size = width * height * (3 if mode == "RGB" else 1)
    image = Image.frombytes(mode, (width, height), numbers.randbytes(size))
    file, kind = io.BytesIO(), "png" if max(width, height) <= 40 else "jpeg"
    image.save(file, kind.upper())
    return {"data": base64.b64encode(file.getvalue()).decode(), "kind": kind}


def answers(
    classes: int, size: tuple[int, int] = (32, 32), mode: str = "RGB", parts: Sequence[str] = ("",), each: int = 8
) -> dict[str, Any]:
    numbers = random.Random(0)
    pool = [picture(*size, mode, numbers) for _ in range(16)]
    made = []
    for name in parts:
        pictures = [
            {
                **pool[numbers.randrange(16)],
                "target": label,
                "teacher": {"classes": [label], "confidence": 0.97},
                "student": {"classes": [(label + index % 2) % classes], "confidence": 0.61},
            }
            for label in range(classes)
            for index in range(max(1, min(each, 1024 // classes)))
        ]
        made.append({"name": name, "comparison": comparison(classes, labelled=False), "pictures": pictures})
    return {"width": size[0], "height": size[1], "parts": made}


def log(lines: int = 3000) -> str:
    """A long log with losses, shares and a term that is not always positive."""
    numbers = random.Random(1)
    events = [
        {"phase": "application", "step": 20 * i + 1, "distillation": 5 * 0.999**i + numbers.random()}
        for i in range(lines)
    ]
    events += [
        {
            "phase": "synthesis",
            "step": i,
            "one-hot": 10.0 ** -(i % 6),
            "adversary": -numbers.random(),
            "health/agreement": 0.5,
        }
        for i in range(1, 60)
    ]
    return "\n".join(map(json.dumps, events)) + "\n"


def write(folder: Path, content: dict[str, Any], asked: dict[str, Any] | None = None) -> Path:
    """Write a finished run folder."""
    folder.mkdir(parents=True)
    (folder / "experiment.json").write_text(json.dumps({"schema": 2} | content["experiment"]))
    (folder / "log.jsonl").write_text(log())
    if asked:
        (folder / "synthetic").mkdir()
        (folder / "synthetic" / "answers.json").write_text(json.dumps(asked))
    (folder / "summary.json").write_text(
        json.dumps({key: value for key, value in content.items() if value is not None})
    )
    return folder


def estimated(word: str, retention: float, **changes: Any) -> dict[str, Any]:
    """What a run without real images knows about its student."""
    result = {
        "retention": retention,
        "low": max(0.0, retention - 0.1),
        "high": min(1.0, retention + 0.03),
        "word": word,
    }
    result |= {
        "sentence": f"the student is {word}",
        "images": 1000,
        "often_overrated": retention < 0.85,
        "accuracy": None,
    }
    result |= {"per_class": [retention], "lost_classes": [], "pools": {"noise": 500}}
    return {"teacher": network(), "student": network(), "comparison": None, "ledger": [], "estimate": result} | changes


DIGITS = tuple("0123456789")
MANY = tuple(f"class {i} with a rather long name, also called {i:04d}" for i in range(1000))
SHAPES: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "measured": (summary(DIGITS), answers(10, (8, 8), "L")),
    "estimated": (
        summary(DIGITS, **estimated("good", 0.94), verdict={"word": "good", "sentence": "an estimate", "findings": []}),
        answers(10, (28, 28), "L"),
    ),
    "collapsed": (
        summary(
            DIGITS, **estimated("collapsed", 0.2), verdict={"word": "collapsed", "sentence": "chance", "findings": []}
        ),
        answers(10),
    ),
    "unknown": (summary(DIGITS, **estimated("not estimated", 0.5) | {"estimate": None}, verdict=None), answers(10)),
    "hostile": (
        summary(
            HOSTILE, method="<b>m</b>", networks={"teacher": HOSTILE[0], "student": HOSTILE[5]}, command=HOSTILE[1]
        ),
        answers(len(HOSTILE)),
    ),
    "1000 classes": (summary(MANY), answers(1000, (96, 64))),
    "one class": (summary(("only",)), answers(1)),
    "mixture": (
        summary(
            DIGITS,
            parts=[
                {"name": name, "share": 0.25, "images": 500, "health": {"confidence": 0.9, "diversity": 1.2}}
                for name in "abcd"
            ],
        ),
        answers(10, (96, 96), parts=tuple("abcd")),
    ),
    "several labels": (
        summary(
            DIGITS,
            teacher=network(**measured(0.99, 10), average_precision=[0.9] * 9 + [None]),
            student=network(**measured(0.95, 10), average_precision=[0.8] * 9 + [None]),
            comparison=comparison(10, labelled=True) | {"classes": [], "confusion": []},
        ),
        answers(10),
    ),
    "no images": (summary(DIGITS, images_synthesized=0, method="real images", real_images_seen=1347), None),
}
"""a summary and its answers, by what is particular about them"""
