"""Synthesized images as other programs take them, in eight bits: PNG files by class, a Hugging Face parquet data set."""

import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from datafree.sets.contact_sheet import displayable
from datafree.types import Batch, InputError, Labels, Probabilities


def labels_of(batch: Batch) -> Labels:
    """The class of each image; of a soft label, the most probable one."""
    return batch.targets if batch.targets.ndim == 1 else batch.targets.argmax(1)


def png_files(images: Tensor) -> Iterator[bytes]:
    """Each image as the bytes of a PNG file, in colours if it has three channels."""
    channels = 3 if images.shape[1] >= 3 else 1
    for image in displayable(images.cpu()):
        file = io.BytesIO()
        to_pil_image(image[:channels]).save(file, format="PNG")
        yield file.getvalue()


def write_folder(batch: Batch, folder: Path) -> None:
    """An image folder: one folder a class, named by its number, since a class may be called anything."""
    for place, (png, label) in enumerate(zip(png_files(batch.images), labels_of(batch).tolist(), strict=True)):
        path = folder / f"{label:04d}" / f"{place:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png)


def require_pyarrow() -> tuple[Any, Any]:
    """What writes parquet files.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as fault:
        raise InputError("parquet needs pyarrow; install datafree[hub], or give --format folder") from fault
    return pyarrow, parquet


def write_parquet(batch: Batch, soft: Probabilities, classes: Sequence[str], folder: Path) -> None:
    """A data set that `datasets.load_dataset` reads: image, label, and the teacher's probabilities as a soft label.

    Raises:
        InputError: If pyarrow is not installed.
    """
    pyarrow, parquet = require_pyarrow()
    places = enumerate(png_files(batch.images))
    columns = {
        "image": [{"bytes": png, "path": f"{place:06d}.png"} for place, png in places],
        "label": labels_of(batch).tolist(),
        "soft_label": soft.tolist(),
    }
    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(classes), "_type": "ClassLabel"},
        "soft_label": {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"},
    }
    picture = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    types = {"image": picture, "label": pyarrow.int64(), "soft_label": pyarrow.list_(pyarrow.float32())}
    schema = pyarrow.schema(list(types.items()), {"huggingface": json.dumps({"info": {"features": features}})})
    folder.mkdir()
    parquet.write_table(pyarrow.table(columns, schema), folder / "train-00000-of-00001.parquet")
