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


def write_folder(batch: Batch, folder: Path, parts: Sequence[str] = (), start: int = 0) -> None:
    """Write an image folder with one subfolder per class.

    Subfolders are named by class index, because a class name may not be a valid or safe file name.

    Args:
        batch: The images and their targets.
        folder: The output folder.
        parts: For each image the part of the mixture that synthesized it, which becomes the end of the file name; empty for
            other methods.
        start: Number of the first image in its set.
    """
    for index, (png, label) in enumerate(zip(png_files(batch.images), labels_of(batch).tolist(), strict=True)):
        part = f"-{parts[index]}" if parts else ""
        path = folder / f"{label:04d}" / f"{start + index:06d}{part}.png"
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


class ParquetWriter:
    """Writes a data set for `datasets.load_dataset`: columns `image`, `label`, `soft_label`, and `part` for a mixture.

    Use it in a `with` statement. Rows are in memory until their pictures have `GROUP_BYTES`, and become a row group then.

    Args:
        classes: Class names, in the order of the labels.
        folder: The output folder.
        has_parts: Whether a mixture synthesized the images.

    Raises:
        InputError: If pyarrow is not installed.
    """

    def __init__(self, classes: Sequence[str], folder: Path, has_parts: bool) -> None:
        self.pyarrow, parquet = require_pyarrow()
        types, features = columns_of(self.pyarrow, classes, has_parts)
        self.schema = self.pyarrow.schema(types, {"huggingface": json.dumps({"info": {"features": features}})})
        folder.mkdir()
        self.file = parquet.ParquetWriter(folder / "train-00000-of-00001.parquet", self.schema)
        self.rows: dict[str, list[Any]] = {name: [] for name in types}
        self.count = self.bytes = 0

    def __enter__(self) -> "ParquetWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *fault: Any) -> None:
        if kind is None:
            self.flush()
        self.file.close()

    def add(self, batch: Batch, soft_labels: Probabilities, parts: Sequence[str] = ()) -> None:
        """Write the next images.

        Args:
            batch: The images and their targets.
            soft_labels: The teacher's probabilities, of shape `(n, k)`.
            parts: For each image the part of the mixture that synthesized it; empty for other methods.
        """
        for png in png_files(batch.images):
            self.rows["image"].append({"bytes": png, "path": f"{self.count:06d}.png"})
            self.count, self.bytes = self.count + 1, self.bytes + len(png)
        self.rows["label"] += labels_of(batch).tolist()
        self.rows["soft_label"] += soft_labels.tolist()
        if parts:
            self.rows["part"] += parts
        if self.bytes > GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the rows that are in memory."""
        if self.rows["label"]:
            self.file.write_table(self.pyarrow.table(self.rows, self.schema))
        self.rows, self.bytes = {name: [] for name in self.rows}, 0


GROUP_BYTES = 2**27
"""bytes of pictures after which a row group ends"""


def columns_of(pyarrow: Any, classes: Sequence[str], has_parts: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the types of the columns, and the features of `datasets`, by name."""
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "soft_label": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
    }
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    types = {"image": picture, "label": pyarrow.int64(), "soft_label": pyarrow.list_(pyarrow.float32())}
    if has_parts:
        types["part"], features["part"] = pyarrow.string(), {"dtype": "string", "_type": "Value"}
    return types, features
