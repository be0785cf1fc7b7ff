"""Synthesized images to keep: exact to train on, eight bits to look at."""

from pathlib import Path

import pytest
import torch
import toys
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from datafree import image_set
from datafree.classifier import Classifier
from datafree.types import Batch, InputError


@pytest.fixture
def written(bars: Batch, tmp_path: Path) -> Path:
    teacher = toys.plain_net()
    teacher.classes = ("../../evil", "a/b", "x\n# heading", "plain")
    image_set.write(Batch(bars.images[:10], bars.targets[:10], {}), teacher, tmp_path / "set", "a recipe")
    return tmp_path / "set"


def test_tensors_come_back_to_the_last_bit(written: Path, bars: Batch):
    found = image_set.read(written)
    assert torch.equal(found.images, bars.images[:10]) and torch.equal(found.targets, bars.targets[:10])


def test_pictures_lie_by_class_under_names_that_are_safe(written: Path, bars: Batch):
    found = {str(path.relative_to(written / "png")) for path in (written / "png").rglob("*.png")}
    assert found == {f"{place % 4:04d}/{place:06d}.png" for place in range(10)}
    pixels = pil_to_tensor(Image.open(written / "png" / "0001" / "000005.png")) / 255
    assert torch.allclose(pixels[:1], bars.images[5], atol=1 / 255)


def test_the_card_says_how_and_from_whom(written: Path):
    card = (written / "README.md").read_text()
    assert "a recipe" in card and "No real image was used" in card and "SHA-256" in card


def test_soft_targets_are_sorted_by_their_largest(tmp_path: Path):
    soft = Batch(torch.rand(3, 1, 8, 8), torch.eye(4)[[2, 0, 2]], {})
    image_set.write(soft, toys.plain_net(), tmp_path / "set", "")
    assert len(list((tmp_path / "set" / "png" / "0002").iterdir())) == 2


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"half")])
def test_a_damaged_set_is_refused(written: Path, spoil):
    spoil(written / "images.safetensors")
    with pytest.raises(InputError, match="missing or damaged"):
        image_set.read(written)


def test_draws_from_all_of_them(written: Path, teacher: Classifier):
    drawn = next(image_set.draws(image_set.read(written), 500))
    assert len(drawn) == 500 and set(drawn.targets.tolist()) == {0, 1, 2, 3}
