"""An example teacher appears complete or not at all."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from datafree import __version__, files, teachers
from datafree.commands.main import main
from datafree.runs import training
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.types import InputError


def train(out: Path) -> None:
    example_teacher(network="convnet_w16", data="digits:0-1", out=out, training=TrainingConfig(steps=1, batch_size=8))


@pytest.mark.parametrize("kill", [True, False])
def test_a_teacher_has_its_ledger_or_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill: bool):
    """The write of the last file fails, or the process is killed there; the next start needs no cleaning up."""

    def stop(*_: Any) -> None:
        if kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise OSError(28, "No space left on device")

    child = os.fork()
    if child == 0:
        monkeypatch.setattr(training, "write_json", stop)
        try:
            train(tmp_path / "teacher")
        except OSError:
            os._exit(3)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (-signal.SIGKILL if kill else 3)
    assert not (tmp_path / "teacher").exists() and len(list(tmp_path.iterdir())) == kill
    train(tmp_path / "teacher")
    assert [path.name for path in tmp_path.iterdir()] == ["teacher"]
    assert {"ledger.json", "training.json", "manifest.json"} <= {path.name for path in (tmp_path / "teacher").iterdir()}
    assert len({path.stat().st_mode for path in (tmp_path / "teacher").iterdir()}) == 1
    assert teachers.load_folder(tmp_path / "teacher").notes == ()
    assert files.read_json(tmp_path / "teacher" / "ledger.json")[0]["purpose"] == "teacher training"


class TestInput:
    """`datafree train --input`."""

    @pytest.mark.parametrize("shape", [(3, 8, 8), (1, 12, 10)])
    def test_a_teacher_takes_images_of_the_given_shape(self, shape: tuple[int, int, int], tmp_path: Path):
        out = tmp_path / "teacher"
        example_teacher(network="convnet_w16", data="digits", out=out, input=shape, training=TrainingConfig(steps=1))
        assert teachers.load_folder(out).shape == shape
        assert json.loads((out / "training.json").read_text())["input"] == list(shape)

    @pytest.mark.parametrize("shape", [(1, 8), (2, 8, 8), (3, 0, 8), (3, 8, 5000)])
    def test_a_shape_that_is_none_is_refused(self, shape: tuple[int, ...], tmp_path: Path):
        with pytest.raises(InputError, match=r"input is .*; give channels \(1 or 3\), height and width"):
            example_teacher(
                network="convnet_w16", data="digits", out=tmp_path / "t", input=shape, training=TrainingConfig()
            )

    def test_a_network_that_does_not_take_the_shape_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="'lenet5' does not accept images of shape .*; give another --input"):
            example_teacher(
                network="lenet5", data="digits", out=tmp_path / "t", input=(1, 8, 8), training=TrainingConfig()
            )


def test_the_card_of_a_teacher_says_what_was_measured(tmp_path: Path):
    training = TrainingConfig(steps=2, batch_size=8)
    held_out = example_teacher(network="convnet_w16", data="digits", out=tmp_path / "mine", training=training)
    card = (tmp_path / "mine/README.md").read_text()
    assert f"Trained on `digits` with datafree {__version__}. Held-out accuracy: {100 * held_out:.2f} %." in card
    header = card.split("---")[1]
    assert (
        f'"value": {round(held_out, 6)}' in header and 'metrics: ["accuracy"]' in header and "base_model" not in header
    )
    assert 'timm.create_model("local-dir:mine", pretrained=True)' in card and "Not chosen" in card


class TestArguments:
    """`datafree train --teacher-args`."""

    def command(self, out: Path, *arguments: str) -> int:
        words = ["train", "convnet_w16", "--data", "digits", "--steps", "1", "--device", "cpu", "--out", str(out)]
        return main([*words, "--teacher-args", *arguments])

    def test_they_reach_the_network_and_its_folder(self, tmp_path: Path):
        assert self.command(tmp_path / "teacher", "widths=[4, 6, 8]") == 0
        network = teachers.load_folder(tmp_path / "teacher")
        first = next(parameter for parameter in network.parameters() if parameter.ndim == 4)
        assert first.shape[0] == 4
        assert files.read_json(tmp_path / "teacher" / "training.json")["arguments"] == {"widths": [4, 6, 8]}

    @pytest.mark.parametrize(
        ("argument", "fault"),
        [
            ("widths", "teacher-args has 'widths'; write NAME=VALUE"),
            ("depth=3", "depth"),
            ("widths=[4, 6]", "cannot be saved, because its layers are others"),
        ],
    )
    def test_what_is_no_argument_is_refused(
        self, argument: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert self.command(tmp_path / "teacher", argument) == 2
        message = capsys.readouterr().err
        assert fault in message and "Traceback" not in message and not (tmp_path / "teacher").exists()
