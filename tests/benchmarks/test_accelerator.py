"""The script for an accelerator, at toy size on the CPU."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "accelerator.py"
TOY = ["--toy", "--device", "cpu"]
BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tyro", "torch_pruning", "datasets"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("accelerator", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["accelerator"] = module
    spec.loader.exec_module(module)
    return module


def test_weights_are_split_into_small_parts(script: ModuleType):
    weights = {"a": torch.zeros(10), "b": torch.zeros(30), "c": torch.zeros(10), "n": torch.tensor(3)}
    parts = list(script.split(weights, limit=60))
    assert [sorted(part) for part in parts] == [["a"], ["b"], ["c", "n"]]
    assert parts[0]["a"].dtype == torch.float16 and parts[2]["n"].dtype == torch.int64


def test_a_teacher_is_carried_in_half_precision_and_a_pair_uses_it(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    state = ["--state", str(tmp_path)]
    with pytest.raises(SystemExit, match="convnet_w16 is not trained yet; run the piece teacher-convnet_w16 first"):
        script.main(["convnet_w16-to-convnet_w16-noise", *state, *TOY])
    assert script.main(["teacher-convnet_w16", *state, *TOY]) == 0
    assert script.main(["convnet_w16-to-convnet_w16-noise", *state, *TOY]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    teacher, pair = results["teacher-convnet_w16"], results["convnet_w16-to-convnet_w16-noise"]["runs"]["0"]
    assert teacher["accuracy"] == pytest.approx(pair["teacher_accuracy"])
    assert pair["steps"] == 8 and pair["retention"] == pytest.approx(pair["accuracy"] / teacher["accuracy"])
    assert {"synthesis", "total"} == pair["seconds"].keys() and teacher["hardware"]["torch"] == torch.__version__
    capsys.readouterr()
    assert script.main(["list", *state, *TOY]) == 0
    listed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert listed["teacher-convnet_w16"] == "done" and listed["checks"] == "open"


def test_every_piece_is_in_order(script: ModuleType):
    names = list(script.pieces(script.REAL))
    assert names[:5] == ["checks", "steps", "teacher-resnet34_cifar", "teacher-vgg11_bn_cifar", "teacher-wrn_40_2"]
    assert names[5:7] == ["resnet34_cifar-to-resnet18_cifar-noise", "resnet34_cifar-to-resnet18_cifar-deep-inversion"]
    assert names[-3:] == ["pruning-resnet34_cifar", "continual", "dual-gan"]


@pytest.mark.slow
def test_every_piece_runs_one_after_the_other(script: ModuleType, tmp_path: Path):
    state = ["--state", str(tmp_path)]
    while script.main(["next", *state, *TOY]) == 0:
        pass
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == list(script.pieces(script.TOY))
    assert results["checks"]["failed"] == [] and "resumed, equal" in results["checks"]["rows"]["fast, resumed"]


@pytest.mark.slow
def test_it_needs_no_package_that_an_accelerator_lacks(tmp_path: Path):
    arguments = ["list", "--state", str(tmp_path), *TOY]
    code = f"{BLOCKED}\nimport runpy\nsys.argv = ['accelerator.py', *{arguments}]\nrunpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "dual-gan" in done.stdout, done.stderr
