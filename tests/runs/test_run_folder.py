"""Files and checkpoints stay intact after errors, kills and damage on the disk."""

import errno
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
from safetensors.torch import save_file

from datafree.files import atomic_folder, sha256_of, write_json, write_text
from datafree.files.numbering import next_folder, release
from datafree.runs import checkpoints
from datafree.runs.run_folder import NAMES, RunFolder, read_experiment
from datafree.types import InputError

EXPERIMENT = {"seed": 1, "steps": [3, 4]}
CALLS = ("fsync", "rename", "replace")
"""system calls of a save that may fail"""


def fail_at(n: int, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], Any]) -> Callable[[], int]:
    """Make the n-th of these calls fail; returns a function that counts the calls so far."""
    numbers = itertools.count(1)
    calls = [0]

    def guarded(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            calls[0] = next(numbers)
            return fault() if calls[0] == n else real(*arguments, **settings)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    return lambda: calls[0]


def full() -> None:
    raise OSError(28, "No space left on device")


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write_folder(folder: Path, text: str) -> None:
    with atomic_folder(folder) as new:
        (new / "a").write_text(text)
        (new / "sub").mkdir()
        (new / "sub" / "b").write_text(text)


class TestAtomicFolder:
    def test_the_folder_appears_complete(self, tmp_path: Path):
        write_folder(tmp_path / "deep" / "out", "new")
        assert files(tmp_path) == {"deep/out/a": "new", "deep/out/sub/b": "new"}

    def test_the_folder_does_not_exist_before_the_block_ends(self, tmp_path: Path):
        with atomic_folder(tmp_path / "out") as new:
            (new / "a").write_text("half")
            assert not (tmp_path / "out").exists()

    def test_a_block_that_fails_changes_nothing(self, tmp_path: Path):
        write_folder(tmp_path / "out", "old")
        with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "out") as new:
            (new / "a").write_text("half")
            raise ZeroDivisionError
        assert files(tmp_path) == {"out/a": "old", "out/sub/b": "old"}

    @pytest.mark.parametrize("before", [None, "old"])
    def test_an_error_at_any_call_leaves_the_old_or_the_new_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
    ):
        for n in range(1, 50):
            root = tmp_path / str(n)
            if before:
                write_folder(root / "out", before)
            with monkeypatch.context() as patch:
                calls = fail_at(n, patch, full)
                try:
                    write_folder(root / "out", "new")
                except OSError:
                    pass
                else:
                    assert calls() < n and n > 5
                    break
            remaining = files(root)
            assert remaining in (
                {f"out/{name}": text for name in ("a", "sub/b")} for text in (before, "new") if text
            ) or (not before and remaining == {}), f"call {n} lost something"
        else:
            pytest.fail("the save never succeeded")

    def test_the_modes_of_files_follow_the_umask(self, tmp_path: Path):
        before = os.umask(0o027)
        try:
            with atomic_folder(tmp_path / "out") as new:
                save_file({"x": torch.zeros(1)}, new / "x.safetensors")
                (new / "a").write_text("")
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o640}

    @pytest.mark.parametrize("before", [None, "old"])
    def test_what_a_killed_process_left_is_deleted_by_the_next_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
    ):
        """Also if it was killed between moving the old folder away and putting the new one in its place."""
        for n in range(1, 30):
            root = tmp_path / str(n)
            if before:
                write_folder(root / "out", before)
            child = os.fork()
            if child == 0:
                fail_at(n, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
                write_folder(root / "out", "new")
                os._exit(0)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            write_text(root / "other", "")
            remaining = files(root)
            assert remaining.pop("other") == ""
            assert remaining in (
                {f"out/{name}": text for name in ("a", "sub/b")} for text in (before, "new") if text
            ) or (not before and not remaining)
            if not killed:
                assert n > 5
                return
        pytest.fail("the save never succeeded")

    def test_the_temporary_folder_of_a_living_process_is_kept(self, tmp_path: Path):
        with atomic_folder(tmp_path / "out") as new:
            write_text(tmp_path / "other", "")
            (new / "a").write_text("kept")
        assert files(tmp_path) == {"out/a": "kept", "other": ""}

    def test_folders_of_others_are_kept(self, tmp_path: Path):
        for name in (".tmp-thesis", ".tmp-datafree", f".tmp-datafree-{'0' * 15}"):
            (tmp_path / name).mkdir()
        write_text(tmp_path / "other", "")
        assert len(list(tmp_path.iterdir())) == 4


class TestAtomicFile:
    def test_an_error_at_any_call_leaves_the_old_or_the_new_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 10):
            write_text(tmp_path / "file", "old")
            with monkeypatch.context() as patch:
                calls = fail_at(n, patch, full)
                try:
                    write_text(tmp_path / "file", "new")
                except OSError:
                    assert files(tmp_path) in ({"file": "old"}, {"file": "new"})
                else:
                    assert calls() < n and n > 3 and files(tmp_path) == {"file": "new"}
                    return
        pytest.fail("the save never succeeded")

    def test_values_that_json_cannot_hold_are_refused(self, tmp_path: Path):
        with pytest.raises(ValueError, match="JSON compliant"):
            write_json(tmp_path / "x.json", {"accuracy": float("nan")})
        assert list(tmp_path.iterdir()) == []


def state(step: int) -> dict[str, Any]:
    return {"weights": torch.full((2, 3), float(step)), "name": f"step {step}"}


def saved(path: Path, steps: int) -> RunFolder:
    folder = RunFolder(path, EXPERIMENT, resume=(path / "experiment.json").exists())
    for step in range(1, steps + 1):
        folder.commit(step, state(step))
    return folder


def newest(path: Path) -> tuple[int, Any] | None:
    with RunFolder(path, EXPERIMENT, resume=True) as folder:
        return folder.newest()


class TestCheckpoints:
    def test_the_newest_is_the_last_one_committed(self, tmp_path: Path):
        with saved(tmp_path / "run", 3) as folder:
            assert toys.same(folder.newest(), (3, state(3)))

    def test_a_new_run_has_none(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", EXPERIMENT) as folder:
            assert folder.newest() is None

    def test_the_newest_two_are_kept(self, tmp_path: Path):
        with saved(tmp_path / "run", 5) as folder:
            assert len(list(folder.checkpoints.iterdir())) == 2

    @pytest.mark.parametrize("name", ["manifest.json", "state.json", "state.safetensors"])
    @pytest.mark.parametrize(
        "damage",
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
    def test_damage_to_any_file_falls_back_to_the_previous_checkpoint(
        self, tmp_path: Path, name: str, damage: Callable[[Path], object]
    ):
        saved(tmp_path / "run", 4).__exit__()
        last = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1]
        damage(last / name)
        assert toys.same(newest(tmp_path / "run"), (3, state(3)))

    def test_a_single_flipped_bit_is_detected(self, tmp_path: Path):
        saved(tmp_path / "run", 2).__exit__()
        file = sorted((tmp_path / "run" / "checkpoints").iterdir())[-1] / "state.safetensors"
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        assert toys.same(newest(tmp_path / "run"), (1, state(1)))

    def test_without_an_intact_checkpoint_the_run_is_refused_and_the_advice_works(self, tmp_path: Path):
        saved(tmp_path / "run", 2).__exit__()
        for file in (tmp_path / "run" / "checkpoints").rglob("state.json"):
            file.unlink()
        with pytest.raises(
            InputError, match=r"checkpoint 00000002 is damaged .a file is missing.; delete .*checkpoints"
        ):
            newest(tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        assert newest(tmp_path / "run") is None

    def test_skipped_checkpoints_are_named(self, tmp_path: Path):
        saved(tmp_path / "run", 3).__exit__()
        (tmp_path / "run" / "checkpoints" / "00000003" / "state.safetensors").write_bytes(b"")
        with RunFolder(tmp_path / "run", EXPERIMENT, resume=True) as folder:
            assert toys.same(folder.newest(), (2, state(2)))
            assert folder.skipped == [
                "checkpoint 00000003 is damaged (sha256 of state.safetensors differs); continuing from 00000002"
            ]

    def test_a_disk_that_fails_stops_instead_of_starting_again(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        saved(tmp_path / "run", 2).__exit__()

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(checkpoints, "sha256_of", fail)
        with pytest.raises(OSError, match="Input/output error"):
            newest(tmp_path / "run")

    def test_a_checkpoint_without_permission_is_not_called_damaged(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        saved(tmp_path / "run", 2).__exit__()
        original = os.open

        def refuse(path: Any, *arguments: Any, **settings: Any) -> int:
            if str(path).endswith("state.safetensors"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return original(path, *arguments, **settings)

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(InputError, match="Permission denied.; allow reading it and repeat the command"):
            newest(tmp_path / "run")

    @pytest.mark.parametrize("name", ["1²", "٣", "00000009.tmp", "9" * 30])
    def test_other_names_are_no_checkpoints(self, tmp_path: Path, name: str):
        saved(tmp_path / "run", 2).__exit__()
        (tmp_path / "run" / "checkpoints" / name).mkdir()
        with RunFolder(tmp_path / "run", EXPERIMENT, resume=True) as folder:
            assert toys.same(folder.newest(), (2, state(2)))
            folder.commit(3, state(3))
            assert toys.same(folder.newest(), (3, state(3)))

    @pytest.mark.parametrize(
        "content",
        [
            {"step": "1", "tree": {"value": 1}},
            {"step": 1},
            {"step": 1, "tree": {"tensor": [], "channels_last": False}},
            {"step": 1, "tree": {"tensor": "0", "channels_last": True}},
            {"step": 1, "tree": {"map": [[[], {"value": 1}]]}},
            {"step": 1, "tree": {"map": [3]}},
            {"step": 1, "tree": {"list": 3}},
            {"step": 1, "tree": {"value": []}},
            {"step": 1, "tree": {"float": "1e3"}},
        ],
        ids=str,
    )
    def test_a_state_of_wrong_types_is_damaged_even_with_the_right_hash(self, tmp_path: Path, content: Any):
        saved(tmp_path / "run", 2).__exit__()
        last = tmp_path / "run" / "checkpoints" / "00000002"
        (last / "state.json").write_text(json.dumps(content))
        manifest = json.loads((last / "manifest.json").read_text())
        manifest["sha256"]["state.json"] = sha256_of(last / "state.json")
        (last / "manifest.json").write_text(json.dumps(manifest))
        assert toys.same(newest(tmp_path / "run"), (1, state(1)))

    def test_checkpoint_numbers_are_not_reused_after_a_resume(self, tmp_path: Path):
        saved(tmp_path / "run", 3).__exit__()
        with RunFolder(tmp_path / "run", EXPERIMENT, resume=True) as folder:
            folder.commit(9, state(9))
            assert toys.same(folder.newest(), (9, state(9)))

    def test_an_error_at_any_call_leaves_an_intact_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 50):
            path = tmp_path / str(n)
            folder = saved(path, 2)
            with monkeypatch.context() as patch, folder:
                calls = fail_at(n, patch, full)
                try:
                    folder.commit(3, state(3))
                except OSError:
                    pass
                else:
                    assert calls() < n and n > 5
                    return
            checkpoint = newest(path)
            assert checkpoint is not None and checkpoint[0] in (2, 3)
            assert toys.same(checkpoint[1], state(checkpoint[0]))
        pytest.fail("the save never succeeded")

    def test_a_kill_at_any_call_leaves_an_intact_checkpoint(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        for n in range(1, 50):
            path = tmp_path / str(n)
            saved(path, 2).__exit__()
            child = os.fork()
            if child == 0:
                folder = RunFolder(path, EXPERIMENT, resume=True)
                fail_at(n, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
                folder.commit(3, state(3))
                os._exit(0)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            checkpoint = newest(path)
            assert checkpoint is not None and checkpoint[0] in (2, 3)
            assert toys.same(checkpoint[1], state(checkpoint[0]))
            assert not list(path.rglob(".tmp-*"))
            if not killed:
                assert checkpoint[0] == 3 and n > 5
                return
        pytest.fail("the save never succeeded")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=10,
)


def round_trip(path: Path, value: Any) -> Any:
    with RunFolder(path, EXPERIMENT, resume=(path / "experiment.json").exists()) as folder:
        folder.commit(1, {"value": value})
        checkpoint = folder.newest()
    assert checkpoint is not None
    return checkpoint[1]["value"]


class TestState:
    @settings(deadline=None, max_examples=20)
    @given(value=TREES)
    def test_a_state_survives_a_checkpoint(self, value: Any, tmp_path_factory: pytest.TempPathFactory):
        path = tmp_path_factory.mktemp("state") / "run"
        restored = round_trip(path, value)
        assert restored == value and repr(restored) == repr(value)
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
    def test_tensors_of_every_kind_survive(self, tmp_path: Path, tensor: torch.Tensor):
        restored = round_trip(tmp_path / "run", [tensor])[0]
        assert restored.dtype == tensor.dtype and restored.shape == tensor.shape
        assert torch.equal(restored.nan_to_num(7), tensor.nan_to_num(7))

    def test_the_memory_layout_survives(self, tmp_path: Path):
        for memory_format in (torch.channels_last, torch.contiguous_format):
            tensor = torch.randn(2, 3, 4, 5).contiguous(memory_format=memory_format)
            restored = round_trip(tmp_path / "run", tensor)
            assert torch.equal(restored, tensor) and restored.stride() == tensor.stride()

    def test_tensors_that_share_memory_become_separate(self, tmp_path: Path):
        shared = torch.zeros(4)
        restored = round_trip(tmp_path / "run", [shared, shared[:2]])
        restored[0].add_(1)
        assert restored[1].tolist() == [0, 0]

    def test_an_optimizer_and_its_schedule_continue_exactly(self, tmp_path: Path):
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
        states = round_trip(tmp_path / "run", [stateful.state_dict() for stateful in first])
        for stateful, state in zip(second, states, strict=True):
            stateful.load_state_dict(state)
        for learners in (first, second):
            steps(*learners)
        assert toys.same(first[0].state_dict(), second[0].state_dict())
        assert first[2].get_last_lr() == second[2].get_last_lr()

    def test_unsupported_values_are_refused_and_leave_no_checkpoint(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", EXPERIMENT) as folder:
            with pytest.raises(TypeError, match="cannot hold set"):
                folder.commit(1, {"value": {1, 2}})
            assert list(folder.checkpoints.iterdir()) == []


class TestRunFolder:
    def test_only_one_process_may_open_it(self, tmp_path: Path):
        with RunFolder(tmp_path / "run", EXPERIMENT), pytest.raises(InputError, match="in use by another process"):
            RunFolder(tmp_path / "run", EXPERIMENT, resume=True)
        RunFolder(tmp_path / "run", EXPERIMENT, resume=True).__exit__()

    def test_a_refusal_releases_the_lock(self, tmp_path: Path):
        RunFolder(tmp_path / "run", EXPERIMENT).__exit__()
        for _ in range(2):
            with pytest.raises(InputError, match="is an unfinished run; continue it with"):
                RunFolder(tmp_path / "run", EXPERIMENT)

    def test_the_command_that_is_recommended_has_a_quoted_path(self, tmp_path: Path):
        path = tmp_path / "my run"
        RunFolder(path, EXPERIMENT).__exit__()
        with pytest.raises(InputError, match=f"continue it with `datafree resume '{path}'` or choose another --out"):
            RunFolder(path, EXPERIMENT)
        (path / "summary.json").write_text("{}")
        with pytest.raises(InputError, match=f"see it with `datafree report '{path}'`"):
            RunFolder(path, EXPERIMENT, resume=True)

    def test_a_folder_with_another_experiment_is_refused(self, tmp_path: Path):
        RunFolder(tmp_path / "run", EXPERIMENT).__exit__()
        with pytest.raises(InputError, match="is a run of another experiment"):
            RunFolder(tmp_path / "run", EXPERIMENT | {"seed": 2}, resume=True)

    def test_a_folder_with_other_files_is_refused_and_unchanged(self, tmp_path: Path):
        (tmp_path / "thesis.txt").write_text("precious")
        with pytest.raises(InputError, match="is not empty and is not a run folder"):
            RunFolder(tmp_path, EXPERIMENT)
        assert files(tmp_path) == {"thesis.txt": "precious"}

    def test_invalid_input_before_the_first_checkpoint_deletes_the_folder(self, tmp_path: Path):
        with pytest.raises(InputError), RunFolder(tmp_path / "run", EXPERIMENT):
            raise InputError("no such optimizer")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("fault", [KeyboardInterrupt, ZeroDivisionError])
    def test_the_folder_is_kept_if_the_run_can_be_resumed(self, tmp_path: Path, fault: type[BaseException]):
        with pytest.raises(fault), RunFolder(tmp_path / "run", EXPERIMENT):
            raise fault
        assert newest(tmp_path / "run") is None

    def test_the_folder_is_kept_if_it_has_a_checkpoint(self, tmp_path: Path):
        with pytest.raises(InputError), saved(tmp_path / "run", 1):
            raise InputError("the batches ended")
        assert toys.same(newest(tmp_path / "run"), (1, state(1)))

    def test_work_without_a_checkpoint_is_kept(self, tmp_path: Path):
        with pytest.raises(InputError), RunFolder(tmp_path / "run", EXPERIMENT) as folder:
            folder.keep()
            raise InputError("the disk is full")
        assert newest(tmp_path / "run") is None

    def test_an_empty_folder_of_the_user_is_kept(self, tmp_path: Path):
        (tmp_path / "mine").mkdir()
        with pytest.raises(InputError), RunFolder(tmp_path / "mine", EXPERIMENT):
            raise InputError("no such optimizer")
        assert (tmp_path / "mine").is_dir() and not list((tmp_path / "mine").iterdir())

    def test_files_of_the_user_are_kept(self, tmp_path: Path):
        (tmp_path / ".lock").write_text("mine")
        (tmp_path / "thesis.txt").write_text("precious")
        with pytest.raises(InputError, match="is not empty"):
            RunFolder(tmp_path, EXPERIMENT)
        assert files(tmp_path) == {"thesis.txt": "precious", ".lock": "mine"}

    def test_a_kill_at_any_call_of_the_start_leaves_a_folder_that_can_be_used(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        for n in range(1, 30):
            path = tmp_path / str(n)
            child = os.fork()
            if child == 0:
                fail_at(n, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGKILL))
                RunFolder(path, EXPERIMENT)
                os._exit(0)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            RunFolder(path, EXPERIMENT, resume=(path / "experiment.json").exists()).__exit__()
            assert not list(path.rglob(".tmp-*"))
            if not killed:
                assert n > 3
                return
        pytest.fail("the start never succeeded")

    def test_a_process_whose_folder_was_taken_stops_and_writes_nothing_more(self, tmp_path: Path):
        first = saved(tmp_path / "run", 1)
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(InputError, match="was removed or taken over by another process"):
            first.commit(2, state(2))
        assert not (tmp_path / "run").exists()
        second = saved(tmp_path / "run", 1)
        before = sorted((tmp_path / "run").rglob("*"))
        with pytest.raises(InputError, match="start a new run with another --out"), first:
            first.commit(2, state(2))
        assert sorted((tmp_path / "run").rglob("*")) == before
        second.commit(2, state(2))
        second.__exit__()

    @pytest.mark.parametrize("name", [*NAMES, "student/x", "synthetic/grid.png", "checkpoints/1/state.json"])
    @pytest.mark.parametrize("kind", ["link", "pipe", "dangling"])
    def test_links_and_pipes_are_refused_at_once(self, tmp_path: Path, name: str, kind: str):
        secret, run = tmp_path / "secret", tmp_path / "run"
        secret.write_text("mine")
        RunFolder(run, EXPERIMENT).__exit__()
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(secret if kind == "link" else tmp_path / "nothing")
        for use in (lambda: RunFolder(run, EXPERIMENT, resume=True), lambda: read_experiment(run)):
            with pytest.raises(InputError, match="is a symbolic link|is not a regular file"):
                use()
        assert secret.read_text() == "mine" and not (tmp_path / "nothing").exists()

    @pytest.mark.parametrize("out", ["x" * 300, "a\0b"])
    def test_impossible_names_are_refused_in_one_sentence(self, tmp_path: Path, out: str):
        with pytest.raises(InputError, match="cannot be written .*; choose another --out"):
            RunFolder(tmp_path / out, EXPERIMENT)

    def test_a_full_disk_is_not_the_fault_of_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(os, "mkdir", lambda *_, **__: full())
        with pytest.raises(OSError, match="No space left"):
            RunFolder(tmp_path / "run", EXPERIMENT)

    def test_a_path_that_cannot_be_written_is_refused(self, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot be written"):
            RunFolder(tmp_path / "file" / "run", EXPERIMENT)

    def test_temporary_files_of_a_killed_process_are_deleted(self, tmp_path: Path):
        saved(tmp_path / "run", 1).__exit__()
        (tmp_path / "run" / ".tmp-abc-report.html").write_text("half")
        (tmp_path / "run" / "checkpoints" / ".tmp-abc-00000002").mkdir()
        (tmp_path / "run" / "synthetic" / ".tmp-datafree-0123456789abcdef").mkdir(parents=True)
        newest(tmp_path / "run")
        assert not list((tmp_path / "run").rglob(".tmp-*"))

    def test_the_experiment_can_be_read(self, tmp_path: Path):
        RunFolder(tmp_path / "run", EXPERIMENT).__exit__()
        assert read_experiment(tmp_path / "run") == EXPERIMENT

    @pytest.mark.parametrize(
        "text", [None, "", "{", "[]", "{}", "null", '{"schema": "2"}', '{"schema": 2, "schema": 2}']
    )
    def test_a_folder_without_a_readable_experiment_is_refused(self, tmp_path: Path, text: str | None):
        if text is not None:
            (tmp_path / "experiment.json").write_text(text)
        with pytest.raises(InputError, match=r"is not a run folder|experiment.json is not valid JSON"):
            read_experiment(tmp_path)

    def test_starts_at_the_same_moment_get_different_numbers(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs" / "distill-0999").mkdir(parents=True)
        assert [next_folder("distill").name for _ in range(3)] == ["distill-1000", "distill-1001", "distill-1002"]
        RunFolder(Path("runs/distill-1001"), EXPERIMENT).__exit__()
        for number in (1000, 1001):
            release(Path(f"runs/distill-{number}"))
        assert {path.name for path in Path("runs").iterdir()} == {"distill-0999", "distill-1001", "distill-1002"}

    def test_a_numbered_folder_of_invalid_input_is_removed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError), RunFolder(next_folder("distill"), EXPERIMENT):
            raise InputError("no such optimizer")
        assert not list(Path("runs").iterdir())

    @pytest.mark.parametrize("schema", [1, 99])
    def test_a_run_folder_of_another_layout_is_refused_in_one_sentence(self, tmp_path: Path, schema: int):
        (tmp_path / "experiment.json").write_text(json.dumps({"schema": schema, **EXPERIMENT}))
        sentence = (
            rf"was written by another version of datafree .layout {schema}, this version reads layout 2.; use that"
        )
        with pytest.raises(InputError, match=sentence):
            read_experiment(tmp_path)
        with pytest.raises(InputError, match=sentence):
            RunFolder(tmp_path, EXPERIMENT, resume=True)
