"""What is tortured: example teachers, an image set, statistics, finished runs, and the nine kinds of run."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torture.trials import command, student_hash

FEW = ["--steps", "40", "--warmup-batches", "2", "--refresh-every", "0", "--pool-batches", "2", "--batch-size", "16"]
OFTEN = ["--steps", "40", "--warmup-batches", "2", "--refresh-every", "5", "--pool-batches", "4", "--batch-size", "16"]
SMALL = ["--method.batch-size", "16"]
PIXELS = [*SMALL, "--method.steps", "10"]
MACHINE = ["--device", "cpu", "--checkpoint-interval", "0.001"]


@dataclass(frozen=True)
class Workshop:
    """Files that trials copy and break, made once."""

    root: Path

    def build(self) -> None:
        """Make everything that is not there yet.

        Raises:
            RuntimeError: If a step fails: then nothing can be tortured.
        """
        for name, words in self._recipes().items():
            if not (self.root / name).exists():
                outcome = command([*words, "--out", str(self.root / name)], timeout=300)
                if outcome.code:
                    raise RuntimeError(f"{' '.join(words)} failed: {outcome.output}")

    def teacher(self, name: str = "teacher") -> str:
        return f"local-dir:{self.root / name}"

    def _recipes(self) -> dict[str, list[str]]:
        train = ["--steps", "30", "--device", "cpu"]
        return {
            "teacher": ["train", "convnet_w64", "--data", "digits", *train],
            "low": ["train", "convnet_w16", "--data", "digits:0-4", *train],
            "high": ["train", "convnet_w16", "--data", "digits:5-9", *train],
            "set": ["synthesize", "--teacher", self.teacher(), "--images", "32", *PIXELS, "--device", "cpu"],
            "statistics/statistics.safetensors": [
                "statistics",
                self.teacher(),
                "--data",
                "digits",
                "--images",
                "20",
                "--device",
                "cpu",
            ],
            "finished": [*self.kinds["deep-inversion"], *MACHINE],
        }

    @cached_property
    def kinds(self) -> dict[str, list[str]]:
        """The nine kinds of run, as command lines without an output folder."""
        distill = ["distill", "--teacher", self.teacher(), "--student", "convnet_w16", "--method"]
        extend = ["extend", "--teacher", self.teacher("low"), "--new-data", "digits:5-9"]
        both = [
            "amalgamate",
            "--teacher",
            self.teacher("low"),
            "--teacher",
            self.teacher("high"),
            "--shared-labels",
            "same",
        ]
        fast = ["--method.reset-every", "6", "--method.discard-first", "2"]
        return {
            "deep-inversion": [*distill, "deep-inversion", *FEW, *PIXELS],
            "adi": [*distill, "adi", *OFTEN, *PIXELS, "--ema", "0.9"],
            "fast": [*distill, "fast", *OFTEN, *SMALL, *fast],
            "zskd": [*distill, "zskd", *FEW, "--method.batch-size", "32", "--method.steps", "5"],
            "saved": [*distill, "saved", *FEW, "--method.images", str(self.root / "set")],
            "prune": [
                "prune",
                self.teacher(),
                *FEW,
                *PIXELS,
                "--rounds",
                "2",
                "--importance-batches",
                "2",
                "--ratio",
                "0.4",
            ],
            "extend": [*extend, *FEW, *PIXELS],
            "amalgamate": [*both, "--steps", "40", "--batch-size", "16", *SMALL, "--measure-batches", "2"],
            "per teacher": [*both, "--method", "deep-inversion", "--per-teacher", *FEW, *PIXELS],
        }

    def run(self, kind: str, out: Path) -> list[str]:
        """The command line of one kind of run."""
        return [*self.kinds[kind], *MACHINE, "--out", str(out)]

    def reference(self, kind: str) -> tuple[str, float]:
        """The student's hash of an uninterrupted run, and the seconds that it takes in a fork."""
        folder = self.root / "references" / kind.replace(" ", "-")
        note = folder.with_suffix(".seconds")
        if not note.is_file():
            folder.parent.mkdir(exist_ok=True)
            outcome = command(self.run(kind, folder), timeout=300)
            if outcome.code:
                raise RuntimeError(f"{kind} failed: {outcome.output}")
            note.write_text(str(outcome.seconds))
        return student_hash(folder), float(note.read_text())
