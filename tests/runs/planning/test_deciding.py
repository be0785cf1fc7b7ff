"""What `auto` chooses, what a budget decides, and that the run stores plain counts which give the same student again."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from torch import nn

from datafree import teachers
from datafree.applications.distillation import DistillationConfig
from datafree.applications.hints import shared_layers
from datafree.applications.trainer import fabric_for
from datafree.classifier import Classifier, batch_norms
from datafree.commands.main import main
from datafree.estimation.cache import Cache, cache_folder, key_of
from datafree.estimation.estimate import families_for, pools_are_stored
from datafree.estimation.planning import IMAGES
from datafree.estimation.pools import examined
from datafree.methods import METHODS
from datafree.runs.experiment import run
from datafree.runs.planning import deciding, setup
from datafree.runs.planning.auto import HINTS, Auto, learning_rate, race_of, recipe_for, refinement, variance_spread
from datafree.runs.planning.deciding import SAVING
from datafree.runs.planning.timing import STEPS, SynthesisTime, time_of_batch, time_student, time_synthesis
from datafree.runs.settings import Experiment, read_settings
from datafree.runs.tasks import Task, starts_fresh
from datafree.synthesis import Schedule
from datafree.synthesis.mixture import Mixture, Part
from datafree.types import InputError


def shares(method: Any) -> dict[str, float]:
    assert isinstance(method, Mixture)
    return {part.name: part.share for part in method.parts}


def test_a_teacher_with_batch_norm_gets_refined_pictures(teacher: Classifier):
    recipe = recipe_for(teacher, flips=True)
    assert shares(recipe.method) == {"procedural": 0.4, "refine": 0.6}
    assert "batch-norm statistics" in recipe.reason
    assert recipe.method.parts[1].method.flip  # type: ignore[attr-defined]
    assert not recipe_for(teacher, flips=False).method.parts[1].method.flip  # type: ignore[attr-defined]


@pytest.mark.parametrize(("shape", "pixels"), [((1, 8, 8), 0), ((3, 28, 40), 1), ((3, 32, 32), 2), ((3, 224, 224), 14)])
def test_the_jitter_is_a_sixteenth_of_the_shorter_side(shape: tuple[int, ...], pixels: int):
    assert refinement(shape).jitter == pixels


def test_a_teacher_without_batch_norm_gets_pictures_refined_by_its_gradients(plain_teacher: Classifier):
    recipe = recipe_for(plain_teacher, flips=False)
    assert shares(recipe.method) == {"procedural": 0.4, "refine": 0.6}
    assert "since it has no batch norm" in recipe.reason
    recipe.method.build(plain_teacher)


def test_a_teacher_with_initial_statistics_is_not_said_to_have_no_batch_norm():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 4))
    teacher = Classifier(model, shape=(1, 8, 8), classes=4)
    assert "its gradients, since its batch norm has initial statistics" in recipe_for(teacher, flips=False).reason


def test_a_teacher_without_gradients_gets_procedural_pictures():
    forward = Classifier(lambda images: images.detach().flatten(1)[:, :4], shape=(1, 8, 8), classes=4)  # type: ignore[arg-type]
    assert not forward.differentiable
    recipe = recipe_for(forward, flips=False)
    assert recipe.method == METHODS["procedural"] and "has no gradients" in recipe.reason


def test_images_of_one_pixel_get_procedural_pictures():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(3, 4))
    pixel = Classifier(layers, shape=(3, 1, 1), classes=4)
    recipe = recipe_for(pixel, flips=False)
    assert recipe.method == METHODS["procedural"] and "too small to be optimized" in recipe.reason
    assert [other.name for other in race_of(pixel, recipe)] == ["procedural", "noise"]
    with pytest.raises(
        InputError, match=r"images of shape \(3, 1, 1\) are too small to be optimized; use --method proc"
    ):
        METHODS["deep-dream"].build(pixel)


def test_layers_of_different_orders_of_magnitude_get_relative_statistics(teacher: Classifier):
    other = toys.conv_net().eval()
    other.load_state_dict(teacher.state_dict())
    batch_norms(other)[0].running_var.mul_(1e6)  # type: ignore[union-attr]
    assert variance_spread(other) > 1000 * variance_spread(teacher)
    recipe = recipe_for(other, flips=False)
    assert "relative" in recipe.reason
    refine = recipe.method.parts[1].method  # type: ignore[attr-defined]
    assert (refine.statistics_norm, refine.statistics) == ("relative", 20)


def test_a_race_has_three_recipes(teacher: Classifier):
    recipe = recipe_for(teacher, flips=False)
    assert [other.name for other in race_of(teacher, recipe)] == ["mixture", "procedural", "fast"]


def test_a_few_steps_are_timed_and_nothing_is_changed(teacher: Classifier, student: Classifier):
    before = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    state = torch.get_rng_state()
    steps: list[int] = []

    class Counting(DistillationConfig):
        def build(self):
            def count(*_: Any, callback: Any, **__: Any) -> None:
                for step in range(100):
                    steps.append(step)
                    callback.log(step, {})

            return count

    assert time_student(Counting(), student, teacher, fabric_for(student), {"batch_size": 4}) >= 0
    assert len(steps) == STEPS + 1
    assert time_student(DistillationConfig(), student, teacher, fabric_for(student), {"batch_size": 4}) > 0
    inversion = time_synthesis(replace(METHODS["adi"], batch_size=4), teacher, student)
    assert inversion.batch == pytest.approx(2000 * inversion.step) and inversion.step > 0
    assert time_synthesis(METHODS["noise"], teacher, student).step == 0
    fast = time_synthesis(replace(METHODS["fast"], batch_size=4), teacher, student)
    assert fast.step == 0 and fast.batch > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in student.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_timed(name: str, teacher: Classifier, student: Classifier):
    state = torch.get_rng_state()
    assert time_synthesis(toys.TINY[name], teacher, student).batch > 0
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_of_a_generator_by_hand():
    # 20 of every 200 steps are of a new generator, whose images are discarded.
    method = replace(METHODS["fast"], reset_every=200, discard_first=20)
    assert time_of_batch(method, 2.0).batch == pytest.approx(2.0 * method.steps_per_batch * 1.1)


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps and batches of known duration: 0.1 s for a student step, 0.05 s for an optimization step of 128 images."""

    def synthesis(method: Any, *_: Any) -> SynthesisTime:
        return SynthesisTime(0.05 * method.passes, 0.05) if hasattr(method, "steps") else SynthesisTime(0.2)

    monkeypatch.setattr(deciding, "time_student", lambda *_: 0.09375)
    monkeypatch.setattr(deciding, "time_synthesis", synthesis)
    monkeypatch.setattr(deciding, "SAVING", 6.79)


def request(teacher: Classifier, student: Classifier, **changes: Any) -> deciding.Request:
    settings = {
        "method": Auto(),
        "schedule": Schedule(),
        "application": DistillationConfig(),
        "budget": "2m",
        "fabric": fabric_for(student),
        "elapsed": lambda: 10.0,
    }
    return deciding.Request(teacher=teacher, student=student, visible=student, **(settings | changes))


@pytest.mark.usefixtures("clockwork")
def test_the_counts_of_auto_by_hand(teacher: Classifier, student: Classifier):
    # A batch of pictures every 32 steps: 0.09375 + 0.2 / 32 = 0.1 s a step. Overhead: 10 + 6.79 + 16 * 0.2 = 19.99 s of 120 s.
    # 40 s for refined pictures: 8 batches of 100 steps of 0.05 s. 60 s are 600 steps.
    decision = deciding.decide(request(teacher, student))
    refine = decision.method.parts[1]  # type: ignore[attr-defined]
    assert decision.application.steps == 600
    assert (refine.method.steps, refine.own_schedule.warmup_batches) == ((100,), 8)
    assert decision.seconds == pytest.approx(120, abs=0.2)
    assert any("600 steps of the student" in note for note in decision.notes)
    assert any("(about 2 min)" in note for note in decision.notes)


class TestLearningRate:
    @pytest.mark.parametrize(
        ("layers", "expected"),
        [
            ((nn.BatchNorm2d(4),), (1e-2, "batch or group norm")),
            ((nn.GroupNorm(2, 4),), (1e-2, "batch or group norm")),
            ((nn.BatchNorm2d(4), nn.LayerNorm(4)), (2e-3, "layer norm")),
            ((nn.ReLU(),), (4e-3, "no normalisation")),
        ],
    )
    def test_follows_the_normalisation_of_the_student(self, layers: tuple[nn.Module, ...], expected: tuple[float, str]):
        assert learning_rate(nn.Sequential(nn.Conv2d(1, 4, 3), *layers)) == expected

    @pytest.mark.usefixtures("clockwork")
    def test_is_chosen_for_random_weights_and_said(self, teacher: Classifier, student: Classifier):
        decision = deciding.decide(request(teacher, student, fresh=True))
        assert decision.application.lr == 1e-2  # type: ignore[attr-defined]
        assert "learning rate: 0.01, since the student has batch or group norm" in decision.notes

    @pytest.mark.usefixtures("clockwork")
    @pytest.mark.parametrize(
        "changes",
        [
            {"fresh": False},
            {"application": DistillationConfig(lr=5e-3)},
            {"method": METHODS["procedural"]},
            {"method": Auto(keep_lr=True)},
        ],
    )
    def test_is_kept(self, teacher: Classifier, student: Classifier, changes: dict[str, Any]):
        wanted = request(teacher, student, **({"fresh": True} | changes))
        decision = deciding.decide(wanted)
        assert decision.application.lr == wanted.application.lr  # type: ignore[attr-defined]
        assert not any(note.startswith("learning rate") for note in decision.notes)


def coloured(channels: int = 4) -> Classifier:
    """Return a small network for images in colour."""
    features = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    return Classifier(nn.Sequential(*features, nn.Linear(16 * channels, 4)), shape=(3, 8, 8), classes=4).eval()


class TestHints:
    """What `auto` chooses for networks with features of the same size."""

    @pytest.mark.usefixtures("clockwork")
    def test_are_chosen_for_random_weights_and_said(self):
        teacher, student = coloured(8), coloured()
        decision = deciding.decide(request(teacher, student, fresh=True))
        assert decision.application.hints == HINTS  # type: ignore[attr-defined]
        sizes = len(shared_layers(student, teacher))
        sentence = f"since images are in colour, and student and teacher have features of {sizes} sizes in common"
        assert f"hints: 30, {sentence}" in decision.notes

    @pytest.mark.usefixtures("clockwork")
    @pytest.mark.parametrize(
        "changes",
        [
            {"fresh": False},
            {"application": DistillationConfig(hints=0.5)},
            {"application": DistillationConfig(hints=0.0)},
            {"method": METHODS["procedural"]},
            {"student": Classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), shape=(3, 8, 8), classes=4)},
        ],
    )
    def test_are_kept(self, changes: dict[str, Any]):
        self.assert_kept(request(**({"teacher": coloured(8), "student": coloured(), "fresh": True} | changes)))

    @pytest.mark.usefixtures("clockwork")
    def test_are_not_chosen_for_grey_images(self, teacher: Classifier, student: Classifier):
        assert shared_layers(student, teacher)
        self.assert_kept(request(teacher, student, fresh=True))

    def assert_kept(self, wanted: deciding.Request) -> None:
        decision = deciding.decide(wanted)
        assert decision.application.hints == wanted.application.hints  # type: ignore[attr-defined]
        assert not any(note.startswith("hints") for note in decision.notes)


def test_students_that_start_fresh(digits_teacher: Path):
    assert starts_fresh(Task(teacher=str(digits_teacher), student="convnet_w8"))
    assert not starts_fresh(Task(teacher=str(digits_teacher)))  # a copy of the teacher
    assert not starts_fresh(Task(teacher=str(digits_teacher), student="convnet_w8", inherit=True))
    assert not starts_fresh(Task(teacher="x", student=f"local-dir:{digits_teacher}"))


@pytest.mark.usefixtures("clockwork")
def test_the_default_budget_is_fifteen_minutes_on_a_cpu(teacher: Classifier, student: Classifier):
    decision = deciding.decide(request(teacher, student, budget=""))
    assert decision.seconds == pytest.approx(900, abs=0.2)
    assert deciding.default_budget(torch.device("cuda")) == "10m"


@pytest.mark.usefixtures("clockwork")
def test_the_evaluation_is_part_of_the_budget(teacher: Classifier, student: Classifier):
    # 12,800 images take the time of 100 steps of 128 images: 9.375 s.
    decision = deciding.decide(request(teacher, student, budget="1000steps"))
    with_images = deciding.decide(request(teacher, student, budget="1000steps", test_images=12800))
    assert with_images.seconds - decision.seconds == pytest.approx(9.375)


@pytest.mark.usefixtures("clockwork")
def test_a_race_takes_three_tenths_and_continues_with_the_best(
    teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch
):
    trials: list[Any] = []

    def trial(fitted: Any, *_: Any) -> tuple[Any, Any]:
        trials.append(fitted)
        return len(trials), len(trials)

    monkeypatch.setattr(deciding, "trial", trial)
    monkeypatch.setattr(deciding, "agreement", lambda student, _, images: 0.9 if student == 2 else 0.5)
    decision = deciding.decide(request(teacher, student, method=Auto(race=True), budget="1000steps"))
    assert [fitted.steps for fitted in trials] == [100, 100, 100]
    assert decision.method == METHODS["procedural"] and decision.application.steps == 700
    assert "procedural, the best of a race" in decision.notes[0]
    assert "mixture 50.0 %, procedural 90.0 %, fast 50.0 %" in decision.notes[0]


def test_a_real_race_ends(teacher: Classifier, student: Classifier, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(deciding, "RACE_IMAGES", 16)
    decision = deciding.decide(
        request(teacher, student, method=Auto(race=True), budget="30steps", schedule=Schedule(batch_size=8))
    )
    assert decision.application.steps == 21


def test_pools_of_large_images_are_smaller():
    # Half of 2 GB for each part: 10^9 / (256 * 4 * 3 * 224 * 224) = 6.49 batches.
    mixture = Mixture(
        parts=tuple(Part(name=name, method=METHODS[name], share=0.5) for name in ("procedural", "refine"))
    )
    smaller, _ = deciding.in_memory(mixture, mixture.schedule, (3, 224, 224))
    assert [part.own_schedule.pool_batches for part in smaller.parts] == [6, 6]  # type: ignore[attr-defined]
    assert deciding.in_memory(mixture, mixture.schedule, (3, 32, 32))[0].parts[0].own_schedule.pool_batches == 64  # type: ignore[attr-defined]
    single, schedule = deciding.in_memory(METHODS["procedural"], METHODS["procedural"].schedule, (3, 224, 224))
    assert single == METHODS["procedural"] and schedule.pool_batches == 12


class TestPoolsOfTheEstimate:
    """A budget keeps time for the pools of the estimate, unless they are on disk."""

    def test_pools_on_disk_are_found(self, teacher: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("DATAFREE_CACHE", str(tmp_path))
        assert not pools_are_stored(teacher)
        known = families_for(teacher)
        cache = Cache(cache_folder(), key_of(teacher, 0))
        images = torch.zeros(IMAGES, *teacher.shape, dtype=torch.uint8)
        for name in known:
            assert not pools_are_stored(teacher)
            cache.write(name, examined(images, teacher))
        assert pools_are_stored(teacher)

    @pytest.mark.parametrize(("stored", "closing"), [(True, SAVING), (False, SAVING + 25)])
    def test_the_expected_time_has_them(
        self, stored: bool, closing: float, digits_teacher: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(setup, "pools_are_stored", lambda _: stored)
        task = Task(teacher=f"local-dir:{digits_teacher}", student="convnet_w16")
        ready = setup.set_up(Experiment(task=task, method=METHODS["noise"], schedule=Schedule()))
        assert ready.closing_seconds(100) == closing


def test_images_are_mirrored_as_the_user_says(teacher: Classifier, student: Classifier):
    for flip in (True, False):
        auto = Auto(flip="on" if flip else "off")
        application = deciding.choose(request(teacher, student, method=auto))[1].application
        assert application.augment.flip == flip  # type: ignore[attr-defined]


def test_a_budget_without_synthesis_is_refused(digits_teacher: Path, tmp_path: Path):
    task = Task(teacher=f"local-dir:{digits_teacher}", student="convnet_w16", data="digits")
    experiment = Experiment(task=task, method=None, schedule=Schedule(), budget="1m")
    with pytest.raises(InputError, match="so a budget cannot be divided; set --steps"):
        run(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_printed_command_gives_the_same_student(
    digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    networks = ["--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16"]
    assert (
        main(
            [
                "distill",
                *networks,
                "--budget",
                "4 steps",
                "--batch-size",
                "16",
                "--method.flip",
                "off",
                "--out",
                str(tmp_path / "auto"),
            ]
        )
        == 0
    )
    output = capsys.readouterr().out
    words = shlex.split(" ".join(output[output.index("datafree distill") :].split()))
    assert "--budget" not in words and "--steps" in words
    assert main([*words[1:], "--out", str(tmp_path / "again")]) == 0
    first, second = (read_settings(tmp_path / name) for name in ("auto", "again"))
    assert first == second and not first.budget and not isinstance(first.method, Auto)
    weights = [teachers.load_folder(tmp_path / name / "student").state_dict() for name in ("auto", "again")]
    assert all(torch.equal(weights[0][name], tensor) for name, tensor in weights[1].items())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "5"], "budget '5' has no unit"),
        (["--budget", "0m"], "the budget is 0"),
        (["--budget", "0.01s"], "is too short: loading the networks, one step and saving take"),
    ],
)
def test_a_wrong_budget_is_one_sentence(
    digits_teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
):
    networks = ["--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16"]
    assert main(["distill", *networks, *words, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_steps_without_a_budget_are_kept(digits_teacher: Path, tmp_path: Path):
    networks = ["--teacher", f"local-dir:{digits_teacher}", "--student", "convnet_w16"]
    assert main(["distill", *networks, "--steps", "3", "--out", str(tmp_path / "run")]) == 0
    assert read_settings(tmp_path / "run").application.steps == 3
