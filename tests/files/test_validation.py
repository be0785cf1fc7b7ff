"""The reader of plain values: every type, every refusal, and the sentence it ends in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datafree.files.validation import MAX_DEPTH, MAX_ITEMS, from_plain
from datafree.types import InputError, require_at_least


@dataclass(frozen=True)
class Inner:
    steps: tuple[int, ...] = ()
    size: tuple[int, float] = (1, 0.5)


@dataclass(frozen=True)
class Settings:
    name: str
    rate: float = 0.1
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    inner: Inner | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    names: Sequence[str] = ()
    folder: Path | None = None

    def __post_init__(self) -> None:
        require_at_least(0, rate=self.rate)


class TestAccepts:
    def test_a_dataclass(self):
        value = {
            "name": "x",
            "rate": 1,
            "mode": "b",
            "inner": {"steps": [1, 2], "size": [3, 4]},
            "weights": {"kd": 2},
            "names": ["é"],
            "folder": "out",
        }
        read = from_plain(Settings, value, "a.json")
        assert read == Settings("x", 1.0, False, "b", Inner((1, 2), (3, 4.0)), {"kd": 2.0}, ("é",), folder=Path("out"))
        assert type(read.rate) is type(read.weights["kd"]) is float

    @pytest.mark.parametrize(
        ("kind", "value", "expected"),
        [
            (int | float, 3, 3),
            (float | int, 3, 3),
            (float | str, 3, 3.0),
            (bool | int, True, True),
            (str | None, None, None),
            (tuple[int, ...] | int, [1], (1,)),
            (tuple[()], [], ()),
            (list[str], ["a"], ["a"]),
            (dict[str, tuple[int, ...]], {"a": [1]}, {"a": (1,)}),
            (Any, {"a": [1, None, 2.5, {"b": True}]}, {"a": [1, None, 2.5, {"b": True}]}),
        ],
    )
    def test_other_types(self, kind: Any, value: Any, expected: Any):
        result = from_plain(kind, value, "a.json")
        assert result == expected and type(result) is type(expected)

    def test_unknown_entries_if_asked_to(self):
        assert from_plain(Inner, {"steps": [1], "more": 0}, "a.json", ignore_unknown=True) == Inner((1,))


REFUSED = [
    ({}, "name is missing"),
    ([], "its content is a list, but must be an object"),
    ({"name": 1}, "name is 1, but must be a text"),
    ({"name": "\ud800"}, "name has a character that cannot be encoded"),
    ({"name": "x" * (MAX_ITEMS + 1)}, f"name has more than {MAX_ITEMS} characters"),
    ({"name": "x", "rat": 1}, "'rat' is unknown; did you mean rate\\?"),
    ({"name": "x", "rate": True}, "rate is true, but must be a finite number"),
    ({"name": "x", "rate": float("nan")}, "rate is nan, but must be a finite number"),
    ({"name": "x", "rate": 10**400}, "rate is an integer of more than 64 bits"),
    ({"name": "x", "rate": -1}, "its content is invalid: rate is -1.0, but it must be at least 0"),
    ({"name": "x", "flag": 1}, "flag is 1, but must be true or false"),
    ({"name": "x", "mode": "c"}, "mode is 'c'.*, but must be one of a, b"),
    ({"name": "x", "mode": ["a"]}, "mode is a list, but must be one of a, b"),
    ({"name": "x", "inner": {"steps": [1, True]}}, r"inner\.steps\[1\] is true, but must be an integer"),
    ({"name": "x", "inner": {"steps": [2**63]}}, r"inner\.steps\[0\] is an integer of more than 64 bits"),
    ({"name": "x", "inner": {"size": [1]}}, r"inner\.size has 1 entries, but must have 2"),
    ({"name": "x", "inner": 3}, "inner is 3, but must be an object"),
    ({"name": "x", "weights": {"a": None}}, r"weights\.a is null, but must be a finite number"),
    ({"name": "x", "weights": {1: 1.0}}, "a key in weights is 1, but must be a text"),
    ({"name": "x", "names": "abc"}, "names is 'abc', but must be a list"),
    ({"name": "x", "folder": "\0"}, "folder is '.x00', but must be a path"),
]


class TestRefuses:
    @pytest.mark.parametrize(("value", "why"), REFUSED)
    def test_a_wrong_value_with_its_key_path(self, value: Any, why: str):
        with pytest.raises(InputError, match=rf"^run/a\.json: {why}") as fault:
            from_plain(Settings, value, "run/a.json")
        assert "\n" not in str(fault.value) and len(str(fault.value)) < 300

    def test_a_value_that_is_no_type_of_a_union(self):
        with pytest.raises(InputError, match="its content is 'x', but must be an integer or a list"):
            from_plain(int | tuple[int, ...], "x", "a.json")

    def test_deep_and_long_values(self):
        deep: Any = 0
        for _ in range(MAX_DEPTH + 1):
            deep = [deep]
        with pytest.raises(InputError, match="nested"):
            from_plain(dict[str, Any], {"a": deep}, "a.json")
        with pytest.raises(InputError, match="entries"):
            from_plain(list[int], [0] * (MAX_ITEMS + 1), "a.json")

    def test_a_type_that_cannot_be_read_is_an_error_of_the_programmer(self):
        with pytest.raises(TypeError, match="cannot be read"):
            from_plain(bytes, b"", "a.json")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {"name": values}, optional=dict.fromkeys(("rate", "flag", "mode", "inner", "weights", "names"), values)
    )
)
def test_any_value_is_read_or_refused_in_one_sentence(value: dict[str, Any]):
    try:
        assert isinstance(from_plain(Settings, value, "a.json"), Settings)
    except InputError as fault:
        assert str(fault).startswith("a.json: ")
