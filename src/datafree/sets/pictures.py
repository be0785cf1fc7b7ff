"""Export synthesized images for other programs, with 8 bits per channel: PNG files by class, or a parquet data set."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from datafree.sets.contact_sheet import displayable, labels_of
from datafree.types import Batch, InputError, Probabilities


def png_files(images: Tensor) -> Iterator[bytes]:
    """Yield each image as the bytes of a PNG file: RGB for three or more channels, else grey."""
    channels = 3 if images.shape[1] >= 3 else 1
    for image in displayable(images.cpu()):
        file = io.BytesIO()
        to_pil_image(image[:channels]).save(file, format="PNG")
        yield file.getvalue()


def write_folder(batch: Batch, folder: Path, parts: Sequence[str] = ()) -> None:
    """Write an image folder with one subfolder per class.

    Subfolders are named by class index, because a class name may not be a valid or safe file name.

    Args:
        batch: The images and their targets.
        folder: The output folder.
        parts: For each image the part of the mixture that synthesized it, which becomes the end of the file name; empty for
            other methods.
    """
    for index, (png, label) in enumerate(zip(png_files(batch.images), labels_of(batch).tolist(), strict=True)):
        part = f"-{parts[index]}" if parts else ""
        path = folder / f"{label:04d}" / f"{index:06d}{part}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)


def require_pyarrow() -> tuple[Any, Any]:
    """Return the modules `pyarrow` and `pyarrow.parquet`.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("parquet needs pyarrow; install datafree[hub], or use --format folder") from error
    return pyarrow, parquet


def write_parquet(
    batch: Batch, soft_labels: Probabilities, classes: Sequence[str], folder: Path, parts: Sequence[str] = ()
) -> None:
    """Write a data set for `datasets.load_dataset`: columns `image`, `label`, `soft_label`, and `part` for a mixture.

    Args:
        batch: The images and their targets.
        soft_labels: The teacher's probabilities, of shape `(n, k)`.
        classes: Class names, in the order of the labels.
        folder: The output folder.
        parts: For each image the part of the mixture that synthesized it; empty for other methods.

    Raises:
        InputError: If pyarrow is not installed.
    """
    pyarrow, parquet = require_pyarrow()
    columns = {
        "image": [{"bytes": png, "path": f"{index:06d}.png"} for index, png in enumerate(png_files(batch.images))],
        "label": labels_of(batch).tolist(),
        "soft_label": soft_labels.tolist(),
    }
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "soft_label": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
    }
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    types = {"image": picture, "label": pyarrow.int64(), "soft_label": pyarrow.list_(pyarrow.float32())}
    if parts:
        columns["part"], types["part"] = list(parts), pyarrow.string()
        features["part"] = {"dtype": "string", "_type": "Value"}
    schema = pyarrow.schema(list(types.items()), {"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir()
    parquet.write_table(pyarrow.table(columns, schema), folder / "train-00000-of-00001.parquet")
