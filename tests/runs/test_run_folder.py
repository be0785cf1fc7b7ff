"""What is on the disk is whole: after a fault, after a kill, after rot."""

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from hypothesis import given, settings
from hypothesis import strategies as st

from datafree.files import replacing, write_json, write_text
from datafree.runs.run_folder import RunFolder, read_description
from datafree.types import InputError

IDENTITY = {"seed": 1, "steps": [3, 4]}
CALLS = ("fsync", "rename", "replace")
"""what a save asks of the operating system, and may fail at"""


def fail_at(n: int, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Any]) -> Callable[[], int]:
    """Lets the n-th of these calls fail; returns how many were made so far."""
    count = itertools.count(1)
    made = [0]

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            made[0] = next(count)
            return fault() if made[0] == n else real(*arguments, **settings)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return lambda: made[0]


def full() -> None:
    raise OSError(28, "No space left on device")


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_folder(folder: Path, text: str) -> None:
    with replacing(folder) as new:
        (new / "a").write_text(text)
        (new / "sub").mkdir()
        (new / "sub" / "b").write_text(text)


class TestReplacing:
    def test_the_folder_appears_complete(self, tmp_path: Path):
        write_folder(tmp_path / "deep" / "out", "new")
        assert files(tmp_path) == {"deep/out/a": "new", "deep/out/sub/b": "new"}

    def test_nothing_is_to_be_seen_before_the_block_ends(self, tmp_path: Path):
        with replacing(tmp_path / "out") as new:
            (new / "a").write_text("half")
            assert not (tmp_path / "out").exists()

    def test_nothing_is_left_of_a_block_that_fails(self, tmp_path: Path):
        write_folder(tmp_path / "out", "old")
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / "out") as new:
            (new / "a").write_text("half")
            raise ZeroDivisionError
        assert files(tmp_path) == {"out/a": "old", "out/sub/b": "old"}

    @pytest.mark.parametrize("before", [None, "old"])
    def test_a_fault_at_any_call_leaves_the_old_or_the_new(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
    ):
        for n in range(1, 50):
            place = tmp_path / str(n)
            if before:
                write_folder(place / "out", before)
            with monkeypatch.context() as patch:
                made = fail_at(n, patch, full)
                try:
                    write_folder(place / "out", "new")
                except OSError:
                    pass
                else:
                    assert made() < n and n > 5
                    break
            found = files(place)
            assert found in ({f"out/{name}": text for name in ("a", "sub/b")} for text in (before, "new") if text) or (
                not before and found == {}
            ), f"call {n} lost something"
        else:
            pytest.fail("the save never came to its end")


class TestWriting:
    def test_a_fault_at_any_call_leaves_the_old_or_the_new_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 10):
            write_text(tmp_path / "file", "old")
            with monkeypatch.context() as patch:
                made = fail_at(n, patch, full)
                try:
                    write_text(tmp_path / "file", "new")
                except OSError:
                    assert files(tmp_path) in ({"file": "old"}, {"file": "new"})
                else:
                    assert made() < n and n > 3 and files(tmp_path) == {"file": "new"}
                    return
        pytest.fail("the save never came to its end")

    def test_json_refuses_what_json_cannot_hold(self, tmp_path: Path):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(tmp_path / "x.json", {"accuracy": float("nan")})
        assert list(tmp_path.iterdir()) == []


def state(step: int) -> dict[str, Any]:
    return {"weights": torch.full((2, 3), float(step)), "name": f"step {step}"}


def saved(path: Path, steps: int) -> RunFolder:
    folder = RunFolder(path, IDENTITY, resume=(path / "experiment.json").exists())
    for step in range(1, steps + 1):
        folder.commit(step, state(step))
    return folder


def newest(path: Path) -> tuple[int, Any] | None:
    with RunFolder(path, IDENTITY, resume=True) as folder:
        return folder.newest()


class TestCheckpoints:
    def test_the_newest_is_the_last_one_committed(self, tmp_path: Path):
        with saved(tmp_path / "run", 3) as folder:
            assert toys.same(folder.newest(), (3, state(3)))

    def test_a_new_run_has_none(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", IDENTITY) as folder:
            assert folder.newest() is None

    def test_two_are_kept(self, tmp_path: Path):
        with saved(tmp_path / "run", 5) as folder:
            assert len(list(folder.checkpoints.iterdir())) == 2

    @pytest.mark.parametrize("name", ["manifest.json", "state.json", "state.safetensors"])
    @pytest.mark.parametrize(
        "rot",
        [
            lambda file: file.unlink(),
            lambda file: file.write_bytes(b""),
            lambda file: file.write_bytes(file.read_bytes()[:-9]),
            lambda file: file.write_bytes(b"\x00" * 64),
            lambda file: file.write_text("[]"),
            lambda file: file.write_text("null"),
            lambda file: file.write_text('{"sha256": []}'),
        ],
        ids=["missing", "empty", "cut off", "zeroed", "a list", "null", "no hashes"],
    )
    def test_rot_in_any_file_falls_back_to_the_one_before(
        self, tmp_path: Path, name: str, rot: Callable[[Path], object]
    ):
        saved(tmp_path / "run", 4).__exit__()
        last = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
        rot(last / name)
        assert toys.same(newest(tmp_path / "run"), (3, state(3)))

    def test_a_single_flipped_bit_is_noticed(self, tmp_path: Path):
        saved(tmp_path / "run", 2).__exit__()
        file = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "state.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert toys.same(newest(tmp_path / "run"), (1, state(1)))

    def test_where_none_is_whole_the_run_begins_again(self, tmp_path: Path):
        saved(tmp_path / "run", 2).__exit__()
        for file in (tmp_path / "run" / "checkpoints").rglob("state.json"):
            file.unlink()
        assert newest(tmp_path / "run") is None

    def test_a_number_is_not_used_twice_after_a_resume(self, tmp_path: Path):
        saved(tmp_path / "run", 3).__exit__()
        with RunFolder(tmp_path / "run", IDENTITY, resume=True) as folder:
            folder.commit(9, state(9))
            assert toys.same(folder.newest(), (9, state(9)))

    def test_a_fault_at_any_call_leaves_a_whole_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 50):
            path = tmp_path / str(n)
            folder = saved(path, 2)
            with monkeypatch.context() as patch, folder:
                made = fail_at(n, patch, full)
                try:
                    folder.commit(3, state(3))
                except OSError:
                    pass
                else:
                    assert made() < n and n > 5
                    return
            found = newest(path)
            assert found is not None and found[0] in (2, 3) and toys.same(found[1], state(found[0]))
        pytest.fail("the save never came to its end")

    def test_a_kill_at_any_call_leaves_a_whole_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 50):
            path = tmp_path / str(n)
            saved(path, 2).__exit__()
            child = os.fork()
            if child == 0:
                folder = RunFolder(path, IDENTITY, resume=True)
                fail_at(n, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
                folder.commit(3, state(3))
                os._exit(0)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            found = newest(path)
            assert found is not None and found[0] in (2, 3) and toys.same(found[1], state(found[0]))
            assert not list(path.rglob(".tmp-*"))
            if not killed:
                assert found[0] == 3 and n > 5
                return
        pytest.fail("the save never came to its end")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def there_and_back(path: Path, value: Any) -> Any:
    with RunFolder(path, IDENTITY, resume=(path / "experiment.json").exists()) as folder:
        folder.commit(1, {"value": value})
        found = folder.newest()
    assert found is not None
    return found[1]["value"]


class TestState:
    @settings(deadline=None, max_examples=20)
    @given(value=TREES)
    def test_comes_back_equal(self, value: Any, tmp_path_factory: pytest.TempPathFactory):
        path = tmp_path_factory.mktemp("state") / "run"
        found = there_and_back(path, value)
        assert found == value and repr(found) == repr(value)
        shutil.rmtree(path)

    @pytest.mark.parametrize(
        "tensor",
        [
            torch.tensor(1.5),
            torch.empty(0, 3),
            torch.arange(5),
            torch.tensor([True, False]),
            torch.randn(3, 4).bfloat16(),
            torch.randn(6, 4).t(),
            torch.tensor([float("nan"), float("inf"), -0.0]),
            torch.randn(3, dtype=torch.float64),
        ],
        ids=lambda tensor: f"{tensor.dtype} {tuple(tensor.shape)}",
    )
    def test_tensors_of_every_kind_come_back(self, tmp_path: Path, tensor: torch.Tensor):
        found = there_and_back(tmp_path / "run", [tensor])[0]
        assert found.dtype == tensor.dtype and found.shape == tensor.shape
        assert torch.equal(found.nan_to_num(7), tensor.nan_to_num(7))

    def test_the_memory_layout_comes_back(self, tmp_path: Path):
        for memory_format in (torch.channels_last, torch.contiguous_format):
            tensor = torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format)
            found = there_and_back(tmp_path / "run", tensor)
            assert torch.equal(found, tensor) and found.stride() == tensor.stride()

    def test_tensors_that_share_memory_come_back_apart(self, tmp_path: Path):
        one = torch.zeros(4)
        found = there_and_back(tmp_path / "run", [one, one[:2]])
        found[0].add_(1)
        assert found[1].tolist() == [0, 0]

    def test_an_optimizer_and_its_schedule_go_on_as_if_nothing_had_happened(self, tmp_path: Path):
        def learner() -> tuple[Any, Any, Any]:
            torch.manual_seed(0)
            net = toys.conv_net()
            optimizer = torch.optim.AdamW(net.parameters(), 1e-2, amsgrad=True)
            return net, optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)

        def steps(net: Any, optimizer: Any, schedule: Any) -> None:
            for seed in range(3):
                optimizer.zero_grad()
                net(
                    torch.rand(4, *toys.SHAPE, generator=torch.Generator().manual_seed(seed))
                ).square().mean().backward()
                optimizer.step()
                schedule.step()

        first, second = learner(), learner()
        steps(*first)
        kept = there_and_back(tmp_path / "run", [part.state_dict() for part in first])
        for part, state in zip(second, kept, strict=True):
            part.load_state_dict(state)
        for learners in (first, second):
            steps(*learners)
        assert toys.same(first[0].state_dict(), second[0].state_dict())
        assert first[2].get_last_lr() == second[2].get_last_lr()

    def test_what_cannot_be_kept_is_refused_and_leaves_nothing(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", IDENTITY) as folder:
            with pytest.raises(TypeError, match="cannot hold set"):
                folder.commit(1, {"value": {1, 2}})
            assert list(folder.checkpoints.iterdir()) == []


class TestRunFolder:
    def test_is_for_one_process_at_a_time(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", IDENTITY), pytest.raises(InputError, match="in use by another process"):
            RunFolder(tmp_path / "run", IDENTITY, resume=True)
        RunFolder(tmp_path / "run", IDENTITY, resume=True).__exit__()

    def test_lets_go_when_it_refuses(self, tmp_path: Path):
        RunFolder(tmp_path / "run", IDENTITY).__exit__()
        for _ in range(2):
            with pytest.raises(InputError, match="holds a run already; resume it"):
                RunFolder(tmp_path / "run", IDENTITY)

    def test_refuses_another_run(self, tmp_path: Path):
        RunFolder(tmp_path / "run", IDENTITY).__exit__()
        with pytest.raises(InputError, match="holds another run"):
            RunFolder(tmp_path / "run", IDENTITY | {"seed": 2}, resume=True)

    def test_refuses_a_folder_of_someone_elses_and_leaves_nothing_there(self, tmp_path: Path):
        (tmp_path / "thesis.txt").write_text("precious")
        with pytest.raises(InputError, match="is not empty and holds no run"):
            RunFolder(tmp_path, IDENTITY)
        assert files(tmp_path) == {"thesis.txt": "precious"}

    def test_vanishes_where_the_input_turns_out_unusable_before_anything_was_saved(self, tmp_path: Path):
        with pytest.raises(InputError), RunFolder(tmp_path / "run", IDENTITY):
            raise InputError("no such optimizer")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
    def test_stays_where_it_can_be_resumed(self, tmp_path: Path, fault: type[BaseException]):
        with pytest.raises(fault), RunFolder(tmp_path / "run", IDENTITY):
            raise fault
        assert newest(tmp_path / "run") is None

    def test_stays_where_something_was_saved(self, tmp_path: Path):
        with pytest.raises(InputError), saved(tmp_path / "run", 1):
            raise InputError("the batches ended")
        assert toys.same(newest(tmp_path / "run"), (1, state(1)))

    def test_refuses_a_place_that_cannot_be_written(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            RunFolder(tmp_path / "file" / "run", IDENTITY)

    def test_sweeps_what_a_killed_process_left(self, tmp_path: Path):
        saved(tmp_path / "run", 1).__exit__()
        (tmp_path / "run" / ".tmp-abc-report.html").write_text("half")
        (tmp_path / "run" / "checkpoints" / ".tmp-abc-00000002").mkdir()
        newest(tmp_path / "run")
        assert not list((tmp_path / "run").rglob(".tmp-*"))

    def test_says_what_it_holds(self, tmp_path: Path):
        RunFolder(tmp_path / "run", IDENTITY).__exit__()
        assert read_description(tmp_path / "run") == IDENTITY

    @pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", "null"])
    def test_a_folder_without_a_readable_run_is_refused(self, tmp_path: Path, text: str | None):
        if text is not None:
            (tmp_path / "experiment.json").write_text(text)
        with pytest.raises(InputError, match="holds no run"):
            read_description(tmp_path)

    def test_a_run_of_another_version_is_refused(self, tmp_path: Path):
        (tmp_path / "experiment.json").write_text(json.dumps({"schema": 99}))
        with pytest.raises(InputError, match="another version"):
            read_description(tmp_path)
