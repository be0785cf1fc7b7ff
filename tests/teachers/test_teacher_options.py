"""The options of a teacher: class names in files, arguments, and how they reach the network."""

import json
from pathlib import Path
from typing import Any

import pytest
import toys

from datafree.classifier import Classifier
from datafree.teachers import options
from datafree.teachers.options import TeacherOptions, parse_arguments, read_class_names
from datafree.types import InputError


class TestClassNames:
    @pytest.mark.parametrize(
        "text",
        [
            "cat\ndog\nlynx\n",
            "\ufeffcat\r\n dog \r\nlynx",
            '["cat", "dog", "lynx"]',
            '{"1": "dog", "0": "cat", "2": "lynx"}',
            '{"cat": 0, "lynx": 2, "dog": 1}',
            '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog", "2": "lynx"}}',
            '{"label_names": ["cat", "dog", "lynx"]}',
            '{"0": ["n1", "cat"], "1": ["n2", "dog"], "2": ["n3", "lynx"]}',
        ],
    )
    def test_are_read_in_the_order_of_the_outputs(self, text: str, tmp_path: Path):
        (tmp_path / "names").write_text(text, encoding="utf-8")
        assert read_class_names(tmp_path / "names") == ("cat", "dog", "lynx")

    def test_twelve_numbers_keep_their_order(self, tmp_path: Path):
        shuffled = sorted(map(str, range(12)))
        (tmp_path / "names.txt").write_text("\n".join(shuffled))
        assert read_class_names(tmp_path / "names.txt") == tuple(shuffled)
        (tmp_path / "names.json").write_text(json.dumps({str(i): f"c{i}" for i in reversed(range(12))}))
        assert read_class_names(tmp_path / "names.json") == tuple(f"c{i}" for i in range(12))

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "has 0 class names; give 1 to 100,000"),
            ("cat\n\ndog", "class name 2 in .* is empty"),
            ("cat\n" + "x" * 201, "class name 2 in .* is longer than 200"),
            ("cat\n\x1b[31mdog", "class name 2 in .* has control characters"),
            ('{"0": "cat", "2": "dog"}', "its keys are not the numbers from 0"),
            ('{"cat": 0, "dog": 7}', "its keys are not the numbers from 0"),
            ("[1, 2]", "they are not text"),
            ("[" * 5000, "has no class names"),
            ('["cat"', "has no class names"),
            ("\n" * 100_002, "has .* class names|is empty"),
        ],
    )
    def test_what_is_no_list_of_names_is_refused(self, text: str, message: str, tmp_path: Path):
        (tmp_path / "names").write_text(text)
        with pytest.raises(
            InputError, match=message.replace("is longer", ".*is longer").replace("has control", ".*has control")
        ):
            read_class_names(tmp_path / "names")

    def test_a_file_that_is_no_text_is_refused(self, tmp_path: Path):
        (tmp_path / "names").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(InputError, match="is not UTF-8 text; give a text file with one class name a line"):
            read_class_names(tmp_path / "names")
        with pytest.raises(InputError, match="nowhere"):
            read_class_names(tmp_path / "nowhere")


class TestOptions:
    def test_only_what_is_given_is_passed_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        calls: list[Any] = []

        def load(spec: str, **settings: Any) -> Classifier:
            calls.append((spec, settings))
            return toys.plain_net()

        monkeypatch.setattr(options, "load", load)
        TeacherOptions().load_network("x")
        assert calls.pop() == ("x", {"weights": "", "download": True})
        (tmp_path / "names").write_text("a\nb")
        given = TeacherOptions(
            weights="w.pt",
            input=(1, 8, 9),
            mean=(0.1,),
            std=(0.2,),
            teacher_args=("depth=4", "act_layer=gelu"),
            class_names=str(tmp_path / "names"),
            multi_label=True,
            match="order",
        )
        given.load_network("x", download=False)
        spec, settings = calls.pop()
        assert spec == "x" and settings == {
            "weights": "w.pt",
            "download": False,
            "classes": ("a", "b"),
            "shape": (1, 8, 9),
            "mean": (0.1,),
            "std": (0.2,),
            "arguments": {"depth": 4, "act_layer": "gelu"},
            "multi_label": True,
            "match": "order",
        }

    def test_a_number_of_classes_that_is_not_that_of_the_names_is_refused(self, tmp_path: Path):
        (tmp_path / "names").write_text("a\nb")
        with pytest.raises(InputError, match="has 2 class names; give --classes 2, or leave it out"):
            TeacherOptions(classes=3, class_names=str(tmp_path / "names")).settings()

    @pytest.mark.parametrize("shape", [(3, 32), (0, 8, 8), (1, 8, 5000)])
    def test_an_impossible_input_is_refused(self, shape: tuple[int, ...]):
        with pytest.raises(InputError, match="give channels, height and width, each from 1 to 4096"):
            TeacherOptions(input=shape).settings()

    @pytest.mark.parametrize("word", ["depth", "=4", "depth=", "="])
    def test_an_argument_in_another_form_is_refused(self, word: str):
        with pytest.raises(InputError, match="teacher-args has .*; write NAME=VALUE"):
            parse_arguments((word,), "teacher-args")
