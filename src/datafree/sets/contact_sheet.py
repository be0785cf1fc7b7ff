"""One picture of many images, sorted by class."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from datafree.types import Batch


def contact_sheet(batch: Batch, classes: Sequence[str], columns: int = 16, rows: int = 8, pixels: int = 48) -> Any:
    """Up to 128 images, sorted by what they should be, enlarged without smoothing where they are small."""
    from PIL import Image
    from torchvision.transforms.v2.functional import to_pil_image
    from torchvision.utils import make_grid

    targets = batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)
    order = targets.argsort(stable=True)
    order = order[:: max(1, len(order) // (columns * rows))][: columns * rows]
    images = displayable(batch.images[order].cpu())
    zoom = max(1, pixels // images.shape[-1])
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    sheet = to_pil_image(make_grid(images, nrow=columns, padding=2, pad_value=1.0))
    assert isinstance(sheet, Image.Image)
    return sheet


def displayable(images: Tensor) -> Tensor:
    """Three channels in [0, 1]: more than three are cut; of fewer, the first is shown in grey."""
    images = images.float().clamp(0, 1)
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
