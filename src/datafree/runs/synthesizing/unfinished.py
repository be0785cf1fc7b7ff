"""The folder beside an image set that is synthesized: its checkpoints, and its images if they are too many for the memory.

The same command continues it after a kill. It is deleted when the set is written.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datafree.runs.reading.layout import EXPERIMENT, read_experiment
from datafree.runs.run_folder import RunFolder, has_checkpoint
from datafree.types import Diverged, InputError

SUFFIX = ".unfinished"
"""what its name adds to that of the set"""


@contextmanager
def unfinished_set(out: Path, settings: Mapping[str, Any]) -> Iterator[RunFolder]:
    """Own the folder of a set in a `with` block, and delete it at the end of the block.

    If the block is interrupted, the folder is kept if it has a checkpoint.

    Args:
        out: The folder of the set.
        settings: What decides its images, as JSON values.

    Raises:
        InputError: If the folder has images of other settings, is in use, or cannot be written.
    """
    path = out.with_name(out.name + SUFFIX)
    is_there = (path / EXPERIMENT).is_file()
    if is_there and read_experiment(path) != settings:
        raise InputError(
            f"{path} has the images of another command that was interrupted; repeat that command to continue it, delete the "
            "folder, or give another --out"
        )
    with RunFolder(path, settings, resume=is_there) as folder:
        try:
            yield folder
        except (InputError, Diverged):
            if folder.has_worked:  # the same command would fail again
                delete(folder)
            raise
        except BaseException:
            if not has_checkpoint(path):
                delete(folder)
            raise
        delete(folder)


def delete(folder: RunFolder) -> None:
    """Delete a folder, unless another process has taken it."""
    if folder.is_owner():
        shutil.rmtree(folder.path)
