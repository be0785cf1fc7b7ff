"""Find the image files of a folder with one subfolder per class, and count the files that are not read."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from datafree.types import InputError, printable


class Skipped:
    """Files that are not read, by reason.

    Args:
        root: The folder that contains them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths: dict[str, set[Path]] = {}

    def add(self, path: Path, reason: str) -> None:
        """Add a file; the reason follows the number of files, as in "2 damaged or no image"."""
        self.paths.setdefault(reason, set()).add(path)

    @property
    def note(self) -> str:
        """How many files were skipped, and why; each reason names one of them. Empty if there are none."""
        if not self.paths:
            return ""
        reasons = []
        for reason, paths in self.paths.items():
            first = min(paths)
            shown = first.relative_to(self.root) if first.is_relative_to(self.root) else first
            reasons.append(f"{len(paths)} {reason} ({printable(str(shown))}{', ...' if len(paths) > 1 else ''})")
        count = len(set[Path]().union(*self.paths.values()))
        return f"skipped {count} file{'s' * (count > 1)} in {printable(str(self.root))}: {', '.join(reasons)}"


def find_images(root: Path, extensions: Sequence[str]) -> tuple[list[Path], list[int], tuple[str, ...], Skipped]:
    """Find the image files of a folder with one subfolder per class.

    Subfolders that are named by numbers are in numeric order, others in the order of their names, as in torchvision.
    Links to files and folders are followed; a folder is searched once per class.

    Args:
        root: The folder.
        extensions: Endings of image files, in lower case.

    Returns:
        The files, their classes, the class names, and the files that are not images by their name or kind.

    Raises:
        InputError: If there is no subfolder, one without an image file, or one whose name is not UTF-8.
    """
    skipped = Skipped(root)
    entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    names = [entry.name for entry in entries if entry.is_dir()]
    if all(name.isascii() and name.isdecimal() and len(name) < 10 for name in names):
        names.sort(key=lambda name: (int(name), name))
    for entry in entries:
        if not entry.is_dir():
            skipped.add(root / entry.name, _kind(entry.name))
    require_utf8(root, names)
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        files = list(_files_below(root / name, extensions, skipped))
        if not files:
            raise InputError(f"{root / name} contains no image file; remove this folder or add images")
        paths += files
        labels += [label] * len(files)
    if not names:
        raise InputError(f"{root} has no subfolders; it must contain one subfolder of images per class")
    return paths, labels, tuple(names), skipped


def find_unlabelled(root: Path, extensions: Sequence[str]) -> tuple[list[Path], Skipped]:
    """Find the image files of a folder and of the folders below it, in the order of their paths; they have no classes.

    Args:
        root: The folder.
        extensions: Endings of image files, in lower case.

    Returns:
        The files, and the files that are not images by their name or kind.
    """
    skipped = Skipped(root)
    return list(_files_below(root, extensions, skipped)), skipped


def require_utf8(root: Path, names: Sequence[str]) -> None:
    """Check that the names of subfolders can be written as class names.

    Raises:
        InputError: If one is not UTF-8.
    """
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise InputError(f"{root} has a subfolder {ascii(name)} whose name is not UTF-8; rename it")


def _files_below(folder: Path, extensions: Sequence[str], skipped: Skipped) -> Iterator[Path]:
    """Yield the image files of a class, in the order of torchvision."""
    found, visited = [], set[tuple[int, int]]()

    def unreadable(fault: OSError) -> None:
        skipped.add(Path(fault.filename), "not readable")

    for place, folders, names in os.walk(folder, followlinks=True, onerror=unreadable):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:  # a link to a folder that contains it
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders.sort()
        found += [(place, name) for name in names]
    for place, name in sorted(found):
        path = Path(place, name)
        if not name.lower().endswith(tuple(extensions)):
            skipped.add(path, _kind(name))
        elif not path.is_file():
            skipped.add(path, "not a regular file")
        else:
            yield path


def _kind(name: str) -> str:
    """How a note calls a file that is no image by its name."""
    return f"of type {printable(extension)}" if (extension := Path(name).suffix.lower()) else "without an extension"
