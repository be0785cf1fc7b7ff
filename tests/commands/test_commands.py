"""Every command does its work; every user error is one sentence and leaves nothing behind."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import toys
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from datafree import teachers
from datafree.benchmarks.demo import demo_sources
from datafree.commands.main import main
from datafree.commands.verbs import INTERRUPTED
from datafree.runs.logger import RunLogger
from datafree.runs.training import TrainingConfig
from datafree.sets import image_set
from datafree.synthesis import features
from datafree.types import Batch

Capture = pytest.CaptureFixture[str]
QUICK = [
    *("--method.batch_size", "8", "--method.steps", "2"),
    *("--warmup-batches", "1", "--refresh-every", "0", "--batch-size", "8"),
]


def distill(teacher: Path, *more: str) -> list[str]:
    """Arguments of a whole run that takes a second."""
    networks = ["--teacher", f"local-dir:{teacher}", "--student", "convnet_w16"]
    return ["distill", *networks, "--steps", "2", "--method", "deep-inversion", *QUICK, *more]


def refusal(capsys: Capture, arguments: list[str], code: int = 2) -> str:
    """The one sentence with which the command refuses; before it, there are the first lines of the command at most."""
    assert main(arguments) == code
    output = capsys.readouterr()
    assert all(line.startswith((f"{arguments[0]:<8} ", "device   ", "note     ")) for line in output.out.splitlines())
    assert output.err.count("\n") == 1
    assert output.err.startswith("datafree: ") and "Traceback" not in output.err and len(output.err) < 600
    return output.err


class TestCommands:
    def test_methods_are_listed_with_what_they_need(self, capsys: Capture):
        assert main(["methods"]) == 0
        output = capsys.readouterr().out
        assert all(name in output for name in toys.TINY) and "batch-norm" in output and "1912.08795" in output

    def test_a_student_is_distilled_evaluated_and_reported_again(
        self, digits_teacher: Path, tmp_path: Path, capsys: Capture
    ):
        assert main(distill(digits_teacher, "--data", "digits", "--out", str(tmp_path / "run"))) == 0
        output = capsys.readouterr().out
        assert "deep-inversion" in output and f"report   {tmp_path / 'run' / 'report.html'}" in output
        (tmp_path / "run" / "report.html").unlink()
        assert main(["report", str(tmp_path / "run")]) == 0
        assert (tmp_path / "run" / "report.html").is_file() and "held-out" in capsys.readouterr().out

    def test_a_teacher_can_be_a_timm_name_with_a_weights_file(self, digits_teacher: Path, tmp_path: Path):
        torch.save(load_file(digits_teacher / "model.safetensors"), tmp_path / "w.pt")
        teacher = [
            "--teacher",
            "convnet_w16",
            "--weights",
            str(tmp_path / "w.pt"),
            "--student",
            "convnet_w16",
            "--method",
            "noise",
        ]
        assert main(["distill", *teacher, "--steps", "2", "--out", str(tmp_path / "run")]) == 0

    def test_images_are_synthesized_reused_and_crosschecked(
        self, digits_teacher: Path, tmp_path: Path, capsys: Capture
    ):
        out = tmp_path / "images"
        options = ["--method.batch_size", "8", "--method.steps", "2", "--images", "12", "--out", str(out)]
        assert main(["synthesize", "--teacher", f"local-dir:{digits_teacher}", *options]) == 0
        assert "(16)" in capsys.readouterr().out
        assert load_file(out / "images-00001-of-00001.safetensors")["images"].shape == (16, 1, 8, 8)
        assert len(list(out.rglob("png/*/*.png"))) == 16
        assert (out / "grid.png").is_file() and "**Privacy.**" in (out / "README.md").read_text()
        again = ["--method", "saved", "--method.images", str(out), "--steps", "2"]
        learn = ["--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", "--out", str(tmp_path / "run")]
        assert main(["distill", *again, *learn]) == 0
        assert "student · saved" in capsys.readouterr().out
        assert main(["crosscheck", str(out), f"local-dir:{digits_teacher}"]) == 0
        output = capsys.readouterr().out
        assert all(word in output for word in ("recognised", "1 to 10", "diversity", "16"))
        name = f"local-dir:{digits_teacher}"[:20]  # not squeezed into a few letters
        assert name in output and all(
            len(line) <= 80 for line in output.splitlines() if not line.startswith(("note", "crosscheck"))
        )

    def test_a_teacher_is_trained_and_evaluated(self, tmp_path: Path, capsys: Capture):
        out = tmp_path / "teacher"
        assert main(["train", "convnet_w16", "--data", "digits", "--steps", "5", "--out", str(out)]) == 0
        assert '"teacher training"' in (out / "ledger.json").read_text()
        assert main(["evaluate", f"local-dir:{out}", "--data", "digits"]) == 0
        output = capsys.readouterr().out
        assert "held-out" in output and "calibration" in output and "agreement" not in output

    def test_a_network_is_compared_with_its_teacher(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        student = teachers.create("convnet_w16", classes=tuple("0123456789"))
        teachers.save_folder(student, tmp_path / "student")
        names = [f"local-dir:{folder}" for folder in (digits_teacher, tmp_path / "student")]
        assert main(["evaluate", names[1], "--teacher", names[0], "--data", "digits"]) == 0
        output = capsys.readouterr().out
        agreement = [line for line in output.splitlines() if " % " in line]
        assert "agreement" in output and len(agreement) == 2
        assert "100.00 %" in agreement[0] and "100.00 %" not in agreement[1], "the teacher first; it agrees with itself"

    def test_the_demo_writes_its_comparison(self, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
        quick = {name: (method and toys.tiny(method), schedule) for name, (method, schedule) in demo_sources(2).items()}
        monkeypatch.setattr("datafree.benchmarks.demo.demo_sources", lambda steps: quick)
        monkeypatch.setattr("datafree.benchmarks.demo.TrainingConfig", lambda: TrainingConfig(steps=5))
        assert main(["demo", "--steps", "2", "--out", str(tmp_path / "demo")]) == 0
        output = capsys.readouterr().out
        assert all(
            name in output for name in ("teacher", "noise", "deep-dream", "deep-inversion", "adi", "real images")
        )
        assert {"comparison.json", "report.html", "teacher", "adi"} <= {
            path.name for path in (tmp_path / "demo").iterdir()
        }

    def test_an_interrupted_run_says_how_to_continue_and_can_be_resumed(
        self, digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ):
        def interrupted(self: RunLogger, step: int, terms: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunLogger, "log", interrupted)
            output = refusal(capsys, distill(digits_teacher, "--out", str(tmp_path / "run")), INTERRUPTED)
        assert output == f"datafree: interrupted; continue with: datafree resume {tmp_path / 'run'}\n"
        assert main(["resume", str(tmp_path / "run")]) == 0

    def test_divergence_has_its_own_exit_code(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        wild = ["--lr", "1e30", "--lr-warmup", "0", "--steps", "30"]
        assert "lower the learning rate" in refusal(
            capsys, [*distill(digits_teacher, "--out", str(tmp_path / "r")), *wild], 70
        )


TEACHER = "local-dir:{digits}"
OUT = ["--out", "{out}"]
LEARN = ["--student", "convnet_w16", *OUT]

BAD: dict[str, tuple[list[str], str]] = {
    "unknown teacher": (["distill", "--teacher", "convnet_w1", *LEARN], "network 'convnet_w1' is unknown to timm"),
    "unknown student": (["distill", "--teacher", TEACHER, "--student", "convnet_w1", *OUT], "did you mean convnet_w1"),
    "missing teacher": (["distill", "--teacher", "local-dir:{tmp}/nowhere", *LEARN], "config.json does not exist"),
    "truncated teacher": (["distill", "--teacher", "local-dir:{truncated}", *LEARN], "was damaged or replaced"),
    "pickled teacher": (
        ["distill", "--teacher", "convnet_w16", "--weights", "{pickle}", *LEARN],
        "is a whole pickled network",
    ),
    "teacher of another architecture": (
        ["distill", "--teacher", "convnet_w64", "--weights", "{digits}/model.safetensors", *LEARN],
        "blocks.0.1.weight has shape (16, 1, 3, 3) instead of (32, 1, 3, 3)",
    ),
    "teacher with NaN": (["distill", "--teacher", "local-dir:{nan}", *LEARN], "NaN or infinite values in"),
    "student of other classes": (
        ["distill", "--teacher", TEACHER, "--student", "local-dir:{three}", *OUT],
        "the teacher has 10 classes and the student 3",
    ),
    "student of other channels": (
        ["distill", "--teacher", TEACHER, "--student", "local-dir:{colour}", *OUT],
        "the teacher has 1 channels and the student 3",
    ),
    "data of other classes": (
        ["distill", "--teacher", "local-dir:{three}", "--method", "noise", "--data", "digits", *LEARN],
        "the network has 3 classes, but digits has 10; the numbers must be equal",
    ),
    "single-label data for a multi-label network": (
        ["distill", "--teacher", "local-dir:{labels}", "--method", "noise", "--data", "digits", *LEARN],
        "digits is single-label, but the network is multi-label; use multi-label data",
    ),
    "multi-label student": (
        ["distill", "--teacher", TEACHER, "--student", "local-dir:{labels}", *OUT],
        "one of teacher and student is multi-label and the other is not",
    ),
    "extending a multi-label network": (
        ["extend", "--teacher", "local-dir:{labels}", "--new-data", "digits", *OUT],
        "only single-label teachers can be extended",
    ),
    "unknown device of an evaluation": (
        ["evaluate", TEACHER, "--data", "digits", "--device", "tpo"],
        "device 'tpo' is not available; use --device cpu",
    ),
    "no threads for a crosscheck": (
        ["crosscheck", "{set}", TEACHER, "--threads", "0"],
        "threads",
    ),
    "a budget and steps": (
        ["distill", "--teacher", TEACHER, "--budget", "1m", "--steps", "5", *LEARN],
        "--budget decides the steps, but --steps is given too; leave one of them out",
    ),
    "other classes without labels": (
        ["distill", "--teacher", TEACHER, "--others", "0.5", *LEARN],
        "--others needs --labels, the classes of the student; give both or none",
    ),
    "images in total and per class": (
        ["synthesize", "--teacher", TEACHER, "--images", "64", "--per-class", "2", *OUT],
        "--per-class counts the images of each class, but --images is given too; leave one of them out",
    ),
    "too many candidates": (
        ["distill", "--teacher", TEACHER, "--method", "noise", "--select", "1000", *LEARN],
        "select is 1000, but it must be at most 64",
    ),
    "unknown data": (["distill", "--teacher", TEACHER, "--data", "digit", *LEARN], "did you mean digits"),
    "teacher without batch norm": (
        ["distill", "--teacher", "local-dir:{plain}", *LEARN],
        "methods that work with it: noise, deep-dream",
    ),
    "images from a teacher without batch norm": (
        ["synthesize", "--teacher", "local-dir:{plain}", *OUT],
        "methods that work with it",
    ),
    "ceiling without data": (["distill", "--method", "real", "--teacher", TEACHER, *LEARN], "name them with --data"),
    "a set without its folder": (
        ["distill", "--method", "saved", "--teacher", TEACHER, *LEARN],
        "add it to the name, as in saved:FOLDER",
    ),
    "a folder without images": (
        ["distill", "--method", "saved", "--method.images", "{digits}", "--teacher", TEACHER, *LEARN],
        "is not an image set",
    ),
    "images for a student of other classes": (
        ["synthesize", "--teacher", TEACHER, "--student", "local-dir:{three}", *OUT],
        "the teacher has 10 classes and the student 3",
    ),
    "missing statistics": (
        ["distill", "--teacher", "local-dir:{plain}", "--method.feature-statistics", "{tmp}/nowhere", *LEARN],
        "nowhere does not exist",
    ),
    "statistics of another teacher": (
        ["distill", "--teacher", TEACHER, "--method.feature-statistics", "{statistics}", *LEARN],
        "was measured on another teacher",
    ),
    "statistics in an existing file": (
        ["statistics", TEACHER, "--data", "digits", "--out", "{file}"],
        "already exists; give another --out",
    ),
    "statistics of one image": (
        ["statistics", TEACHER, "--data", "digits", "--images", "1", *OUT],
        "images is 1, but it must be at least 2",
    ),
    "statistics of unknown data": (
        ["statistics", TEACHER, "--data", "digit", *OUT],
        "did you mean digits",
    ),
    "crosscheck with other classes": (
        ["crosscheck", "{set}", "local-dir:{three}"],
        "local-dir:{three} has 3 classes, but {set} has 10",
    ),
    "crosscheck with other channels": (
        ["crosscheck", "{set}", "local-dir:{colour}"],
        "has 1 channels but local-dir:{colour} has 3",
    ),
    "an infinite weight": (
        ["distill", "--teacher", TEACHER, "--method.tv", "inf", *LEARN],
        "tv is inf, but it must be at least 0 and finite",
    ),
    "negative weight decay": (
        ["train", "convnet_w16", "--data", "digits", "--weight-decay", "-1", *OUT],
        "weight-decay is -1",
    ),
    "negative seed": (
        ["train", "convnet_w16", "--data", "digits", "--seed", "-1", *OUT],
        "seed is -1",
    ),
    "seed too large": (
        ["synthesize", "--teacher", TEACHER, "--seed", str(2**63), *OUT],
        "seed is 9223372036854775808, but it must be at most",
    ),
    "too many threads": (
        ["distill", "--teacher", TEACHER, "--threads", "999999", *LEARN],
        "threads is 999999, but it must be at most 1024",
    ),
    "unsupported precision": (
        ["distill", "--teacher", TEACHER, "--precision", "63-true", *LEARN],
        "precision '63-true' is unknown; did you mean ",
    ),
    "path too long": (
        ["synthesize", "--teacher", TEACHER, "--out", "{tmp}/" + 300 * "a"],
        "File name too long",
    ),
    "too many classes": (
        ["train", "convnet_w16", "--data", "digits:0-99999999999", *OUT],
        "class indices go from 0 to 9",
    ),
    "an unknown optimizer": (
        ["distill", "--teacher", TEACHER, "--optimizer", "adamv", *LEARN],
        "did you mean adam?",
    ),
    "crosscheck of nothing": (
        ["crosscheck", "{tmp}/nowhere", TEACHER],
        "is not an image set",
    ),
    "unknown optimizer": (
        ["distill", "--teacher", TEACHER, "--optimizer", "adamm", *LEARN],
        "optimizer 'adamm' is unknown",
    ),
    "unknown device": (["distill", "--teacher", TEACHER, "--device", "abacus", *LEARN], "device 'abacus'"),
    "empty batch": (
        ["distill", "--teacher", TEACHER, "--method.batch_size", "0", *LEARN],
        "batch-size is 0, but it must be at least 1",
    ),
    "no steps": (["distill", "--teacher", TEACHER, "--steps", "0", *LEARN], "steps is 0"),
    "negative warmup": (["distill", "--teacher", TEACHER, "--warmup-batches", "-1", *LEARN], "warmup-batches is -1"),
    "no threads": (["distill", "--teacher", TEACHER, "--threads", "0", *LEARN], "threads is 0"),
    "no devices": (["distill", "--teacher", TEACHER, "--devices", "0", *LEARN], "devices is 0"),
    "no images": (["synthesize", "--teacher", TEACHER, "--images", "0", *OUT], "images is 0"),
    "huge input": (
        [
            "distill",
            "--teacher",
            "convnet_w16",
            "--weights",
            "{digits}/model.safetensors",
            "--input",
            "1",
            "8",
            "99999",
            *LEARN,
        ],
        "from 1 to 4096",
    ),
    "input of two numbers": (
        ["distill", "--teacher", "convnet_w16", "--weights", "{digits}/model.safetensors", "--input", "8", "8", *LEARN],
        "give channels, height and width",
    ),
    "too many resolutions": (
        ["distill", "--teacher", TEACHER, "--method.steps", "1", "1", "1", "1", *LEARN],
        "4 resolutions are too many",
    ),
    "output in a file": (
        ["distill", "--teacher", TEACHER, "--student", "convnet_w16", "--out", "{file}/run"],
        "cannot be written",
    ),
    "images in a file": (
        ["synthesize", "--method", "noise", "--teacher", TEACHER, "--out", "{file}/run"],
        "cannot be written",
    ),
    "output folder with something else": (
        ["distill", "--teacher", TEACHER, "--student", "convnet_w16", "--out", "{tmp}"],
        "is not empty and is not a run folder",
    ),
    "images in an existing folder": (
        ["synthesize", "--teacher", TEACHER, "--out", "{tmp}"],
        "already exists; give another --out",
    ),
    "demo in an existing folder": (["demo", "--out", "{tmp}"], "already exists; give another --out"),
    "training in an existing folder": (
        ["train", "convnet_w16", "--data", "digits", "--out", "{tmp}"],
        "already exists; give another --out",
    ),
    "training an unknown network": (
        ["train", "convnet_w1", "--data", "digits", *OUT],
        "is unknown to timm",
    ),
    "training without threads": (
        ["train", "convnet_w16", "--data", "digits", "--threads", "0", *OUT],
        "threads is 0",
    ),
    "demo without steps": (["demo", "--steps", "0", *OUT], "steps is 0"),
    "report of nothing": (
        ["report", "{tmp}/nowhere"],
        "is not a run folder (it has no experiment.json); give the folder of a run",
    ),
    "resume of nothing": (["resume", "{tmp}/nowhere"], "is not a run folder"),
    "evaluation on the wrong classes": (
        ["evaluate", "local-dir:{three}", "--data", "digits"],
        "the network has 3 classes, but digits has 10",
    ),
}


def write_set(folder: Path) -> None:
    """Two images of ten classes."""
    batch = Batch(torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), {}, torch.zeros(2, 10))
    image_set.write(
        image_set.ImageSet(batch=batch, classes=tuple("0123456789"), teacher_sha256="", made_by=""),
        toys.plain_net(),
        folder,
    )


@pytest.fixture
def places(digits_teacher: Path, plain_folder: Path, tmp_path: Path) -> dict[str, str]:
    """Good and spoilt teachers, and where to write."""

    def spoilt(name: str, spoil: Callable[[Path], object]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in digits_teacher.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        spoil(folder / "model.safetensors")
        return folder

    def with_nan(file: Path) -> None:
        tensors = load_file(file)
        tensors["head.bias"][0] = float("nan")
        save_file(tensors, file)
        (file.parent / "manifest.json").unlink()

    for name, classes, channels in (("three", 3, 1), ("colour", 10, 3)):
        teachers.save_folder(teachers.create("convnet_w16", classes=classes, shape=(channels, 8, 8)), tmp_path / name)
    labels = teachers.create("convnet_w16", classes=10)
    labels.multi_label = True
    teachers.save_folder(labels, tmp_path / "labels")
    torch.save(toys.plain_net(), tmp_path / "pickle.pt")
    write_set(tmp_path / "set")
    lenet = teachers.load_folder(plain_folder)
    features.save(features.measure_features(lenet, [torch.rand(2, 1, 32, 32)]), tmp_path / "statistics")
    (tmp_path / "file").write_text("")
    return {
        "digits": str(digits_teacher),
        "plain": str(plain_folder),
        "truncated": str(spoilt("truncated", lambda file: file.write_bytes(file.read_bytes()[:999]))),
        "nan": str(spoilt("nan", with_nan)),
        "three": str(tmp_path / "three"),
        "colour": str(tmp_path / "colour"),
        "labels": str(tmp_path / "labels"),
        "pickle": str(tmp_path / "pickle.pt"),
        "file": str(tmp_path / "file"),
        "set": str(tmp_path / "set"),
        "statistics": str(tmp_path / "statistics"),
        "tmp": str(tmp_path),
        "out": str(tmp_path / "out"),
    }


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(
    arguments: list[str], sentence: str, places: dict[str, str], tmp_path: Path, capsys: Capture
):
    before = sorted(tmp_path.rglob("*"))
    method = ["--method", "adi"] if arguments[0] == "distill" and "--method" not in arguments else []
    words = [argument.format(**places) for argument in [*arguments, *method]]
    assert sentence.format(**places) in refusal(capsys, words)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_with_another_run_is_refused_and_unchanged(digits_teacher: Path, tmp_path: Path, capsys: Capture):
    again = distill(digits_teacher, "--out", str(tmp_path / "run"))
    assert main(again) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert "is a finished run; see it with `datafree report" in refusal(capsys, [*again, "--seed", "1"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("budget", [["--budget", "1h"], ["--method", "auto"]])
def test_a_used_folder_is_refused_before_anything_is_measured(
    budget: list[str], digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("datafree.runs.experiment.set_up", None)
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16", *budget]
    (tmp_path / "notes.txt").write_text("mine")
    assert "is not empty and is not a run folder" in refusal(capsys, [*words, "--out", str(tmp_path)])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "experiment.json").write_text("{}")
    assert "has a run; continue it with datafree resume" in refusal(capsys, [*words, "--out", str(tmp_path / "run")])


def test_control_characters_in_arguments_do_not_reach_the_terminal(capsys: Capture):
    assert "\x1b" not in refusal(capsys, ["distill", "--method", "a\x1b[31m\nb"])


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), SafetensorError("I/O error: disk full")])
def test_a_full_disk_is_one_sentence_and_the_run_can_be_resumed(
    fault: Exception, digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    again = distill(digits_teacher, "--out", str(tmp_path / "run"), "--checkpoint-interval", "0")

    def full(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("datafree.runs.checkpoints.save_file", full)
        output = refusal(capsys, again)
    assert "could not be read or written" in output and str(fault) in output
    assert f"fix that, then continue with: datafree resume {tmp_path / 'run'}" in output
    assert not list(tmp_path.rglob(".tmp-*"))
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_an_interrupt_during_the_imports_is_one_sentence(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    class Interrupting:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "datafree.commands.listing":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "datafree.commands.listing", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    assert refusal(capsys, ["methods"], INTERRUPTED) == "datafree: interrupted; run the command again\n"


def test_a_run_on_real_images_says_the_command_that_repeats_it(digits_teacher: Path, tmp_path: Path, capsys: Capture):
    """Real images need no method, and `--student auto` chose the student; the command must still be complete."""
    words = ["distill", "--teacher", f"local-dir:{digits_teacher}", "--data", "digits", "--method", "real"]
    words += ["--student", "auto", "--ratio", "1"]
    assert main([*words, "--steps", "2", "--batch-size", "16", "--out", str(tmp_path / "run")]) == 0
    command = " ".join(capsys.readouterr().out.partition("repeat")[2].split())
    assert "--method real --steps 2 --batch-size 16" in command
    repeated = shlex.split(command)[1:]
    assert main([*repeated, "--out", str(tmp_path / "again")]) == 0
    first, again = (load_file(tmp_path / name / "student" / "model.safetensors") for name in ("run", "again"))
    assert first.keys() == again.keys() and all(torch.equal(first[name], again[name]) for name in first)
