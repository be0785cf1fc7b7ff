"""The steps of a compression, its folder, and the pipeline on digits."""

import json
import time
from pathlib import Path

import pytest

from datafree.runs.compression.folder import LOCK, RESULT, SETTINGS, compression_folder
from datafree.runs.compression.pipeline import SHARES, CompressionConfig, compress
from datafree.runs.compression.pool import method_for
from datafree.runs.compression.steps import EXAMPLES, Step, parse_steps
from datafree.teachers.options import TeacherOptions
from datafree.types import InputError


def test_steps_are_read_in_order():
    steps = parse_steps("distill:resnet18, prune:0.5,quantize:w8a8,export:onnx")
    assert steps == (
        Step("distill", "resnet18"),
        Step("prune", "0.5"),
        Step("quantize", "w8a8"),
        Step("export", "onnx"),
    )
    assert [step.trains for step in steps] == [True, True, False, False]
    assert [str(step) for step in parse_steps(",".join(EXAMPLES.values()))] == list(EXAMPLES.values())
    assert parse_steps("prune:macs:0.5")[0].value == "macs:0.5"
    assert set(SHARES) == {"pool", *EXAMPLES}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "steps is empty; write it as distill:resnet18,prune:0.5"),
        ("distil:resnet18", "step 'distil:resnet18' is unknown; did you mean distill"),
        ("shrink:2", "step 'shrink:2' is unknown"),
        ("prune", "step 'prune' has no value; write it as prune:0.5"),
        ("prune:half", "step 'prune:half' has no number"),
        ("prune:1.5", "ratio is 1.5, but it must be above 0 and below 1"),
        ("quantize:w1a8", "fewer than 4 bits"),
        ("export:onx", "unknown format"),
        ("quantize:w8a8,prune:0.5", "prune:0.5 comes after quantize, whose file cannot be trained"),
        ("quantize:w8a8,quantize:w4a8", "quantize:w4a8 comes after quantize"),
        ("quantize:w8a8,export:timm", "export:timm comes after quantize, which makes an ONNX file"),
        ("export:onnx,distill:resnet18", "distill:resnet18 comes after export"),
        (",".join(["prune:0.1"] * 13), "there are 13 steps; give at most 12"),
    ],
)
def test_wrong_steps_are_refused(text: str, message: str):
    with pytest.raises(InputError, match=message):
        parse_steps(text)


def config(**changes) -> CompressionConfig:
    values = {"checkpoint": "lenet5", "options": TeacherOptions(), "steps": "quantize:w8a8"}
    return CompressionConfig(**(values | changes))


def test_a_budget_of_steps_is_refused():
    with pytest.raises(InputError, match="several steps share it; give a time, such as 30m"):
        config(budget="500steps")


def test_an_unknown_method_is_refused(teacher):
    with pytest.raises(InputError, match="method 'dream' is unknown"):
        method_for("dream", teacher)
    assert method_for("auto", teacher).passes >= 0


def test_a_folder_is_continued_with_the_same_settings_only(tmp_path: Path):
    folder = tmp_path / "out"
    with compression_folder(folder, {"steps": ["prune:0.5"]}):
        assert (folder / SETTINGS).is_file() and (folder / LOCK).exists()
        with pytest.raises(InputError, match="in use by another process"), compression_folder(folder, {"steps": []}):
            pass
    with compression_folder(folder, {"steps": ["prune:0.5"]}):
        pass
    with pytest.raises(InputError, match="other settings"), compression_folder(folder, {"steps": ["prune:0.6"]}):
        pass


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists and is no compression"), compression_folder(tmp_path, {}):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_the_pipeline_on_digits_takes_less_than_three_minutes_and_can_be_continued(
    digits_teacher: Path, tmp_path: Path
):
    settings = CompressionConfig(
        checkpoint=str(digits_teacher),
        options=TeacherOptions(),
        steps="distill:convnet_w16,prune:0.3,quantize:w8a8,export:onnx",
        budget="60s",
        data="digits",
    )
    start, out = time.monotonic(), tmp_path / "out"
    rows = compress(settings, out)
    assert time.monotonic() - start < 180
    assert [row.step for row in rows] == ["checkpoint", *settings.steps.split(",")]
    assert rows[0].agreement == 1 and all(row.accuracy is not None for row in rows)
    assert rows[-1].bytes < rows[0].bytes / 2 and rows[-1].engine == "ONNX Runtime"
    assert json.loads((out / RESULT).read_text())["rows"][0]["step"] == "checkpoint"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    for path in (out / "4-export").iterdir():  # as if it had been killed in the last step
        path.unlink()
    start = time.monotonic()
    again = compress(settings, out)
    assert time.monotonic() - start < 60
    assert [row.accuracy for row in again] == [row.accuracy for row in rows]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
