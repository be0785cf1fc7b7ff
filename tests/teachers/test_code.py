"""Networks of the user's own code: run only if the command line names it, and refused in one sentence with file and line."""

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.applications.pruning import PruningConfig
from datafree.commands.main import main
from datafree.networks.head_surgery import widen
from datafree.runs.experiment import resume, run
from datafree.runs.tasks import AmalgamationTask, Task, networks_in
from datafree.teachers.code import code_words, create_student, is_code, load_code, require_repeated
from datafree.types import InputError

SHAPE = (1, 8, 8)
CODE = """
import torch
from torch import nn
from blocks import block

torch.manual_seed(0)
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
torch.set_default_dtype(torch.float32)


class Net(nn.Sequential):
    def __init__(self, num_classes=4, width=4):
        super().__init__(block(1, width), block(width, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, num_classes))


def build(num_classes=4):
    return Net(num_classes)

def fixed():
    return Net()

def narrow(num_classes, width=2):
    return Net(num_classes, width)

def needs(name):
    return Net()

def classifier():
    from datafree import Classifier
    return Classifier(Net(), shape=(1, 8, 8), classes=4)

def numbers():
    return lambda images: images.flatten(1)[:, :4].numpy()

def pair():
    return Pair()

def two():
    return Pair(2)

def nothing():
    return None

def fails():
    return block(1, "a")

def fails_later():
    return Failing()

def leaves():
    raise SystemExit("bye")

def interrupts():
    raise KeyboardInterrupt

class Pair(nn.Module):
    def __init__(self, tensors=1):
        super().__init__()
        self.net, self.tensors = Net(), tensors

    def forward(self, images):
        logits = self.net(images)
        return logits, logits if self.tensors == 2 else None

class Failing(nn.Module):
    def forward(self, images):
        return images.nonsense

model = Net()
number = 3
"""
BLOCKS = """
from torch import nn
def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "my_net.py").write_text(CODE)
    yield tmp_path / "my_net.py"
    sys.modules.pop("blocks", None)


def saved(file: Path, path: Path) -> Path:
    torch.manual_seed(1)
    network = load_code(f"{file}:build", shape=SHAPE).model
    state = {
        name: torch.rand_like(value) if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    torch.save(state, path)
    return path


class TestNames:
    @pytest.mark.parametrize(
        ("spec", "answer"),
        [
            ("my_net.py:build", True),
            ("a/b c/my_net.py:build", True),
            ("package.module:build", True),
            ("module:Class.create", True),
            ("my_net.py", True),
            *(
                (spec, False)
                for spec in ("resnet18", "local-dir:x", "hf-hub:a/b", "hf_hub:a", "torchvision:resnet18", "net.onnx")
            ),
            *((spec, False) for spec in ("transformers:a", "resnet18.a1_in1k", "a:", ":b", "1:2", "x.pt", "a/b:c")),
        ],
    )
    def test_code_is_recognised(self, spec: str, answer: bool):
        assert is_code(spec) == answer

    def test_a_file_without_a_function(self, file: Path):
        with pytest.raises(InputError, match="name the function that builds the network: .*my_net.py:build"):
            teachers.load(str(file))

    def test_a_missing_file_function_or_module(self, file: Path):
        with pytest.raises(InputError, match="nowhere.py does not exist"):
            load_code("nowhere.py:build")
        with pytest.raises(
            InputError, match="has no 'biuld'; did you mean build.; name a function that builds a network"
        ):
            load_code(f"{file}:biuld")
        with pytest.raises(InputError, match="there is no module 'no_such'; give FILE.py:function"):
            load_code("no_such.module:build")

    def test_a_module(self, file: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(file.parent)
        (file.parent / "package_of_test").mkdir()
        (file.parent / "package_of_test" / "nets.py").write_text(CODE)
        loaded = load_code("package_of_test.nets:build", shape=SHAPE)
        assert set(loaded.dependencies) == {"package_of_test/nets.py", "blocks.py"}


class TestTeachers:
    def test_weights_settings_and_hashes(self, file: Path, tmp_path: Path):
        weights = saved(file, tmp_path / "w.pt")
        names = ("a", "b", "c", "d")
        loaded = teachers.load(f"{file}:build", weights=weights, shape=SHAPE, classes=names, mean=(0.4,), std=(0.3,))
        assert toys.same(dict(loaded.model.state_dict()), torch.load(weights, weights_only=True))
        assert (loaded.classes, loaded.shape, loaded.training) == (names, SHAPE, False)
        assert set(loaded.dependencies) == {"my_net.py", "blocks.py"}
        assert "is built by its own code (blocks.py with SHA-256 " in loaded.notes[0]
        assert not any("not known" in note for note in loaded.notes)

    def test_an_unknown_normalisation_is_noted(self, file: Path):
        assert any(
            "mean and std of" in note and "are not known" in note
            for note in load_code(f"{file}:build", shape=SHAPE).notes
        )
        half = load_code(f"{file}:build", shape=SHAPE, mean=(0.4,)).notes
        assert any(note.startswith("std of") and "give --std" in note for note in half)

    def test_random_numbers_and_settings_of_the_run_are_kept(self, file: Path):
        before = torch.get_rng_state()
        torch.randint(2**62, ())
        after_one_draw = torch.get_rng_state()
        torch.set_rng_state(before)
        load_code(f"{file}:build", shape=SHAPE)
        assert torch.equal(torch.get_rng_state(), after_one_draw)
        assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32

    def test_the_number_of_classes_is_found_by_running_the_network(self, file: Path):
        loaded = load_code(f"{file}:build", shape=SHAPE)
        assert len(loaded.classes) == 4 and any("no weights file is given" in note for note in loaded.notes)
        assert len(load_code(f"{file}:build", shape=SHAPE, classes=7).classes) == 7
        assert load_code(f"{file}:model", shape=SHAPE).model is not load_code(f"{file}:model", shape=SHAPE).model
        assert load_code(f"{file}:classifier").shape == SHAPE
        assert not load_code(f"{file}:numbers", shape=SHAPE).differentiable

    def test_a_tuple_with_one_tensor_is_taken_apart(self, file: Path):
        loaded = load_code(f"{file}:pair", shape=SHAPE)
        assert len(loaded.classes) == 4 and loaded(loaded.probe_images(2)).shape == (2, 4)
        assert any("returns a tuple of 2 values: the logits are taken from it" in note for note in loaded.notes)
        with pytest.raises(
            InputError, match="outputs of type tuple for 2 images, which have no classes; give --classes"
        ):
            load_code(f"{file}:two", shape=SHAPE)

    @pytest.mark.parametrize(
        ("name", "settings", "message"),
        [
            ("build", {}, "the size of the images of .* is not known; give it: --input CHANNELS HEIGHT WIDTH"),
            ("build", {"arguments": {"numclasses": 3}}, "takes no argument 'numclasses'; did you mean num_classes"),
            ("needs", {}, "needs name; give them as arguments, or write a function without arguments"),
            ("model", {"arguments": {"a": 1}}, "is no function and takes no arguments; remove a"),
            ("number", {}, "returns a int; return a torch.nn.Module"),
            ("nothing", {}, "returns a NoneType; return a torch.nn.Module"),
            ("classifier", {"mean": (0.5,)}, "returns a Classifier, which defines mean; remove these options"),
            ("fails", {}, r"fails failed \(TypeError: .*, .*blocks.py, line 4\); correct the code"),
            (
                "fails_later",
                {"shape": SHAPE},
                r"failed \(AttributeError: .*nonsense.*my_net.py, line 68\); correct the code",
            ),
            ("leaves", {}, r"leaves failed \(SystemExit: bye, .*my_net.py, line 52\)"),
        ],
    )
    def test_refusals(self, file: Path, name: str, settings: dict[str, Any], message: str):
        with pytest.raises(InputError, match=message):
            load_code(f"{file}:{name}", **settings)

    def test_code_that_cannot_be_read(self, file: Path):
        file.write_text("def build(:\n    pass\n")
        with pytest.raises(InputError, match=r"failed \(SyntaxError: .*, .*my_net.py, line 1\); correct the code"):
            load_code(f"{file}:build")

    def test_an_interrupt_is_not_swallowed(self, file: Path):
        with pytest.raises(KeyboardInterrupt):
            load_code(f"{file}:interrupts")


class TestStudents:
    def test_get_what_the_teacher_has(self, file: Path, teacher: Any):
        student = create_student(f"{file}:narrow", teacher, {"width": 3})
        assert (student.classes, student.shape, student.training) == (teacher.classes, teacher.shape, True)
        assert student.code_arguments == {"width": 3} and "starts from the weights that" in student.notes[-1]

    @pytest.mark.parametrize(
        ("name", "classes", "message"),
        [
            ("fixed", 5, "returns 4 outputs, but the teacher has 5 classes; let it take num_classes"),
            ("numbers", 4, "returns a network without weights to train"),
        ],
    )
    def test_refusals(self, file: Path, name: str, classes: int, message: str):
        teacher = teachers.create("convnet_w16", classes=classes, shape=SHAPE)
        with pytest.raises(InputError, match=message):
            create_student(f"{file}:{name}", teacher, {})

    def test_a_saved_student_is_loaded_with_its_arguments(self, file: Path, tmp_path: Path, teacher: Any):
        student = create_student(f"{file}:narrow", teacher, {"width": 3}).eval()
        teachers.save_folder(student, tmp_path / "student")
        with pytest.raises(InputError, match=f"name the network as {file}:narrow@{tmp_path / 'student'}$"):
            teachers.load(str(tmp_path / "student"))
        loaded = teachers.load(f"{file}:narrow", weights=tmp_path / "student" / "model.safetensors")
        images = torch.rand(2, *SHAPE)
        assert torch.equal(loaded(images), student(images)) and loaded.classes == student.classes

    def test_arguments_in_a_file_are_plain(self, file: Path, tmp_path: Path, teacher: Any):
        teachers.save_folder(create_student(f"{file}:narrow", teacher, {"width": 3}), tmp_path / "student")
        config = json.loads((tmp_path / "student" / "config.json").read_text())
        config["code"]["arguments"] = {"path": "/etc/passwd"}
        (tmp_path / "student" / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match="sets 'path', which may choose a file or code"):
            teachers.load(f"{file}:narrow", weights=tmp_path / "student" / "model.safetensors")

    def test_a_pruned_student_is_loaded(self, file: Path, tmp_path: Path):
        weights = saved(file, tmp_path / "w.pt")
        experiment = toys.experiment(
            tmp_path,
            task=Task(teacher=f"{file}:build", weights=str(weights), input=SHAPE),
            method=toys.TINY["noise"],
            application=PruningConfig(steps=2, ratio=0.4, rounds=1, importance_batches=1),
        )
        result = run(experiment, tmp_path / "run")
        loaded = teachers.load(f"{file}:build", weights=tmp_path / "run" / "student" / "model.safetensors")
        images = torch.rand(2, *SHAPE)
        assert torch.equal(loaded(images), result.student.eval()(images))
        assert any("layers are narrower than the code builds them" in note for note in loaded.notes)


class TestResume:
    def test_code_is_named_again(self):
        used = {"--teacher": ("a.py:b", "resnet18"), "--student": ("c.py:d",)}
        assert code_words(used) == ["--teacher", "a.py:b", "--student", "c.py:d"]
        require_repeated(used, {"--teacher": ("a.py:b",), "--student": ("c.py:d",)})
        with pytest.raises(InputError, match="names it again; add --teacher a.py:b --student c.py:d"):
            require_repeated(used, {})
        with pytest.raises(InputError, match="names it again; add --student c.py:d"):
            require_repeated(used, {"--teacher": ("a.py:b",)})
        for other in ("resnet18", "x.py:y"):
            with pytest.raises(InputError, match=f"--teacher {other} is no code of this run"):
                require_repeated(used, {"--teacher": (other,)})
        task = AmalgamationTask(teacher=("a.py:b", "x"), student="c.py:d")
        assert networks_in(task) == {"--teacher": ("a.py:b", "x"), "--student": ("c.py:d",)}

    def test_a_run_goes_all_the_way(self, file: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch):
        """Interrupted, refused without the words or with other code, resumed, and equal to an uninterrupted one."""
        teacher, student, weights = f"{file}:build", f"{file}:narrow", saved(file, tmp_path / "w.pt")

        def settings() -> Any:
            task = Task(teacher=teacher, weights=str(weights), input=SHAPE, student=student)
            return toys.experiment(
                tmp_path, task=task, method=toys.TINY["noise"], application=DistillationConfig(steps=6)
            )

        whole = run(settings(), tmp_path / "whole")

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("datafree.runs.experiment.require_finite", stop)
            with pytest.raises(KeyboardInterrupt):
                run(settings(), tmp_path / "run")
        assert main(["resume", str(tmp_path / "run")]) == 2
        assert f"add --teacher {teacher} --student {student}" in capsys.readouterr().err
        blocks = (file.parent / "blocks.py").read_text()
        (file.parent / "blocks.py").write_text(blocks + "# changed\n")
        sys.modules.pop("blocks", None)
        monkeypatch.setattr("datafree.teachers.code.running._loaded", {})
        with pytest.raises(
            InputError, match="the file blocks.py of the teacher has changed since this run was interrupted"
        ):
            resume(tmp_path / "run", teacher=[teacher], student=student)
        (file.parent / "blocks.py").write_text(blocks)
        sys.modules.pop("blocks", None)
        monkeypatch.setattr("datafree.teachers.code.running._loaded", {})
        assert main(["resume", str(tmp_path / "run"), "--teacher", teacher, "--student", student]) == 0
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["student_sha256"] == whole.summary["student_sha256"]
        assert main(["report", str(tmp_path / "run")]) == 0

    def test_a_network_whose_code_fixes_the_classes_is_extended_and_read_again(self, file: Path, tmp_path: Path):
        spec, weights = f"{file}:fixed", saved(file, tmp_path / "w.pt")
        network = load_code(spec, weights=weights, shape=SHAPE, classes=("a", "b", "c", "d"))
        expected = widen(network, ("e", "f"))(torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0)))
        teachers.save_folder(network, tmp_path / "student")
        again = teachers.load(spec, weights=tmp_path / "student" / "model.safetensors")
        assert again.classes == ("a", "b", "c", "d", "e", "f")
        assert any(
            note.startswith("the last layer has 2 more classes than the code builds, as ") for note in again.notes
        )
        images = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(again(images), expected, atol=1e-6)

    def test_several_teachers_and_a_student_of_code(
        self, file: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
    ):
        """The advice after an interrupt has the words of all networks of code, in an order of its own."""
        weights = saved(file, tmp_path / "w.pt")
        words = ["--teacher", f"{file}:classifier@{weights}", "--teacher", f"{file}:classifier"]
        words += ["--student", f"{file}:build"]
        words += ["--shared-labels", "same"]
        sizes = "--method noise --method.batch-size 8 --batch-size 8 --steps 6 --device cpu".split()

        def stop(*_: Any) -> None:
            raise KeyboardInterrupt

        assert main(["amalgamate", *words, *sizes, "--out", str(tmp_path / "whole")]) == 0, capsys.readouterr().err
        with monkeypatch.context() as patch:
            patch.setattr("datafree.runs.experiment.require_finite", stop)
            assert main(["amalgamate", *words, *sizes, "--out", str(tmp_path / "run")]) == 75
        advice = capsys.readouterr().err.rpartition("continue with: ")[2].strip()
        given = words[:6]
        assert advice == shlex.join(["datafree", "resume", str(tmp_path / "run"), *given])
        for left_out in range(0, 6, 2):
            some = given[:left_out] + given[left_out + 2 :]
            assert main(["resume", str(tmp_path / "run"), *some]) == 2
            assert f"add {shlex.join(given[left_out : left_out + 2])}" in capsys.readouterr().err
        assert main(["resume", str(tmp_path / "run"), *given, "--student", f"{file}:narrow"]) == 2
        assert "a run has one student; give --student once" in capsys.readouterr().err
        assert main(["resume", str(tmp_path / "run"), *given[4:], *given[:4]]) == 0
        hashes = [
            json.loads((tmp_path / run / "summary.json").read_text())["student_sha256"] for run in ("whole", "run")
        ]
        assert hashes[0] == hashes[1]
