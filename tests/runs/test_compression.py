"""The steps of a compression, its folder, and the pipeline on digits."""

import signal
import subprocess
import sys
import time
from dataclasses import asdict
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from datafree.applications.pruning import PruningConfig
from datafree.commands.console.advice import Unfinished
from datafree.commands.main import main
from datafree.files import read_json, write_json
from datafree.methods import METHODS
from datafree.runs.compression.folder import LOCK, PLAN, RESULT, SETTINGS, compression_folder
from datafree.runs.compression.pipeline import compress, networks_in, resume_compression
from datafree.runs.compression.planning import (
    FEWEST_IMAGES,
    FEWEST_STEPS,
    LR,
    MOST_IMAGES,
    OVERHEAD,
    SHARES,
    Plan,
    Shares,
    application_for,
    extended,
    images_within,
    method_for,
    planned,
    read_plan,
)
from datafree.runs.compression.settings import CompressionConfig, is_compression, read_settings
from datafree.runs.compression.steps import EXAMPLES, Step, parse_steps
from datafree.runs.compression.table import StepRow, read_rows
from datafree.runs.serialization import to_json
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
        ("quantize:w8a8,export:timm", "export:timm comes after quantize, which makes an ONNX file"),
        ("quantize:w8a8,quantize:w4a8", "quantize:w4a8 comes after quantize, .*; leave out one quantize"),
        ("export:onnx,quantize:w8a8", "quantize:w8a8 comes after export, whose file cannot be quantised; put quantize"),
        ("export:onnx,distill:resnet18", "distill:resnet18 comes after export"),
        (",".join(["prune:0.1"] * 13), "there are 13 steps; give at most 12"),
    ],
)
def test_wrong_steps_are_refused(text: str, message: str):
    with pytest.raises(InputError, match=message):
        parse_steps(text)


def config(**changes) -> CompressionConfig:
    values = {"checkpoint": "lenet5", "steps": "quantize:w8a8"}
    return CompressionConfig(**(values | changes))


def test_a_budget_of_steps_is_refused():
    with pytest.raises(InputError, match="several steps share it; give a time, such as 30m"):
        config(budget="500steps")
    with pytest.raises(InputError, match="the budget is 0; write it as 90s, 10m or 2h$"):
        config(budget="0")


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


def test_a_setting_that_was_added_since_has_its_default(tmp_path: Path):
    settings = to_json(CompressionConfig(checkpoint="a", steps="prune:0.5"))
    with compression_folder(tmp_path, settings):
        stored = read_json(tmp_path / SETTINGS)
    del stored["images"]
    write_json(tmp_path / SETTINGS, stored)
    with compression_folder(tmp_path, settings):
        pass
    for edit in ({"images": 9}, {"pictures": 0}, {"schema": 0}):
        write_json(tmp_path / SETTINGS, stored | edit)
        with pytest.raises(InputError, match="other settings"), compression_folder(tmp_path, settings):
            pass


def test_a_folder_with_something_else_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists and is no compression"), compression_folder(tmp_path, {}):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_settings_come_back_from_the_folder(tmp_path: Path):
    settings = config(mean=(0.1,), steps="distill:lenet5,quantize:w4a8", images=300, budget="5m")
    assert not is_compression(tmp_path / "out")
    with compression_folder(tmp_path / "out", to_json(settings)):
        pass
    assert is_compression(tmp_path / "out") and read_settings(tmp_path / "out") == settings
    write_json(tmp_path / "out" / SETTINGS, read_json(tmp_path / "out" / SETTINGS) | {"schema": 99})  # type: ignore[operator]
    with pytest.raises(InputError, match="written by another version of datafree"):
        read_settings(tmp_path / "out")


def test_a_budget_is_divided_over_the_images_and_the_steps():
    shares = Shares(config(steps="distill:lenet5,prune:0.5,quantize:w8a8,export:onnx", budget="105s"))
    assert sum(map(shares.fraction, SHARES)) == pytest.approx(1)
    assert [shares.seconds(kind) for kind in SHARES] == pytest.approx([25, 45, 20, 10, 5])
    late = Shares(shares.config, elapsed=52.5)
    assert late.seconds("distill") == pytest.approx(22.5)
    assert Shares(shares.config, elapsed=1000).seconds("distill") == 0


def test_counts_follow_from_the_time_of_a_step():
    shares = Shares(config(steps="distill:lenet5,prune:0.5,quantize:w8a8,export:onnx", budget="105s"))
    plan = Plan(method="auto", images=300, steps=())
    plan = extended(plan, Step("distill", "lenet5"), 0.1, shares)
    assert plan.steps == (round((45 - OVERHEAD) / 0.1),)
    pruned = extended(plan, Step("prune", "0.5"), 0.1, shares)  # half of the time for the importance, 1 s for a batch
    assert pruned.importance_batches == 7 and pruned.steps[1] == 80
    assert extended(plan, Step("prune", "0.5"), 0.001, shares).importance_batches == PruningConfig.importance_batches
    assert extended(plan, Step("quantize", "w8a8"), 0.1, shares).recovery_steps == 100
    assert extended(plan, Step("quantize", "w8a8"), 100.0, shares).recovery_steps == FEWEST_STEPS


def test_a_budget_that_is_too_short_is_refused_with_one_that_is_enough():
    settings = config(steps="distill:lenet5", budget="14s")
    with pytest.raises(
        InputError, match="a budget of 14 s is too short for distill:lenet5; give a --budget of 39s or more"
    ):
        extended(Plan(method="auto", images=300, steps=()), Step("distill", "lenet5"), 1.0, Shares(settings))
    enough = Shares(config(steps="distill:lenet5", budget="39s"))
    assert len(extended(Plan(method="auto", images=300, steps=()), Step("distill", "lenet5"), 1.0, enough).steps) == 1


def test_a_plan_is_made_once(teacher, tmp_path: Path):
    settings = config(images=256, method="noise", steps="prune:0.3,quantize:w8a8", budget="10m", device="cpu")
    plan = planned(settings, teacher, tmp_path)
    assert plan.images == 256 and len(plan.steps) == 1 and plan.steps[0] > FEWEST_STEPS
    assert read_plan(tmp_path) == plan == planned(settings, teacher, tmp_path, elapsed=500)
    write_json(tmp_path / PLAN, {"method": "noise", "images": "many", "steps": []})
    with pytest.raises(InputError, match=PLAN):
        read_plan(tmp_path)


def test_a_pool_has_bounds(teacher):
    assert images_within(METHODS["noise"], teacher, 0.0) == FEWEST_IMAGES
    assert images_within(METHODS["noise"], teacher, 1e6) == MOST_IMAGES


def test_the_training_follows_the_method_of_the_images():
    plan = Plan(method="auto", images=300, steps=(40, 50), importance_batches=3, flips=True)
    new = application_for(Step("distill", "lenet5"), METHODS["procedural"], plan, 0)
    assert (new.steps, new.lr, new.augment.cutmix, new.augment.flip) == (40, LR, 0.5, True)
    pruned = application_for(Step("prune", "macs:0.5"), METHODS["procedural"], plan, 1)
    assert isinstance(pruned, PruningConfig) and (pruned.steps, pruned.importance_batches) == (50, 3)
    assert pruned.target == "macs:0.5" and pruned.augment == new.augment


def test_a_table_is_read_again(tmp_path: Path):
    row = {"parameters": 5, "bytes": 20, "milliseconds": 0.1, "engine": "torch", "agreement": 1.0, "estimate": None}
    write_json(tmp_path / RESULT, {"rows": [row | {"step": "checkpoint", "accuracy": 0.5}]})
    assert read_rows(tmp_path / RESULT) == [StepRow(**row, step="checkpoint", accuracy=0.5)]
    assert read_rows(tmp_path / "missing.json") == []
    write_json(tmp_path / RESULT, {"rows": [row]})
    with pytest.raises(InputError, match="rows"):
        read_rows(tmp_path / RESULT)


def test_code_runs_only_if_it_is_named_again(tmp_path: Path):
    settings = config(checkpoint="mine.py:net", steps="distill:small.py:net")
    assert networks_in(settings) == {"--teacher": ("mine.py:net",), "--student": ("small.py:net",)}
    with compression_folder(tmp_path / "out", to_json(settings)):
        pass
    with pytest.raises(InputError, match="add --teacher mine.py:net --student small.py:net"):
        resume_compression(tmp_path / "out")


def test_all_students_of_code_can_be_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    steps = "distill:a.py:net,prune:0.5,distill:b.py:net,distill:a.py:net"
    settings = config(checkpoint="mine.py:net", steps=steps)
    with compression_folder(tmp_path / "out", to_json(settings)):
        pass
    words = [*("--teacher", "mine.py:net", "--student", "a.py:net"), *("--student", "b.py:net")]
    assert main(["resume", str(tmp_path / "out"), *words[:4]]) == 2
    assert "add --student b.py:net" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "out"), "--student", "c.py:net"]) == 2
    assert "--student c.py:net is no code of this run" in capsys.readouterr().err
    with pytest.raises(InputError, match=f"add {' '.join(words)}$"):
        resume_compression(tmp_path / "out")
    continued: list[tuple[object, ...]] = []
    monkeypatch.setattr("datafree.runs.compression.pipeline.compress", lambda *given: continued.append(given) or [])
    monkeypatch.setattr("datafree.commands.integers.compressing.show", lambda *_: None)
    assert main(["resume", str(tmp_path / "out"), *words]) == 0
    assert continued[0][0] == settings


def test_what_to_do_after_an_interrupt(tmp_path: Path):
    left = Unfinished(tmp_path / "out", is_run=False, repeats=True, words=("--teacher", "mine.py:net"))
    assert left.advice == "run the command again"
    with compression_folder(tmp_path / "out", to_json(config())):
        pass
    assert left.advice == f"continue with: datafree resume {tmp_path / 'out'} --teacher mine.py:net"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "quantize:w1a8"], "no engine computes weights of fewer than 4 bits"),
        (["--steps", "distill:resnet19", "--budget", "10m"], "resnet19"),
        (["--steps", "quantize:w8a8", "--method", "dream"], "method 'dream' is unknown"),
        (["--steps", "prune:0.5", "--budget", "1s"], "a budget of 1 s is too short for prune:0.5; give a --budget of"),
        (["--steps", "quantize:w8a8", "--images", "-1"], "images is -1, but it must be at least 0"),
    ],
)
def test_the_command_refuses_in_one_sentence(
    words: list[str], message: str, digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["compress", str(digits_teacher), "--out", str(tmp_path / "out"), "--device", "cpu", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "the command can be repeated with other settings"


def test_several_processes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with compression_folder(tmp_path / "out", to_json(config())):
        pass
    assert main(["resume", str(tmp_path / "out"), "--devices", "2"]) == 2
    assert "a compression runs in one process; leave out --devices" in capsys.readouterr().err


@pytest.mark.slow
def test_the_runs_of_the_steps_estimate_what_the_table_says(digits_teacher: Path, tmp_path: Path):
    """A run knows how the images of the pool were made; no step says that there is no estimate where the table has one."""
    settings = config(
        checkpoint=str(digits_teacher),
        steps="distill:convnet_w16,prune:0.3",
        method="procedural",
        images=512,
        budget="5m",
        device="cpu",
    )
    with compression_folder(tmp_path / "out", to_json(settings)):
        plan = Plan(method="procedural", images=512, steps=(100, 40), importance_batches=2, recovery_steps=20)
        write_json(tmp_path / "out" / PLAN, asdict(plan))
    console = Console(record=True, width=400, file=StringIO())
    rows = compress(settings, tmp_path / "out", console)
    text = console.export_text()
    assert "Retention was not estimated" not in text
    for row, name in zip(rows[1:], ("1-distill", "2-prune"), strict=True):
        estimate = read_json(tmp_path / "out" / name / "summary.json")["estimate"]
        assert row.estimate is not None and row.estimate == estimate["retention"]
        assert " ".join(estimate["sentence"].split()) in " ".join(text.split())


@pytest.mark.slow
def test_the_pipeline_on_digits_takes_less_than_three_minutes(digits_teacher: Path, tmp_path: Path):
    settings = config(
        checkpoint=str(digits_teacher),
        steps="distill:convnet_w16,prune:0.3,quantize:w8a8,export:onnx",
        budget="60s",
        data="digits",
        device="cpu",
    )
    start, out = time.monotonic(), tmp_path / "out"
    rows = compress(settings, out)
    assert time.monotonic() - start < 180
    assert [row.step for row in rows] == ["checkpoint", *settings.steps.split(",")]
    assert rows[0].agreement == 1 and all(row.accuracy is not None for row in rows)
    distilled, pruned, quantized, exported = (row.accuracy for row in rows[1:])
    assert distilled > 0.9 and pruned > 0.85 and quantized == exported > pruned - 0.02  # type: ignore[operator]
    assert rows[-1].bytes < rows[0].bytes / 2 and rows[-1].engine == "ONNX Runtime"
    for path in (out / "4-export").iterdir():  # as if it had been killed in the last step
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = resume_compression(out)
    assert [row.accuracy for row in again] == [row.accuracy for row in rows]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    assert (out / "4-export" / "model.onnx").read_bytes() == (out / "3-quantize" / "model.onnx").read_bytes()


KILLS = ("pool/set.json", "1-distill/experiment.json", "1-distill/summary.json", "2-prune/checkpoints", "3-quantize")
"""what is in the folder when the process is killed: after the images, at the start of a step, between two steps, inside one"""


@pytest.mark.slow
def test_a_killed_compression_goes_on_to_the_same_result(digits_teacher: Path, tmp_path: Path):
    settings = config(
        checkpoint=str(digits_teacher),
        steps="distill:convnet_w16,prune:0.3,quantize:w8a8",
        method="procedural",
        images=512,
        budget="5m",
        device="cpu",
    )
    plan = Plan(method="procedural", images=512, steps=(150, 60), importance_batches=2, recovery_steps=20)
    for name in ("whole", "killed"):
        with compression_folder(tmp_path / name, to_json(settings)):
            write_json(tmp_path / name / PLAN, asdict(plan))
    resume_compression(tmp_path / "whole")
    for place in KILLS:
        process = subprocess.Popen([sys.executable, "-m", "datafree", "resume", str(tmp_path / "killed"), "--quiet"])
        wait_for(tmp_path / "killed" / place, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"it ended before {place}"
    resume_compression(tmp_path / "killed")
    students = [f"{step}/model.safetensors" for step in ("1-distill/student", "2-prune/student", "3-quantize/float")]
    for file in (*students, "3-quantize/model.onnx"):
        assert (tmp_path / "killed" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file
    shards = [sorted((tmp_path / name / "pool").glob("*.safetensors")) for name in ("whole", "killed")]
    assert [shard.read_bytes() for shard in shards[0]] == [shard.read_bytes() for shard in shards[1]] != []
    assert not list((tmp_path / "killed").glob(".tmp-*"))


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until a file exists, or the process has ended."""
    while not path.exists() and process.poll() is None:
        time.sleep(0.01)
