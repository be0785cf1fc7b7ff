"""Weights in several files, with an index."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from datafree.types import InputError
from datafree.weights.reading import read_checkpoint
from datafree.weights.shards import MAX_FILES

FIRST, SECOND = {"a": torch.ones(2), "b": torch.zeros(3)}, {"c": torch.full((2, 2), 3.0)}


def written(folder: Path, places: Any = None, second: Any = None) -> Path:
    """Write two files and an index; return the index."""
    save_file(FIRST, folder / "model-1.safetensors")
    save_file(SECOND if second is None else second, folder / "model-2.safetensors")
    default = {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    content = {"metadata": {"total_size": 9}, "weight_map": default if places is None else places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))
    return folder / "model.safetensors.index.json"


def test_the_tensors_of_all_files_are_read(tmp_path: Path):
    found = read_checkpoint(written(tmp_path))
    assert set(found.tensors) == {"a", "b", "c"} and not found.ordered
    assert torch.equal(found.tensors["c"], SECOND["c"]) and torch.equal(found.tensors["a"], FIRST["a"])


def test_pickles_keep_their_order(tmp_path: Path):
    torch.save(FIRST, tmp_path / "1.bin")
    torch.save(SECOND, tmp_path / "2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.bin", "b": "1.bin", "c": "2.bin"}}))
    found = read_checkpoint(index)
    assert list(found.tensors) == ["a", "b", "c"] and found.ordered


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({}, "has no weight_map"),
        ([], "has no weight_map"),
        ({"a": 3}, "has no weight_map"),
        ({"a": "../x.safetensors"}, "'../x.safetensors', which is no file beside it"),
        ({"a": "/etc/passwd"}, "which is no file beside it"),
        ({"a": ".."}, "which is no file beside it"),
        ({"a": "model.safetensors.index.json"}, "which is no file beside it"),
        ({"a": "model-3.safetensors"}, "model-3.safetensors"),
        ({str(i): f"{i}.safetensors" for i in range(MAX_FILES + 1)}, "names more than"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path: Path, places: Any, message: str):
    with pytest.raises(InputError, match=message):
        read_checkpoint(written(tmp_path, places))


def test_a_tensor_in_two_files_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="two of the files that .* names have the same tensor"):
        read_checkpoint(written(tmp_path, second=FIRST))
