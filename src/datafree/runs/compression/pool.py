"""The pool of a compression: images that are made once and saved as a set."""

from pathlib import Path

from rich.console import Console

from datafree.runs.compression.settings import CompressionConfig
from datafree.runs.reporting.console import say
from datafree.runs.synthesizing.job import synthesize
from datafree.synthesis import Method
from datafree.synthesis.image_sets.index import INDEX
from datafree.teachers.options import TeacherOptions


def make_pool(config: CompressionConfig, method: Method, images: int, folder: Path, console: Console) -> None:
    """Synthesize the images of a compression, unless they are there.

    Args:
        config: The settings.
        method: How the images are synthesized.
        images: Their number.
        folder: The image set.
        console: Where progress is shown.

    Raises:
        InputError: If the method does not support the checkpoint.
    """
    if (folder / INDEX).is_file():
        return
    say(console, "pool", f"{images:,} images  ({folder})")
    synthesize(
        method,
        teacher=config.checkpoint,
        out=folder,
        options=TeacherOptions(**{name: getattr(config, name) for name in TeacherOptions.__dataclass_fields__}),
        images=images,
        format=(),
        seed=config.seed,
        device=config.device,
        threads=config.threads,
        console=console,
    )
