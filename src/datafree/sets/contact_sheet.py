"""Contact sheets: one picture that shows many images, sorted by class."""

from typing import Any

from torch import Tensor

from datafree.types import Batch, Images, Labels


def contact_sheet(batch: Batch, columns: int = 16, rows: int = 8, pixels: int = 48) -> Any:
    """Return a picture of up to `columns * rows` images, evenly sampled and sorted by class.

    Args:
        batch: The images and their targets.
        columns: Images per row.
        rows: Maximum number of rows.
        pixels: Smaller images are enlarged to about this width, without smoothing.

    Returns:
        A `PIL.Image.Image`.
    """
    return sheet_of(batch.images[sampled(labels_of(batch), columns * rows)], columns, pixels)


def sampled(labels: Labels, count: int) -> Tensor:
    """Return the positions of up to `count` images, evenly sampled and sorted by class."""
    order = labels.argsort(stable=True)
    return order[:: max(1, len(order) // count)][:count]


def sheet_of(images: Images, columns: int = 16, pixels: int = 48) -> Any:
    """Return a picture of images in their order; see `contact_sheet`."""
    from PIL import Image
    from torchvision.transforms.v2.functional import to_pil_image
    from torchvision.utils import make_grid

    images = displayable(images.cpu())
    zoom = max(1, pixels // images.shape[-1])
    images = images.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    sheet = to_pil_image(make_grid(images, nrow=columns, padding=2, pad_value=1.0))
    assert isinstance(sheet, Image.Image)
    return sheet


def labels_of(batch: Batch) -> Labels:
    """Return the class of each image; the most probable class for soft labels."""
    return batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)


def displayable(images: Tensor) -> Tensor:
    """Return images with three channels in [0, 1]: the first three, or the first one as grey."""
    images = images.float().clamp(0, 1)
    return images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
