"""A contact sheet shows images of any number of channels, sorted by class."""

import pytest
import torch

from datafree.sets.contact_sheet import contact_sheet, displayable
from datafree.types import Batch

SHADES = torch.stack([torch.full((1, 8, 8), shade) for shade in (1.0, 0.0, 0.5)])


@pytest.mark.parametrize(
    "targets", [torch.tensor([2, 0, 1]), torch.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.1, 0.6, 0.3]])]
)
def test_the_contact_sheet_is_sorted_by_class(targets: torch.Tensor):
    sheet = contact_sheet(Batch(SHADES, targets, {}), columns=3)
    shades = [sheet.getpixel((2 + 50 * column + 20, 20))[0] for column in range(3)]
    assert shades == [0, 127, 255]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_images_of_any_number_of_channels_can_be_shown(channels: int):
    assert displayable(torch.rand(2, channels, 4, 4)).shape == (2, 3, 4, 4)
