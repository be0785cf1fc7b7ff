"""Files that want to run code, fill memory, hang, or reach other files."""

import io
import json
import os
import pickle
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from torture.trials import Trial, clean, command
from torture.workshop import Workshop

SECONDS, MEGABYTES = 10.0, 2000.0
"""what a hostile file may cost at most"""

Make = Callable[[Path, Path], list[str]]
"""writes the file into a folder, given the workshop's; returns the command line that meets it"""


class Payload:
    """Unpickles into a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def hostile_files(workshop: Workshop, count: int) -> Iterator[Trial]:
    """Every hostile file once; of fewer, some of each kind."""
    everything = list(enumerate(corpus()))
    for number, (name, make) in everything[:: max(1, len(everything) // count)]:
        yield Trial("hostile files", f"{number:03d}, {name}", _checked(workshop, make))


def _checked(workshop: Workshop, make: Make) -> Callable[[Path], str]:
    def check(folder: Path) -> str:
        secret, canary = folder / "secret.txt", folder / "canary"
        secret.write_text("secret of the user\n")
        words = make(folder, workshop.root)
        outcome = command(words, timeout=60, audit=True, cwd=folder)
        failure = clean(outcome, 0, 2)
        if canary.exists() or outcome.events:
            failure = f"code was run: {', '.join(outcome.events) or 'canary'}"
        if secret.read_text() != "secret of the user\n":
            failure = "a file outside of the folder was changed"
        if not failure and outcome.seconds > SECONDS:
            failure = f"took {outcome.seconds:.0f} s"
        if not failure and outcome.peak_mb > MEGABYTES:
            failure = f"took {outcome.peak_mb:.0f} MB"
        return failure

    return check


def weights(words_of: Callable[[Path], Path]) -> Make:
    """A file of weights, given to the network that it claims to be of."""

    def make(folder: Path, root: Path) -> list[str]:
        path = words_of(folder)
        return ["evaluate", "convnet_w64", "--weights", str(path), "--data", "digits", "--device", "cpu"]

    return make


def corpus() -> Iterator[tuple[str, Make]]:
    yield from _pickles()
    yield from _bombs()
    yield from _no_files()
    yield from _configs()
    yield from _images()
    yield from _links()


def _pickles() -> Iterator[tuple[str, Make]]:
    def payloads(canary: str) -> dict[str, Any]:
        touch = f"open({canary!r}, 'w').close()"
        import builtins
        import functools
        import operator
        import runpy
        import subprocess

        return {
            "os.system": Payload(os.system, f"touch {canary}"),
            "exec": Payload(builtins.exec, touch),
            "eval": Payload(builtins.eval, touch),
            "subprocess": Payload(subprocess.call, ["touch", canary]),
            "runpy": Payload(runpy.run_path, canary),
            "getattr": Payload(getattr, "a word", "upper"),
            "import": Payload(builtins.__import__, "os"),
            "partial": Payload(functools.partial, os.system, f"touch {canary}"),
            "methodcaller": Payload(operator.methodcaller, "system", f"touch {canary}"),
            "open": Payload(builtins.open, canary, "w"),
            "nested": {"state_dict": {"a": Payload(os.system, f"touch {canary}")}},
        }

    names = list(payloads(""))
    for name in names:
        for protocol, suffix in ((0, ".pt"), (2, ".pth"), (4, ".bin"), (5, ".ckpt"), (2, ".safetensors")):

            def write(folder: Path, name: str = name, protocol: int = protocol, suffix: str = suffix) -> Path:
                path = folder / f"weights{suffix}"
                path.write_bytes(pickle.dumps(payloads(str(folder / "canary"))[name], protocol))
                return path

            yield f"pickle of {name}, protocol {protocol}, as {suffix}", weights(write)

        def zipped(folder: Path, name: str = name) -> Path:
            path = folder / "weights.pt"
            torch.save(payloads(str(folder / "canary"))[name], path)
            return path

        yield f"archive with {name}", weights(zipped)

    def whole_module(folder: Path) -> Path:
        torch.save(torch.nn.Linear(2, 2), folder / "weights.pt")
        return folder / "weights.pt"

    yield "a pickled module", weights(whole_module)


def _bombs() -> Iterator[tuple[str, Make]]:
    def written(data: bytes, name: str = "weights.pt") -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            (folder / name).write_bytes(data)
            return folder / name

        return write

    huge = b"\x80\x02c__builtin__\nbytearray\n(J" + struct.pack("<i", 2**31 - 1) + b"tR."
    yield "47 bytes that ask for gigabytes", weights(written(huge))
    yield "legacy magic, then a bytearray", weights(written(_legacy(huge)))
    yield "a deep pickle", weights(written(b"\x80\x02" + b"(" * 200_000 + b"."))
    yield "a memo that doubles", weights(written(b"\x80\x02]q\x00" + b"(h\x00h\x00lq\x00" * 40 + b"."))
    for comment in (b"", b"PK\x05\x06", b"x" * 100):
        yield f"a deflated archive with a comment of {len(comment)} bytes", weights(written(_deflated(comment)))
    for number in (2**63, 2**40, 101 * 2**20):
        yield (
            f"a safetensors header of {number} bytes",
            weights(written(struct.pack("<Q", number) + b"{}", "w.safetensors")),
        )
    header = json.dumps({"a": {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}}).encode()
    yield "an empty tensor of 2^62", weights(written(struct.pack("<Q", len(header)) + header, "w.safetensors"))

    def stride(folder: Path) -> Path:
        torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, folder / "weights.pt")
        return folder / "weights.pt"

    def loop(folder: Path) -> Path:
        items: list[Any] = []
        items.append(items)
        torch.save({"a": items}, folder / "weights.pt")
        return folder / "weights.pt"

    yield "a tensor that repeats one number without end", weights(stride)
    yield "a list that holds itself", weights(loop)
    for name, value in {
        "sparse": torch.eye(3).to_sparse(),
        "complex": torch.zeros(3, dtype=torch.complex64),
        "meta": torch.zeros(3, device="meta"),
        "quantized": _quantized(),
        "half": torch.zeros(3).half(),
        "a key that is a number": None,
    }.items():

        def other(folder: Path, value: Any = value) -> Path:
            torch.save(
                {"blocks.0.1.weight": value} if value is not None else {3: torch.zeros(3)}, folder / "weights.pt"
            )
            return folder / "weights.pt"

        yield f"weights: {name}", weights(other)
    for name, data in {
        "an HTML page": b"<!DOCTYPE html><html>404</html>",
        "a Git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "nothing": b"",
        "zeros": bytes(4096),
        "an ELF file": b"\x7fELF" + bytes(100),
    }.items():
        yield name, weights(written(data))


def _quantized() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is about to drop such tensors; files with them remain
        return torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)


def _legacy(body: bytes) -> bytes:
    file = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(value, file, 2)
    return file.getvalue() + body


def _deflated(comment: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(300 * 2**20))
        archive.comment = comment
    return file.getvalue()


def _no_files() -> Iterator[tuple[str, Make]]:
    """FIFOs, devices and folders where a file is wanted."""

    def fifo(path: Path) -> None:
        os.mkfifo(path)

    def device(name: str) -> Callable[[Path], None]:
        return lambda path: path.symlink_to(name)

    kinds: dict[str, Callable[[Path], None]] = {
        "a FIFO": fifo,
        "/dev/zero": device("/dev/zero"),
        "/dev/stdin": device("/dev/stdin"),
        "a folder": lambda path: path.mkdir(),
        "a link to itself": lambda path: path.symlink_to(path),
    }
    for kind, place in kinds.items():
        for name in ("weights.pt", "weights.safetensors"):

            def path_of(folder: Path, place: Callable[[Path], None] = place, name: str = name) -> Path:
                place(folder / name)
                return folder / name

            yield f"{kind} as {name}", weights(path_of)
        for inside in ("model.safetensors", "config.json"):

            def teacher(
                folder: Path, root: Path, place: Callable[[Path], None] = place, inside: str = inside
            ) -> list[str]:
                copied = Path(shutil.copytree(root / "teacher", folder / "teacher"))
                (copied / inside).unlink()
                place(copied / inside)
                return ["evaluate", f"local-dir:{copied}", "--data", "digits", "--device", "cpu"]

            yield f"{kind} as {inside} of a teacher", teacher
        for inside in ("experiment.json", "summary.json", "log.jsonl"):

            def run(folder: Path, root: Path, place: Callable[[Path], None] = place, inside: str = inside) -> list[str]:
                copied = Path(shutil.copytree(root / "finished", folder / "run"))
                (copied / inside).unlink()
                place(copied / inside)
                return ["resume" if inside == "experiment.json" else "report", str(copied)]

            yield f"{kind} as {inside} of a run", run

        def index(folder: Path, root: Path, place: Callable[[Path], None] = place) -> list[str]:
            copied = Path(shutil.copytree(root / "set", folder / "set"))
            (copied / "set.json").unlink()
            place(copied / "set.json")
            return ["crosscheck", str(copied), f"local-dir:{root / 'teacher'}", "--device", "cpu"]

        yield f"{kind} as set.json", index


def _configs() -> Iterator[tuple[str, Make]]:
    """Configurations of a teacher that ask for too much, for a file, or for nonsense."""
    changes: dict[str, Callable[[dict[str, Any]], None]] = {
        "a huge network": lambda c: c.update(architecture="vit_gigantic_patch14_224"),
        "ten million classes": lambda c: c.update(num_classes=10**7, label_names=None),
        "an image of 100,000 pixels": lambda c: c["pretrained_cfg"].update(input_size=[3, 10**5, 10**5]),
        "a checkpoint path": lambda c: c["model_args"].update(checkpoint_path="/etc/passwd"),
        "an address": lambda c: c["pretrained_cfg"].update(url="http://localhost:1/x"),
        "a hub name": lambda c: c["pretrained_cfg"].update(hf_hub_id="a/b"),
        "a pretrained flag": lambda c: c["model_args"].update(pretrained=True),
        "features only": lambda c: c["model_args"].update(features_only=True),
        "mean of NaN": lambda c: c["pretrained_cfg"].update(mean=[float("nan")]),
        "std of zero": lambda c: c["pretrained_cfg"].update(std=[0.0]),
        "std of -1": lambda c: c["pretrained_cfg"].update(std=[-1.0]),
        "classes by number": lambda c: c.update(label_names=[1, 2, 3]),
        "markup in names": lambda c: c.update(label_names=[f"[/b]\x1b[31m{i}" for i in range(10)]),
        "a list as architecture": lambda c: c.update(architecture=["resnet18"]),
        "a path as architecture": lambda c: c.update(architecture="local-dir:/tmp"),
        "a hub architecture": lambda c: c.update(architecture="hf-hub:a/b"),
        "widths of a million": lambda c: c["model_args"].update(widths=[10**6, 10**6, 10**6]),
        "negative widths": lambda c: c["model_args"].update(widths=[-1, 2, 3]),
        "too many widths": lambda c: c["model_args"].update(widths=[4] * 10**5),
        "no configuration": lambda c: c.clear(),
        "deep nesting": lambda c: c.update(model_args=json.loads('{"a":' * 500 + "1" + "}" * 500)),
    }
    for name, change in changes.items():

        def make(folder: Path, root: Path, change: Callable[[dict[str, Any]], None] = change) -> list[str]:
            copied = Path(shutil.copytree(root / "teacher", folder / "teacher"))
            config = json.loads((copied / "config.json").read_text())
            change(config)
            (copied / "config.json").write_text(json.dumps(config))
            return ["evaluate", f"local-dir:{copied}", "--data", "digits", "--device", "cpu"]

        yield f"config.json with {name}", make


def _images() -> Iterator[tuple[str, Make]]:
    """Pictures that are something else."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("L", (8, 8)).save(picture, "PNG")
    good = picture.getvalue()
    contents = {
        "PostScript named PNG": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) (w) file\nshowpage\n",
        "a truncated PNG": good[: len(good) // 2],
        "a bomb of pixels": _png_bomb(),
        "an empty file": b"",
        "HTML named PNG": b"<html></html>",
        "an SVG": b'<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>',
        "zeros": bytes(1000),
    }
    for name, data in contents.items():

        def make(folder: Path, root: Path, data: bytes = data) -> list[str]:
            for label in range(10):
                place = folder / "images" / f"class {label}"
                place.mkdir(parents=True)
                (place / "a.png").write_bytes(good)
            (folder / "images" / "class 0" / "e.png").write_bytes(data)
            return [
                "evaluate",
                f"local-dir:{root / 'teacher'}",
                "--data",
                f"folder:{folder / 'images'}",
                "--device",
                "cpu",
            ]

        yield f"image folder with {name}", make


def _png_bomb() -> bytes:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(10**6))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _links() -> Iterator[tuple[str, Make]]:
    """Run folders and sets whose files are links to the user's own."""
    for inside, verb in (
        ("log.jsonl", "report"),
        ("synthetic/grid.png", "report"),
        ("report.html", "report"),
        ("summary.json", "report"),
        ("experiment.json", "resume"),
        ("student/README.md", "report"),
        (".lock", "resume"),
        ("checkpoints", "resume"),
    ):

        def make(folder: Path, root: Path, inside: str = inside, verb: str = verb) -> list[str]:
            copied = Path(shutil.copytree(root / "finished", folder / "run"))
            place = copied / inside
            shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            place.parent.mkdir(exist_ok=True)
            place.symlink_to(folder / "secret.txt")
            if verb == "resume":
                (copied / "summary.json").unlink(missing_ok=True)
            return [verb, str(copied)]

        yield f"run folder whose {inside} is a link", make
