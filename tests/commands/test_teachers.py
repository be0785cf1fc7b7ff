"""`datafree inspect` and `datafree import`."""

import json
from pathlib import Path

import pytest
import torch

from datafree import teachers
from datafree.classifier import Classifier
from datafree.commands.main import main
from datafree.commands.teachers import facts, refusals
from datafree.teachers.inspection import inspect

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def checkpoint(digits_teacher: Path, tmp_path: Path) -> Path:
    """A checkpoint of the teacher as a training script writes it."""
    network = teachers.load_folder(digits_teacher)
    torch.save({"epoch": 3, "state_dict": network.model.state_dict()}, tmp_path / "last.pth")
    return tmp_path / "last.pth"


class TestInspect:
    def test_says_what_a_teacher_is(self, digits_teacher: Path, capsys: Capture):
        assert main(["inspect", str(digits_teacher), "--device", "cpu"]) == 0
        text = capsys.readouterr().out
        for line in (
            "network  convnet_w16, 9,162 parameters",
            "input    1 channel of 8 x 8 pixels",
            "classes  only numbers: 0 to 9",
            "outputs  logits",
            "training another output in training mode, by BatchNorm2d",
        ):
            assert line in text
        assert "a run    takes 15 min without --method and --budget" in text
        assert "with a named method, 2,000 steps" in text and "deep-inversion" in text

    def test_says_why_a_method_does_not_support_it(self, plain_folder: Path, capsys: Capture):
        assert main(["inspect", str(plain_folder), "--device", "cpu"]) == 0
        text = capsys.readouterr().out
        assert "not      deep-inversion, adi: the teacher has no batch-norm statistics" in text
        assert text.count("the teacher has no batch-norm statistics") == 1

    def test_of_a_forward_only_teacher(self):
        """It has only outputs, and methods that need the same are refused in one line."""
        found = inspect(Classifier(lambda images: images.flatten(1)[:, :4].numpy(), shape=(3, 8, 8), classes=4))
        lines = dict(facts(found))
        assert lines["input"] == "3 channels of 8 x 8 pixels" and lines["has"].startswith("only outputs: no gradients")
        refused = refusals(found)
        assert any(text.startswith("deep-dream, refine, dafl") for text in refused)
        assert len({text.split(": ", 1)[1] for text in refused}) == len(refused)

    def test_as_json_there_is_nothing_else(self, digits_teacher: Path, capsys: Capture):
        assert main(["inspect", str(digits_teacher), "--json", "--time", "noise", "--device", "cpu"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["network"] == "convnet_w16" and found["numbered"] and found["timed"]["method"] == "noise"
        assert found["timed"]["seconds"] > 0 and found["timed"]["images"] == 256
        assert found["bf16_ratio"] > 0

    def test_an_unknown_method_is_named(self, digits_teacher: Path, capsys: Capture):
        assert main(["inspect", str(digits_teacher), "--time", "adu"]) == 2
        assert "time 'adu' is unknown; did you mean adi?" in capsys.readouterr().err


class TestImport:
    def test_makes_a_folder_of_a_checkpoint(
        self, checkpoint: Path, digits_teacher: Path, tmp_path: Path, capsys: Capture
    ):
        names = tmp_path / "names.txt"
        names.write_text("\n".join(f"digit {number}" for number in range(10)))
        words = ["--network", "convnet_w16", "--class-names", str(names), "--out", str(tmp_path / "folder")]
        assert main(["import", str(checkpoint), *words]) == 0
        text = capsys.readouterr().out
        assert f"import   checkpoint {checkpoint}, network convnet_w16" in text and "classes  10 (given)" in text
        assert "(a default, not read from the file)" in text and "--mean" in text
        imported, original = (
            teachers.load_folder(tmp_path / "folder").eval(),
            teachers.load_folder(digits_teacher).eval(),
        )
        assert imported.classes == tuple(f"digit {number}" for number in range(10))
        images = imported.probe_images(4)
        assert torch.equal(imported.model(images), original.model(images))

    def test_what_is_given_is_kept(self, checkpoint: Path, tmp_path: Path, capsys: Capture):
        words = ["--network", "convnet_w16", "--mean", "0.25", "--std", "0.5", "--out", str(tmp_path / "folder")]
        assert main(["import", str(checkpoint), *words]) == 0
        text = capsys.readouterr().out
        assert "mean     0.25 (given)" in text and "std      0.5 (given)" in text and "default" not in text
        assert teachers.load_folder(tmp_path / "folder").mean.item() == 0.25

    def test_an_existing_folder_is_kept(self, checkpoint: Path, tmp_path: Path, capsys: Capture):
        assert main(["import", str(checkpoint), "--network", "convnet_w16", "--out", str(tmp_path)]) == 2
        assert "already exists; give another --out" in capsys.readouterr().err

    def test_the_network_may_be_the_argument_and_its_weights_an_option(
        self, checkpoint: Path, tmp_path: Path, capsys: Capture
    ):
        words = ["import", "convnet_w16", "--weights", str(checkpoint), "--out", str(tmp_path / "folder")]
        assert main(words) == 0
        assert teachers.load_folder(tmp_path / "folder").shape == (1, 8, 8)
        assert main([*words[:-1], str(tmp_path / "other"), "--network", "lenet5"]) == 2
        assert "two networks are given" in capsys.readouterr().err
        assert not (tmp_path / "other").exists()


class TestImportedCard:
    def test_says_where_the_weights_come_from_and_how_to_load_them(self, checkpoint: Path, tmp_path: Path):
        out = tmp_path / "imported"
        options = ["--network", "convnet_w16", "--input", "1", "8", "8", "--classes", "10"]
        assert main(["import", str(checkpoint), *options, "--out", str(out)]) == 0
        card = (out / "README.md").read_text()
        assert card.startswith("---\nlibrary_name: timm\nlicense: unknown\n") and "base_model" not in card
        assert "Imported from `last.pth` with datafree" in card and "9,162 parameters" in card
        assert 'timm.create_model("local-dir:imported", pretrained=True)' in card and "student" not in card
        assert "the licence of the checkpoint (`convnet_w16`: unknown)" in card
        assert "Note: `mean and std of the teacher are" in card

    def test_hostile_names_stay_inert(self, checkpoint: Path, tmp_path: Path):
        out = tmp_path / "a'b <img src=x>"
        (tmp_path / "names.txt").write_text("\n".join(["<b>", "`x`", *"23456789"]))
        names = ["--class-names", str(tmp_path / "names.txt")]
        options = ["--network", "convnet_w16", "--input", "1", "8", "8", *names]
        assert main(["import", str(checkpoint), *options, "--out", str(out)]) == 0
        card = (out / "README.md").read_text()
        assert "# `a'b <img src=x>`" in card and "local-dir:network" in card
        assert "Classes (10): `<b>`, `` `x` ``, `2`" in card
