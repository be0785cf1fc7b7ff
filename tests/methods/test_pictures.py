"""Pictures of the user as a method."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from torch import nn

from datafree.classifier import Classifier
from datafree.commands.options.mixtures import split_folders
from datafree.methods import METHODS
from datafree.methods.pictures import PicturesConfig
from datafree.real.ledger import Ledger
from datafree.real.pictures import open_pictures
from datafree.runs.experiment import run
from datafree.runs.reporting.card import real_images
from datafree.runs.serialization import from_json, to_json
from datafree.runs.task_data import with_pictures
from datafree.synthesis import Method, Schedule, Stream
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five colour pictures, one in a subfolder, and a text file."""
    (tmp_path / "pictures" / "inner").mkdir(parents=True)
    for number in range(5):
        place = "inner" if number == 4 else "."
        Image.new("RGB", (9, 9), (50 * number, 100, 0)).save(tmp_path / "pictures" / place / f"{number}.png")
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")
    return tmp_path / "pictures"


def colour_teacher(channels: int = 3) -> Classifier:
    network = nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 4))
    return Classifier(network, shape=(channels, 4, 4), classes=4, mean=(0.5,), std=(0.25,)).eval()


def opened(folder: Path, teacher: Classifier, ledger: Ledger, **settings: int) -> Method:
    return with_pictures(PicturesConfig(images=str(folder), **settings), teacher, ledger)


def test_each_picture_is_read_once_before_any_is_read_again(folder: Path):
    teacher, ledger = colour_teacher(), Ledger()
    torch.manual_seed(0)
    synthesizer = opened(folder, teacher, ledger, batch_size=5).build(teacher)
    assert ledger.entries[0].purpose == "student training (pictures)" and ledger.images_seen_by_student() == 0
    batch = synthesizer.synthesize()
    assert sorted((batch.images[:, 0, 0, 0] * 255).round().tolist()) == [0, 50, 100, 150, 200]
    assert ledger.images_seen_by_student() == 5
    assert batch.teacher_logits is not None and torch.equal(batch.targets, batch.teacher_logits.argmax(1))
    assert torch.equal(batch.teacher_logits, teacher(batch.images))
    assert any("not data-free" in note for note in synthesizer.notes)


def test_a_batch_larger_than_the_folder_repeats_pictures(folder: Path):
    teacher = colour_teacher()
    images = opened(folder, teacher, Ledger(), batch_size=12).build(teacher).synthesize().images
    counts = images[:, 0, 0, 0].unique(return_counts=True)[1]
    assert images.shape == (12, 3, 4, 4) and sorted(counts.tolist()) == [2, 2, 2, 3, 3]


def test_damaged_pictures_are_left_out_and_replaced(folder: Path):
    teacher, ledger = colour_teacher(), Ledger()
    data = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(data[:50] + b"x" + data[51:60])
    synthesizer = opened(folder, teacher, ledger, batch_size=8).build(teacher)
    images = synthesizer.synthesize().images
    assert len(images) == 8 and ledger.images_seen_by_student() == 4
    assert any(note.startswith(f"skipped 2 files in {folder}: ") and "(1.png)" in note for note in synthesizer.notes)


def test_colour_pictures_become_grey_for_a_teacher_of_grey_images(folder: Path):
    teacher = colour_teacher(1)
    source = open_pictures(str(folder), teacher, Ledger())
    grey = source.read(torch.arange(5)).mean((1, 2, 3))
    assert torch.allclose(grey, torch.tensor([0.299 * 50 * n + 0.587 * 100 for n in range(5)]) / 255, atol=1e-4)


def test_it_resumes_at_the_same_picture(folder: Path):
    teacher, ledger = colour_teacher(), Ledger()
    torch.manual_seed(0)
    first = Stream.of(opened(folder, teacher, Ledger(), batch_size=2), teacher, schedule=Schedule())
    next(first)
    again = Stream.of(opened(folder, teacher, ledger, batch_size=2), teacher, schedule=Schedule())
    again.load_state_dict(first.state_dict())
    assert ledger.images_seen_by_student() == 2
    assert torch.equal(next(first).images, next(again).images)


def test_a_run_is_not_resumed_with_other_pictures(folder: Path):
    teacher = colour_teacher()
    state = Stream.of(opened(folder, teacher, Ledger(), batch_size=2), teacher).state_dict()
    (folder / "new.png").write_bytes((folder / "0.png").read_bytes())
    with pytest.raises(InputError, match="has changed since this run was interrupted"):
        Stream.of(opened(folder, teacher, Ledger(), batch_size=2), teacher).load_state_dict(state)


def test_pictures_in_a_mixture_are_opened(folder: Path):
    teacher, ledger = colour_teacher(), Ledger()
    pictures = PicturesConfig(images=str(folder), batch_size=4)
    parts = [("procedural", replace(METHODS["procedural"], batch_size=4)), ("pictures", pictures)]
    mixture = Mixture(parts=tuple(Part(name=name, method=method, share=0.5) for name, method in parts), batch_size=8)
    assert from_json(json.loads(json.dumps(to_json(mixture)))) == mixture
    batch = with_pictures(mixture, teacher, ledger).build(teacher).synthesize()
    assert len(batch) == 8 and ledger.images_seen_by_student() == 5  # eight batches are read first
    assert with_pictures(METHODS["procedural"], teacher, ledger) is METHODS["procedural"]


@pytest.mark.parametrize(
    ("images", "channels", "message"),
    [
        ("", 3, "the folder of the pictures is missing; add it to the name, as in pictures:FOLDER"),
        ("nowhere", 3, "nowhere is not a folder; give a folder of images"),
        (".", 5, "pictures have 1 or 3 channels, but the teacher takes 5; use --method procedural instead"),
    ],
)
def test_folders_that_cannot_be_used_are_refused(images: str, channels: int, message: str):
    teacher = colour_teacher(channels)
    with pytest.raises(InputError, match=message):
        with_pictures(PicturesConfig(images=images), teacher, Ledger())


def test_the_settings_alone_build_nothing(folder: Path):
    with pytest.raises(InputError, match="the pictures are not open; use a run"):
        PicturesConfig(images=str(folder)).build(colour_teacher())


def test_ledger_and_card_of_a_run_say_what_the_student_saw(folder: Path, plain_folder: Path, tmp_path: Path):
    method = PicturesConfig(images=str(folder), batch_size=4)
    summary = run(toys.experiment(plain_folder, method=method), tmp_path / "run").summary
    assert summary["real_images_seen"] == 5 and summary["method"] == "pictures"
    assert summary["ledger"] == [
        {
            "source": f"unlabelled:{folder}",
            "split": "train",
            "purpose": "student training (pictures)",
            "images": 5,
        }
    ]
    sentence = f"They include 5 unlabelled pictures from {folder}: this run is not data-free."
    assert sentence in real_images(summary)
    card = (tmp_path / "run" / "student" / "README.md").read_text()
    assert "# Student of a run with unlabelled pictures" in card and sentence in card
    assert "data-free," not in card.split("---")[1]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "is not data-free" in page


@pytest.mark.parametrize(
    ("word", "value", "options"),
    [
        ("pictures:a/b", "pictures", ["--method.images=a/b"]),
        ("pictures:C:/a,b", "pictures", ["--method.images=C:/a,b"]),
        ("pictures:", "pictures", []),
        ("saved:set", "saved", ["--method.images=set"]),
        ("adi", "adi", []),
        ("procedural:0.7,pictures:a:b:0.3", "procedural:0.7,pictures:0.3", ["--method.pictures.images=a:b"]),
        ("noise:1,pictures:0.3", "noise:1,pictures:0.3", []),
    ],
)
def test_folders_are_split_from_the_name_of_a_method(word: str, value: str, options: list[str]):
    assert split_folders(word) == (value, options)


def test_settings_are_those_of_any_method():
    assert PicturesConfig().needs == () and PicturesConfig().passes == 0
    with pytest.raises(InputError, match="batch-size"):
        replace(PicturesConfig(), batch_size=0)
