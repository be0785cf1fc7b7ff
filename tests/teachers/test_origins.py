"""Where weights come from: the repository of the hub and the licence, without any request."""

from pathlib import Path

import pytest

from datafree.teachers.origins import UNKNOWN, Origin, licence_in, origin_of


@pytest.mark.parametrize(
    ("spec", "repository", "licence"),
    [
        ("resnet18", "timm/resnet18.a1_in1k", "apache-2.0"),
        ("resnet18.tv_in1k", "timm/resnet18.tv_in1k", "bsd-3-clause"),
        ("lenet5", "", UNKNOWN),
        ("torchvision:resnet18", "", UNKNOWN),
        ("net.py:build", "", UNKNOWN),
        ("hf-hub:someone/no-such-network", "someone/no-such-network", UNKNOWN),
        ("hf-hub:someone/no-such-network@main", "someone/no-such-network", UNKNOWN),
        ("transformers:someone/vit", "someone/vit", UNKNOWN),
        ("hf-hub:../x", "", UNKNOWN),
    ],
)
def test_names(spec: str, repository: str, licence: str):
    assert origin_of(spec) == Origin(spec, repository, licence)


def test_the_users_own_weights_are_from_elsewhere(tmp_path: Path):
    assert origin_of("resnet18", str(tmp_path / "w.pth")) == Origin("resnet18")


@pytest.mark.parametrize("prefix", ["", "local-dir:", "transformers:"])
def test_the_card_of_a_folder_has_the_licence(tmp_path: Path, prefix: str):
    (tmp_path / "README.md").write_text("---\ntags: [a]\nlicense: MIT\n---\n# x\n")
    assert origin_of(f"{prefix}{tmp_path}").licence == "mit"
    (tmp_path / "w.pth").write_bytes(b"")
    assert origin_of(str(tmp_path / "w.pth")).licence == origin_of("net.py:f", str(tmp_path / "w.pth")).licence == "mit"


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ('---\nlicense: "apache-2.0"\n---\n', "apache-2.0"),
        ("---\nlicense: cc-by-nc-4.0 # for research\n---\n", UNKNOWN),
        ("license: mit\n", UNKNOWN),
        ("---\nname: x\n---\nlicense: mit\n", UNKNOWN),
        ("---\nlicense: [mit]\n---\n", UNKNOWN),
        ("---\nlicense: <script>\n---\n", UNKNOWN),
        (f"---\nlicense: {'x' * 100}\n---\n", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_a_licence_is_a_word_in_the_header(card: str, licence: str):
    assert licence_in(card) == licence


def test_a_card_that_cannot_be_read_is_none(tmp_path: Path):
    (tmp_path / "README.md").mkdir()
    assert origin_of(str(tmp_path)).licence == UNKNOWN
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "README.md").write_text("---\nlicense: mit\n---\n" + " " * 2**21)
    assert origin_of(str(tmp_path / "large")).licence == UNKNOWN
