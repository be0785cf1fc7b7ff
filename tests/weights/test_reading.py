"""Weights files are untrusted, and weights must match the network."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import save_file
from torch import Tensor

from datafree import teachers
from datafree.classifier import cpu_state_dict
from datafree.types import InputError
from datafree.weights.matching import load_weights, require_finite
from datafree.weights.reading import read_weights

NETWORK = "convnet_w16"


def weights() -> dict[str, Tensor]:
    return cpu_state_dict(teachers.create(NETWORK).model)


class Malicious:
    """Runs code when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.canary),)


class TestReadWeights:
    @pytest.mark.parametrize("name", ["x.safetensors", "x.pt"])
    @pytest.mark.parametrize("kind", [str, Path])
    def test_the_path_may_be_a_string_or_a_path(self, tmp_path: Path, name: str, kind: Callable[[Path], Any]):
        saved = weights()
        (save_file if name.endswith("s") else torch.save)(saved, tmp_path / name)
        assert toys.same(read_weights(kind(tmp_path / name)), saved)

    @pytest.mark.parametrize("key", ["state_dict", "model"])
    def test_a_state_dict_inside_a_training_checkpoint_is_read(self, tmp_path: Path, key: str):
        torch.save({key: weights(), "epoch": 3}, tmp_path / "x.pt")
        assert read_weights(tmp_path / "x.pt").keys() == weights().keys()

    def test_checkpoints_in_the_legacy_format_are_read(self, tmp_path: Path):
        saved = weights()
        torch.save(saved, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        assert toys.same(read_weights(tmp_path / "x.pt"), saved)

    @pytest.mark.parametrize("forced", [False, True])
    @pytest.mark.parametrize("legacy", [False, True])
    def test_code_in_a_pickle_is_not_run(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool, legacy: bool
    ):
        if forced:
            monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
        malicious = {"w": Malicious(tmp_path / "canary")}
        if legacy:
            (tmp_path / "x.pt").write_bytes(pickle.dumps(malicious))
        else:
            torch.save(malicious, tmp_path / "x.pt")
        with pytest.raises(InputError, match="a pickle that would run code"):
            read_weights(tmp_path / "x.pt")
        assert not (tmp_path / "canary").exists()
        pickle.loads(pickle.dumps(malicious))  # noqa: S301
        assert (tmp_path / "canary").exists(), "the canary would have run"

    def test_a_pickled_module_is_refused(self, tmp_path: Path):
        torch.save(toys.plain_net(), tmp_path / "x.pt")
        with pytest.raises(
            InputError, match="is a whole pickled network .* instead of its weights.*load it where it was made and save"
        ):
            read_weights(tmp_path / "x.pt")

    @pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
    @pytest.mark.parametrize(
        ("data", "fault"),
        [
            (b"", "is empty"),
            (b"\n<!doctype html><title>404</title>", "is a web page"),
            (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
            (b"\xff" * 100, "is damaged or not a weights file"),
            (b"PK\x03\x04", "is truncated: the archive has no end"),
        ],
        ids=["empty", "page", "pointer", "bytes", "zip"],
    )
    def test_a_file_of_another_kind_is_refused(self, tmp_path: Path, name: str, data: bytes, fault: str):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name} {fault}"):
            read_weights(tmp_path / name)

    def test_the_first_bytes_decide_and_not_the_name(self, tmp_path: Path):
        saved = weights()
        save_file(saved, tmp_path / "x.pt")
        torch.save(saved, tmp_path / "x.safetensors")
        assert toys.same(read_weights(tmp_path / "x.pt"), saved)
        assert toys.same(read_weights(tmp_path / "x.safetensors"), saved)

    @pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
    @pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, name: str, fraction: float):
        (save_file if name.endswith("s") else torch.save)(weights(), tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(fraction * len(data))])
        with pytest.raises(InputError, match=f"{name} is (damaged|truncated)"):
            read_weights(tmp_path / name)

    def test_a_missing_file_is_refused(self, tmp_path: Path):
        with pytest.raises(InputError, match="x.pt does not exist"):
            read_weights(tmp_path / "x.pt")

    @pytest.mark.parametrize(
        "content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(3)], ids=["empty", "number", "list", "tensor"]
    )
    def test_a_file_without_a_state_dict_is_refused(self, tmp_path: Path, content: Any):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(InputError, match="does not contain a state dict of tensors"):
            read_weights(tmp_path / "x.pt")

    def test_a_tensor_larger_than_its_storage_is_refused(self, tmp_path: Path):
        torch.save({"w": torch.zeros(1).expand(2**40)}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="tensor 'w' in .* claims more values than the file stores"):
            read_weights(tmp_path / "x.pt")

    def test_a_compressed_archive_is_refused(self, tmp_path: Path):
        torch.save({"w": torch.zeros(2**20)}, tmp_path / "x.pt")
        with (
            zipfile.ZipFile(tmp_path / "x.pt") as plain,
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for member in plain.namelist():
                bomb.writestr(member, plain.read(member))
        assert (tmp_path / "bomb.pt").stat().st_size < 2**16
        for comment in (b"", b"PK\5\6"):  # a comment that looks like the end of an archive
            with zipfile.ZipFile(tmp_path / "bomb.pt", "a") as bomb:
                bomb.comment = comment
            with pytest.raises(InputError, match="bomb.pt (claim more values than the file stores|is damaged)"):
                read_weights(tmp_path / "bomb.pt")

    def test_a_small_pickle_that_fills_the_memory_is_refused(self, tmp_path: Path):
        bomb = b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (3_400_000_000).to_bytes(5, "little") + b"\x85R."
        (tmp_path / "x.pt").write_bytes(bomb)
        with pytest.raises(InputError, match="x.pt, a file of 0.0 MiB, takes more than 512 MiB of memory"):
            read_weights(tmp_path / "x.pt")

    @pytest.mark.parametrize(
        ("tensor", "kind"),
        [
            (torch.eye(3).to_sparse(), "sparse"),
            (torch.zeros(3, device="meta"), "empty .meta."),
            (torch.zeros(3, dtype=torch.complex64), "complex64"),
        ],
        ids=["sparse", "meta", "complex"],
    )
    def test_tensors_that_are_no_weights_are_refused(self, tmp_path: Path, tensor: Tensor, kind: str):
        torch.save({"w": tensor}, tmp_path / "x.pt")
        with pytest.raises(InputError, match=f"tensor 'w' in .* is {kind}; save dense tensors"):
            read_weights(tmp_path / "x.pt")

    def test_one_storage_named_many_times_is_refused(self, tmp_path: Path):
        tensor = torch.zeros(2**16)
        torch.save({f"w{index}": tensor for index in range(100)}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="claim more values than the file stores"):
            read_weights(tmp_path / "x.pt")
        torch.save({"w": tensor, "tied": tensor}, tmp_path / "x.pt")
        assert set(read_weights(tmp_path / "x.pt")) == {"w", "tied"}

    def test_names_that_are_no_text_are_refused(self, tmp_path: Path):
        torch.save({1: torch.zeros(3)}, tmp_path / "x.pt")
        with pytest.raises(InputError, match="does not contain a state dict"):
            read_weights(tmp_path / "x.pt")

    def test_pipes_and_devices_are_refused_and_links_to_files_are_not(self, tmp_path: Path):
        os.mkfifo(tmp_path / "pipe.pt")
        for path in (tmp_path / "pipe.pt", Path("/dev/zero"), tmp_path):
            with pytest.raises(InputError, match="not a regular file"):
                read_weights(path)
        save_file(weights(), tmp_path / "blob")
        (tmp_path / "x.safetensors").symlink_to("blob")  # as in a download cache
        assert read_weights(tmp_path / "x.safetensors").keys() == weights().keys()


class TestLoadWeights:
    def test_another_architecture_is_refused_with_its_first_differences(self):
        wider = cpu_state_dict(teachers.create("convnet_w64").model)
        with pytest.raises(InputError, match=f"x.pt does not match the network {NETWORK}") as refusal:
            load_weights(teachers.create(NETWORK).model, wider, "x.pt")
        assert "blocks.0.1.weight has shape (32, 1, 3, 3) instead of (16, 1, 3, 3)" in str(refusal.value)
        assert "more)" in str(refusal.value) and "\n" not in str(refusal.value)

    def test_missing_and_unexpected_tensors_are_named(self):
        renamed = weights()
        renamed["head.weights"] = renamed.pop("head.weight")
        with pytest.raises(InputError, match="head.weight is missing; head.weights is not in the network"):
            load_weights(teachers.create(NETWORK).model, renamed, "x.pt")

    def test_a_network_outside_timm_is_named_by_its_class(self):
        with pytest.raises(InputError, match="the teacher does not match the network Sequential"):
            load_weights(toys.plain_net().model, weights(), "the teacher")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["head.weight", "blocks.0.2.running_var"])
def test_weights_that_are_not_finite_are_refused(name: str, value: float):
    model = teachers.create(NETWORK).model
    require_finite(model, "x.pt")
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(InputError, match=f"x.pt has NaN or infinite values in {name};"):
        require_finite(model, "x.pt")
    model.state_dict()["head.bias"][0] = value
    with pytest.raises(InputError, match="and 1 other tensors"):
        require_finite(model, "x.pt")


def test_whole_numbers_in_the_place_of_weights_are_refused():
    model = teachers.create(NETWORK).model
    integers = weights() | {"head.weight": torch.zeros(10, 24, dtype=torch.int8)}
    with pytest.raises(InputError, match="head.weight has values of type torch.int8 instead of torch.float32"):
        load_weights(model, integers, "x.pt")


def test_a_negative_variance_is_refused():
    classifier = teachers.create(NETWORK)
    classifier.model.blocks[0][2].running_var[0] = -1e-9  # type: ignore[index, union-attr]
    with pytest.raises(InputError, match="x.pt has a negative variance in model.blocks.0.2.running_var"):
        require_finite(classifier, "x.pt")
