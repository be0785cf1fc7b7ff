"""Every verb does its work; every fault of the user's is one sentence and leaves nothing behind."""

import subprocess
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
from datafree.commands.verbs import INTERRUPTED, VERBS
from datafree.runs.logger import RunLogger
from datafree.runs.training import TrainingConfig
from datafree.sets import image_set
from datafree.synthesis import features
from datafree.types import Batch

Capture = pytest.CaptureFixture[str]
QUICK = [
    "--method.batch_size",
    "8",
    "--method.steps",
    "2",
    "--warmup-batches",
    "1",
    "--refresh-every",
    "0",
    "--batch-size",
    "8",
]


def distill(teacher: Path, *more: str) -> list[str]:
    """A whole run in a second."""
    return [
        "distill",
        "--teacher",
        f"local-dir:{teacher}",
        "--student",
        "convnet_w16",
        "--steps",
        "2",
        "--method",
        "deep-inversion",
        *QUICK,
        *more,
    ]


def refusal(capsys: Capture, arguments: list[str], code: int = 2) -> str:
    """The one sentence with which the command refuses."""
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("datafree: ") and "Traceback" not in said.err and len(said.err) < 600
    return said.err


class TestVerbs:
    def test_help_names_every_verb(self, capsys: Capture):
        assert main(["--help"]) == main([]) == 0
        said = capsys.readouterr().out
        assert all(verb in said for verb in VERBS)

    @pytest.mark.parametrize("verb", VERBS)
    def test_every_verb_has_help(self, verb: str, capsys: Capture):
        with pytest.raises(SystemExit) as end:
            main([verb, "--help"])
        assert end.value.code == 0
        assert f"datafree {verb}" in capsys.readouterr().out

    @pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["distil"]])
    def test_what_needs_no_torch_does_not_wait_for_it(self, arguments: list[str]):
        program = (
            "import sys; from datafree.commands.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
        )
        assert (
            subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, timeout=30).returncode == 0
        )

    def test_methods_are_listed_with_what_they_need(self, capsys: Capture):
        assert main(["methods"]) == 0
        said = capsys.readouterr().out
        assert all(name in said for name in toys.TINY) and "batch-norm" in said and "1912.08795" in said

    def test_a_student_is_distilled_judged_and_reported_again(
        self, digits_teacher: Path, tmp_path: Path, capsys: Capture
    ):
        assert main(distill(digits_teacher, "--data", "digits", "--out", str(tmp_path / "run"))) == 0
        said = capsys.readouterr().out
        assert "deep-inversion" in said and f"report   {tmp_path / 'run' / 'report.html'}" in said
        (tmp_path / "run" / "report.html").unlink()
        assert main(["report", str(tmp_path / "run")]) == 0
        assert (tmp_path / "run" / "report.html").is_file() and "held-out" in capsys.readouterr().out

    def test_a_timm_name_with_a_file_of_weights_teaches_as_well(self, digits_teacher: Path, tmp_path: Path):
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

    def test_images_are_written_to_look_at_and_to_use(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
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
        said = capsys.readouterr().out
        assert all(word in said for word in ("recognised", "1 to 10", "diversity", "16"))

    def test_a_teacher_is_trained_and_evaluated(self, tmp_path: Path, capsys: Capture):
        out = tmp_path / "teacher"
        assert main(["train", "convnet_w16", "--data", "digits", "--steps", "5", "--out", str(out)]) == 0
        assert '"teacher training"' in (out / "ledger.json").read_text()
        assert main(["evaluate", f"local-dir:{out}", "--data", "digits"]) == 0
        said = capsys.readouterr().out
        assert "held-out" in said and "calibration error" in said and "agreement" not in said

    def test_a_network_is_compared_with_its_teacher(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        student = teachers.create("convnet_w16", classes=tuple("0123456789"))
        teachers.save_folder(student, tmp_path / "student")
        names = [f"local-dir:{folder}" for folder in (digits_teacher, tmp_path / "student")]
        assert main(["evaluate", names[1], "--teacher", names[0], "--data", "digits"]) == 0
        said = capsys.readouterr().out
        agreement = [line for line in said.splitlines() if " % " in line]
        assert "agreement" in said and len(agreement) == 2
        assert "100.00 %" in agreement[0] and "100.00 %" not in agreement[1], "the teacher first; it agrees with itself"

    def test_the_demo_writes_its_comparison(self, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
        quick = {name: (method and toys.tiny(method), schedule) for name, (method, schedule) in demo_sources(2).items()}
        monkeypatch.setattr("datafree.benchmarks.demo.demo_sources", lambda steps: quick)
        monkeypatch.setattr("datafree.benchmarks.demo.TrainingConfig", lambda: TrainingConfig(steps=5))
        assert main(["demo", "--steps", "2", "--out", str(tmp_path / "demo")]) == 0
        said = capsys.readouterr().out
        assert all(name in said for name in ("teacher", "noise", "deep-dream", "deep-inversion", "adi", "real images"))
        assert {"comparison.json", "report.html", "teacher", "adi"} <= {path.name for path in (tmp_path / "demo").iterdir()}

    def test_an_interrupted_run_says_how_to_go_on_and_does(
        self, digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
    ):
        def interrupted(self: RunLogger, step: int, terms: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(RunLogger, "log", interrupted)
            said = refusal(capsys, distill(digits_teacher, "--out", str(tmp_path / "run")), INTERRUPTED)
        assert said == f"datafree: interrupted; go on with: datafree resume {tmp_path / 'run'}\n"
        assert main(["resume", str(tmp_path / "run")]) == 0

    def test_a_divergence_has_an_exit_code_of_its_own(self, digits_teacher: Path, tmp_path: Path, capsys: Capture):
        wild = ["--lr", "1e30", "--warmup", "0", "--steps", "30"]
        assert "lower the learning rate" in refusal(
            capsys, [*distill(digits_teacher, "--out", str(tmp_path / "r")), *wild], 70
        )


TEACHER = "local-dir:{digits}"
OUT = ["--out", "{out}"]
LEARN = ["--student", "convnet_w16", *OUT]

BAD: dict[str, tuple[list[str], str]] = {
    "unknown verb": (["distil"], "'distil' is no verb; did you mean distill?"),
    "unknown method": (
        ["distill", "--method", "deep-inversio", "--teacher", TEACHER, *LEARN],
        "did you mean deep-inversion",
    ),
    "unknown option": (
        ["distill", "--teacher", TEACHER, "--precison", "x", *LEARN],
        "option '--precison' is unknown; did you mean --precision?",
    ),
    "unknown option of a method": (
        ["distill", "--teacher", TEACHER, "--method.stepz", "3", *LEARN],
        "did you mean --method.steps",
    ),
    "missing option": (["distill", "--student", "convnet_w16", *OUT], "--teacher"),
    "no number": (["distill", "--teacher", TEACHER, "--seed", "many", *LEARN], "--seed"),
    "unknown option of a verb without any": (["methods", "--all"], "option '--all' is unknown"),
    "unknown teacher": (["distill", "--teacher", "convnet_w1", *LEARN], "network 'convnet_w1' is unknown to timm"),
    "unknown student": (["distill", "--teacher", TEACHER, "--student", "convnet_w1", *OUT], "did you mean convnet_w1"),
    "missing teacher": (["distill", "--teacher", "local-dir:{tmp}/nowhere", *LEARN], "config.json does not exist"),
    "truncated teacher": (["distill", "--teacher", "local-dir:{truncated}", *LEARN], "is truncated"),
    "pickled teacher": (
        ["distill", "--teacher", "convnet_w16", "--weights", "{pickle}", *LEARN],
        "a pickle that would run code",
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
        "digits has 10 classes and the network 3",
    ),
    "data of other channels": (
        ["distill", "--teacher", "local-dir:{colour}", "--method", "noise", "--data", "digits", *LEARN],
        "digits has 1 channels",
    ),
    "data of one label for a network of several": (
        ["distill", "--teacher", "local-dir:{labels}", "--method", "noise", "--data", "digits", *LEARN],
        "digits is single-label, but the network is multi-label; use multi-label data",
    ),
    "student of several labels": (
        ["distill", "--teacher", TEACHER, "--student", "local-dir:{labels}", *OUT],
        "one of teacher and student is multi-label and the other is not",
    ),
    "extending a network of several labels": (
        ["extend", "--teacher", "local-dir:{labels}", "--new-data", "digits", *OUT],
        "only single-label teachers can be extended",
    ),
    "comparison with classes in another order": (
        ["evaluate", TEACHER, "--teacher", "local-dir:{other}", "--data", "digits"],
        "in another order",
    ),
    "unknown device of a judge": (
        ["evaluate", TEACHER, "--data", "digits", "--device", "tpo"],
        "device 'tpo' is not available; use --device cpu",
    ),
    "no threads of a verifier": (
        ["crosscheck", "{set}", TEACHER, "--threads", "0"],
        "threads",
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
    "real images to synthesize": (
        ["synthesize", "--method", "real", "--teacher", TEACHER, *OUT],
        "need not be synthesized",
    ),
    "saved images to synthesize": (
        ["synthesize", "--method", "saved", "--teacher", TEACHER, *OUT],
        "need not be synthesized",
    ),
    "a set without its folder": (
        ["distill", "--method", "saved", "--teacher", TEACHER, *LEARN],
        "give it with --method.images",
    ),
    "a set that is none": (
        ["distill", "--method", "saved", "--method.images", "{digits}", "--teacher", TEACHER, *LEARN],
        "is not an image set",
    ),
    "images for a student of other classes": (
        ["synthesize", "--teacher", TEACHER, "--student", "local-dir:{three}", *OUT],
        "the teacher has 10 classes and the student 3",
    ),
    "images in an unknown format": (["synthesize", "--teacher", TEACHER, "--format", "gif", *OUT], "--format"),
    "statistics that are not there": (
        ["distill", "--teacher", "local-dir:{plain}", "--method.feature-statistics", "{tmp}/nowhere", *LEARN],
        "is missing, damaged or no file that `datafree statistics` wrote",
    ),
    "statistics of another teacher": (
        ["distill", "--teacher", TEACHER, "--method.feature-statistics", "{statistics}", *LEARN],
        "was measured on another teacher",
    ),
    "statistics where something is": (
        ["statistics", TEACHER, "--data", "digits", "--out", "{file}"],
        "exists already",
    ),
    "statistics of one image": (
        ["statistics", TEACHER, "--data", "digits", "--images", "1", *OUT],
        "images is 1, but it must be at least 2",
    ),
    "statistics of unknown data": (
        ["statistics", TEACHER, "--data", "digit", *OUT],
        "did you mean digits",
    ),
    "verifier of other classes": (
        ["crosscheck", "{set}", "local-dir:{three}"],
        "has 10 classes and local-dir:{three} 3",
    ),
    "verifier with classes in another order": (
        ["crosscheck", "{set}", "local-dir:{other}"],
        "in another order",
    ),
    "verifier of other channels": (
        ["crosscheck", "{set}", "local-dir:{colour}"],
        "has 1 channels and local-dir:{colour} 3",
    ),
    "no verifier": (["crosscheck", "--images", "{set}", "--verifier"], "verifier names nobody"),
    "an infinite weight": (
        ["distill", "--teacher", TEACHER, "--method.tv", "inf", *LEARN],
        "tv is inf, but it must be at least 0 and finite",
    ),
    "a weight decay under zero": (
        ["train", "convnet_w16", "--data", "digits", "--weight-decay", "-1", *OUT],
        "weight-decay is -1",
    ),
    "a seed under zero": (
        ["train", "convnet_w16", "--data", "digits", "--seed", "-1", *OUT],
        "seed is -1",
    ),
    "a seed too large": (
        ["synthesize", "--teacher", TEACHER, "--seed", str(2**63), *OUT],
        "seed is 9223372036854775808, but it must be at most",
    ),
    "threads without end": (
        ["distill", "--teacher", TEACHER, "--threads", "999999", *LEARN],
        "threads is 999999, but it must be at most 1024",
    ),
    "a precision that is no student's": (
        ["distill", "--teacher", TEACHER, "--precision", "64-true", *LEARN],
        "precision '64-true' is unknown; did you mean 32-true?",
    ),
    "a name that is too long": (
        ["synthesize", "--teacher", TEACHER, "--out", "{tmp}/" + 300 * "a"],
        "File name too long",
    ),
    "classes without end": (
        ["train", "convnet_w16", "--data", "digits:0-99999999999", *OUT],
        "one over 9; give each place once",
    ),
    "a short option misspelt": (["prune", TEACHER, "--ratios", "0.5", *OUT], "did you mean --ratio?"),
    "an option without its value": (
        ["prune", TEACHER, *OUT, "--ratio"],
        "--ratio has no value",
    ),
    "no resolution": (
        ["synthesize", "--teacher", TEACHER, *OUT, "--method.steps"],
        "steps is empty; give one or more numbers",
    ),
    "a method twice": (
        ["distill", "--method", "adi", "--method", "dafl", "--teacher", TEACHER, *LEARN],
        "--method is given twice",
    ),
    "a method without its name": (["distill", "--teacher", TEACHER, *LEARN, "--method"], "--method has no value"),
    "an unknown optimizer": (
        ["distill", "--teacher", TEACHER, "--optimizer", "adamv", *LEARN],
        "did you mean adam?",
    ),
    "verification of nothing": (
        ["crosscheck", "{tmp}/nowhere", TEACHER],
        "is not an image set",
    ),
    "unknown optimizer": (
        ["distill", "--teacher", TEACHER, "--optimizer", "adamm", *LEARN],
        "optimizer 'adamm' is unknown",
    ),
    "unknown device": (["distill", "--teacher", TEACHER, "--device", "abacus", *LEARN], "device 'abacus'"),
    "batch of nothing": (
        ["distill", "--teacher", TEACHER, "--method.batch_size", "0", *LEARN],
        "batch is 0, but it must be at least 1",
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
    "place that cannot be written": (
        ["distill", "--teacher", TEACHER, "--student", "convnet_w16", "--out", "{file}/run"],
        "cannot be written",
    ),
    "place for images that cannot be written": (
        ["synthesize", "--method", "noise", "--teacher", TEACHER, "--out", "{file}/run"],
        "cannot be written",
    ),
    "place with something else": (
        ["distill", "--teacher", TEACHER, "--student", "convnet_w16", "--out", "{tmp}"],
        "is not empty and is not a run folder",
    ),
    "images where something is": (["synthesize", "--teacher", TEACHER, "--out", "{tmp}"], "exists already"),
    "demo where something is": (["demo", "--out", "{tmp}"], "exists already"),
    "training where something is": (
        ["train", "convnet_w16", "--data", "digits", "--out", "{tmp}"],
        "exists already",
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
    "report of nothing": (["report", "{tmp}/nowhere"], "has no finished run; give the folder of a run"),
    "resume of nothing": (["resume", "{tmp}/nowhere"], "is not a run folder"),
    "evaluation on the wrong classes": (
        ["evaluate", "local-dir:{three}", "--data", "digits"],
        "digits has 10 classes",
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

    for name, classes, channels in (("three", 3, 1), ("colour", 10, 3), ("other", tuple("5678901234"), 1)):
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
        "other": str(tmp_path / "other"),
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
    assert sentence.format(**places) in refusal(capsys, [argument.format(**places) for argument in arguments])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_holds_another_run_is_refused_and_left_alone(
    digits_teacher: Path, tmp_path: Path, capsys: Capture
):
    again = distill(digits_teacher, "--out", str(tmp_path / "run"))
    assert main(again) == 0
    capsys.readouterr()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert "is a finished run; see `datafree report" in refusal(capsys, [*again, "--seed", "1"])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_control_characters_of_the_user_do_not_reach_the_terminal(capsys: Capture):
    assert "\x1b" not in refusal(capsys, ["distill", "--method", "a\x1b[31m\nb"])


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), SafetensorError("I/O error: disk full")])
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    fault: Exception, digits_teacher: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    again = distill(digits_teacher, "--out", str(tmp_path / "run"), "--checkpoint", "0")

    def full(*_: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr("datafree.runs.run_folder.save_file", full)
        said = refusal(capsys, again)
    assert "could not be read or written" in said and str(fault) in said
    assert f"mend that, and go on with: datafree resume {tmp_path / 'run'}" in said
    assert not list(tmp_path.rglob(".tmp-*"))
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_an_interrupt_while_everything_is_imported_is_one_sentence(capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    class Impatient:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "datafree.commands":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "datafree.commands")
    monkeypatch.setattr(sys, "meta_path", [Impatient(), *sys.meta_path])
    assert "interrupted; start it again" in refusal(capsys, ["methods"], INTERRUPTED)
