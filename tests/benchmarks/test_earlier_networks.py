"""The table of quantised networks keeps the networks that are not run again."""

import json
from pathlib import Path
from typing import Any

import pytest

from datafree.benchmarks.quantization.table import with_earlier_networks
from datafree.types import InputError

RESULT: dict[str, Any] = {"seeds": [0, 1], "networks": {"b": {"rows": 2}}}
ORDER = ("a", "b", "c")


def kept(tmp_path: Path, earlier: object) -> dict[str, Any]:
    (tmp_path / "t.json").write_text(json.dumps(earlier))
    return with_earlier_networks(RESULT, tmp_path / "t.json", ORDER)


def test_networks_that_were_not_run_are_kept_in_the_order_of_the_table(tmp_path: Path):
    networks = kept(tmp_path, {"seeds": [0, 1], "networks": {"c": {"rows": 3}, "b": {"rows": 0}, "gone": {}}})[
        "networks"
    ]
    assert networks == {"b": {"rows": 2}, "c": {"rows": 3}} and list(networks) == ["b", "c"]


def test_networks_of_other_seeds_are_left_out(tmp_path: Path):
    assert kept(tmp_path, {"seeds": [0], "networks": {"c": {"rows": 3}}}) == RESULT


def test_without_a_file_there_is_nothing_to_keep(tmp_path: Path):
    assert with_earlier_networks(RESULT, tmp_path / "t.json", ORDER) == RESULT


@pytest.mark.parametrize("earlier", [[], {}, {"seeds": [0, 1], "networks": 3}], ids=["list", "empty", "number"])
def test_a_damaged_file_is_an_error(tmp_path: Path, earlier: object):
    with pytest.raises(InputError, match=r"t\.json"):
        kept(tmp_path, earlier)
