"""Headers of model cards in the vocabulary of the hub, and what they say about the licence."""

import json

import pytest
from huggingface_hub import ModelCard

from datafree.export.cards import Header, Measured
from datafree.teachers.origins import UNKNOWN, Origin

TIMM = Origin("resnet18", "timm/resnet18.a1_in1k", "apache-2.0")
OTHER = Origin("hf-hub:a/b", "a/b", "apache-2.0")
OWN = Origin("my/teacher")


def read(header: Header) -> dict[str, object]:
    """What the library of the hub reads."""
    return ModelCard(f"{header.text()}\n# Text\n", ignore_metadata_errors=False).data.to_dict()


def test_the_library_of_the_hub_reads_it():
    measured = (Measured(metric="accuracy", value=0.9712, data="mnist"),)
    header = Header(
        name='a "student"',
        library="timm",
        tags=("timm", "pruning"),
        origins=(TIMM,),
        relation="finetune",
        measured=measured,
    )
    found = read(header)
    assert (
        found["license"] == "apache-2.0"
        and found["library_name"] == "timm"
        and found["pipeline_tag"] == "image-classification"
    )
    assert found["base_model"] == "timm/resnet18.a1_in1k" and found["base_model_relation"] == "finetune"
    assert found["tags"] == ["image-classification", "timm", "pruning"] and found["metrics"] == ["accuracy"]
    (row,) = found["model-index"]
    assert row["name"] == 'a "student"' and row["results"][0]["metrics"][0] == {"type": "accuracy", "value": 0.9712}
    assert row["results"][0]["dataset"] == {"name": "mnist", "type": "mnist"}


def test_nothing_is_said_that_was_not_measured():
    found = read(Header(name="x", library="onnx", origins=(OWN,), relation="finetune"))
    assert (
        not {"metrics", "model-index", "base_model", "base_model_relation"} & set(found) and found["license"] == UNKNOWN
    )


def test_several_teachers():
    found = read(Header(name="x", library="timm", origins=(TIMM, OTHER, TIMM), relation="merge"))
    assert found["base_model"] == ["timm/resnet18.a1_in1k", "a/b"] and found["base_model_relation"] == "merge"
    assert Header(name="x", library="timm", origins=(TIMM, OTHER)).licence == "apache-2.0"


def test_different_licences_are_not_one():
    header = Header(name="x", library="timm", origins=(TIMM, OWN))
    assert header.licence == UNKNOWN
    assert (
        "`resnet18`: apache-2.0, `my/teacher`: unknown" in header.licence_sentence
        and "Look it up" in header.licence_sentence
    )


def test_a_known_licence_is_named():
    assert (
        Header(name="x", library="timm", origins=(TIMM,)).licence_sentence
        == "**Licence.** `apache-2.0`, that of the teacher."
    )


@pytest.mark.parametrize("name", ["no", "a: b", "---", "x\n---\nlicense: mit", '"', "{}", "\u202e", "'; rm"])
def test_texts_are_plain_values(name: str):
    """A name from elsewhere cannot add an entry."""
    measured = (Measured(metric="accuracy", value=0.5, data=name),)
    header = Header(name=name, library=name, tags=(name,), origins=(OWN,), measured=measured)
    found = read(header)
    assert found["license"] == UNKNOWN and set(found) == {
        "license", "library_name", "pipeline_tag", "tags", "metrics", "model-index",
    }  # fmt: skip
    assert "\n" not in json.dumps(found["tags"][1]) and header.text().count("\n---") == 1


def test_a_network_that_was_trained_here_has_no_licence_yet():
    assert "Not chosen: correct the entry `license`" in Header(name="n", library="timm", source="").licence_sentence
