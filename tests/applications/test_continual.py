"""Tests of continual learning."""

import json
import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import toys
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from datafree import teachers
from datafree.applications.continual import (
    RECIPES,
    ExtensionConfig,
    Outputs,
    extend,
)
from datafree.applications.continual_losses import (
    balanced_cross_entropy,
    feature_loss,
    local_cross_entropy,
    old_class_loss,
    old_image_loss,
)
from datafree.applications.distillation import DistillationConfig
from datafree.benchmarks import BENCHMARKS
from datafree.benchmarks.bench import Bench, bench
from datafree.benchmarks.results import markdown
from datafree.benchmarks.table import Benchmark
from datafree.callback import Callback
from datafree.classifier import Classifier, ClassSubset, fingerprint
from datafree.commands.main import main
from datafree.evaluation import evaluate
from datafree.networks.head_surgery import logit_layer, widen
from datafree.real.data import open_real
from datafree.real.ledger import Ledger
from datafree.runs.experiment import Experiment, Result, resume, run
from datafree.runs.logger import RunLogger
from datafree.runs.reporting import report, tables
from datafree.runs.serialization import from_json, to_json
from datafree.runs.tasks import ExtensionTask, Task
from datafree.runs.training import TrainingConfig, example_teacher
from datafree.synthesis import Schedule, Stream
from datafree.synthesis.augmentation import Augmentation
from datafree.types import Batch, InputError, Terms

QUIET = Console(quiet=True)
DIGITS = list(open_real("digits", "test", "evaluation", Ledger())._labels.tolist())
NEW = ("middle", "frame")
QUICK = ExtensionConfig(steps=100, lr=2e-2, new_batch_size=32)


def crosses(count: int = 128) -> Batch:
    """Two classes that the bars' teacher does not know: a bright middle, and a bright frame."""
    labels = torch.arange(count) % 2
    images = 0.2 * torch.rand(count, *toys.SHAPE)
    for image, label in zip(images, labels.tolist(), strict=True):
        if label:
            image[:, [0, -1]] += 0.7
            image[:, 1:-1, [0, -1]] += 0.7
        else:
            image[:, 2:6, 2:6] += 0.7
    return Batch(images, labels, {})


def forever(batch: Batch, size: int = 32) -> Iterator[Batch]:
    while True:
        places = torch.randint(len(batch), (size,))
        yield replace(batch, images=batch.images[places], targets=batch.targets[places])


def nothing() -> Iterator[Batch]:
    """Fail if a batch is taken."""
    raise AssertionError("an image was asked for")
    yield


def wider(teacher: Classifier) -> Classifier:
    return widen(deepcopy(teacher), NEW)


@pytest.fixture
def student(teacher: Classifier) -> Classifier:
    return wider(teacher)


class Recorder(Callback):
    """Remembers every step's terms."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []
        self.batches: list[Batch] = []

    def on_batch(self, batch: Batch, count: int, due: int) -> None:
        self.batches.append(batch)

    def log(self, step: int, terms: Terms) -> None:
        self.terms.append({name: float(term) for name, term in terms.items()})


class TestWidening:
    def test_a_new_class_is_the_mean_of_the_old_ones(self, teacher: Classifier, student: Classifier, bars: Batch):
        with torch.no_grad():
            old, wide = teacher(bars.images), student(bars.images)
        assert torch.allclose(wide[:, :4], old, atol=1e-6)
        assert torch.allclose(wide[:, 4:], old.mean(1, keepdim=True).expand(-1, 2), atol=1e-5)
        assert student.classes == (*toys.CLASSES, *NEW)

    def test_draws_nothing(self, teacher: Classifier):
        before = torch.get_rng_state()
        first, second = wider(teacher), wider(teacher)
        assert torch.equal(before, torch.get_rng_state())
        assert toys.same(toys.snapshot(first)["weights"], toys.snapshot(second)["weights"])

    def test_a_widened_network_is_saved_and_read_again(self, tmp_path: Path):
        made = widen(teachers.create("convnet_w16", classes=["a", "b"]), ["c"])
        teachers.save_folder(made, tmp_path / "wide")
        found = teachers.load(f"local-dir:{tmp_path / 'wide'}")
        assert found.classes == ("a", "b", "c")
        assert fingerprint(found.model) == fingerprint(made.model)

    @pytest.mark.parametrize(
        "name", ["lenet5", "wrn_16_1", "resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224"]
    )
    def test_networks_of_timm_and_of_the_papers_become_what_timm_makes(self, name: str, tmp_path: Path):
        made = widen(teachers.create(name, classes=3), ["x", "y"])
        with torch.no_grad():
            assert made.eval()(torch.rand(1, *made.shape)).shape == (1, 5)
        teachers.save_folder(made, tmp_path / "wide")
        assert timm.create_model(name, num_classes=5).load_state_dict(made.model.state_dict())
        assert len(teachers.load_folder(tmp_path / "wide").classes) == 5

    def test_a_frozen_copy_learns_too(self):
        made = widen(toys.conv_net().requires_grad_(False), ["x"])
        assert all(parameter.requires_grad for parameter in made.parameters())

    def test_a_layer_without_bias_is_widened_as_well(self):
        made = widen(toys.classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4, bias=False))), ["x"])
        assert logit_layer(made).weight.shape == (5, 64) and logit_layer(made).bias is None

    @pytest.mark.parametrize(
        "model",
        [
            nn.Sequential(nn.Conv2d(1, 4, 8), nn.Flatten()),
            nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Softplus()),
        ],
        ids=["no layer", "not the logits"],
    )
    def test_a_network_without_a_visible_last_layer_is_refused(self, model: nn.Module):
        with pytest.raises(InputError, match="not the output of a single fully connected layer"):
            widen(toys.classifier(model), ["x"])

    @pytest.mark.parametrize(
        ("classes", "match"), [(("left",), "already has class 'left'"), ((), "no new classes to add")]
    )
    def test_classes_must_be_new(self, classes: tuple[str, ...], match: str):
        network = toys.conv_net()
        before = toys.snapshot(network)
        with pytest.raises(InputError, match=match):
            widen(network, classes)
        assert toys.same(toys.snapshot(network), before)

    def test_the_old_classes_of_a_wide_network(self, teacher: Classifier, student: Classifier, bars: Batch):
        narrow = ClassSubset(student, range(4))
        assert torch.allclose(narrow(bars.images), teacher(bars.images), atol=1e-6)


def logits(*rows: list[float]) -> Tensor:
    return torch.tensor(rows).log()


class TestOldImageLoss:
    def test_by_hand(self):
        student, teacher = logits([0.25, 0.25, 0.5]), logits([0.5, 0.5])
        assert old_image_loss(student, teacher).item() == pytest.approx(math.log(2))

    def test_is_the_divergence_from_a_padded_answer(self):
        student, teacher = torch.randn(6, 5), torch.randn(6, 3)
        padded = F.pad(F.softmax(teacher / 2, 1), (0, 2))
        q = F.softmax(student / 2, 1)
        slow = sum(p * (p / q).log() for p, q in zip(padded.flatten(), q.flatten(), strict=True) if p > 0)
        assert old_image_loss(student, teacher, 2.0).item() == pytest.approx(4 * float(slow) / 6, rel=1e-5)

    def test_what_goes_to_new_classes_counts(self):
        teacher = torch.randn(4, 3)
        sure = torch.cat([teacher, torch.full((4, 2), -50.0)], 1)
        assert old_image_loss(sure, teacher).item() == pytest.approx(0, abs=1e-6)
        assert old_image_loss(torch.cat([teacher, torch.zeros(4, 2)], 1), teacher) > 0.1

    def test_gradient(self):
        teacher = torch.randn(3, 2, dtype=torch.float64)
        student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s: old_image_loss(s, teacher, 1.5), student)


class TestOldClassLoss:
    def test_by_hand(self):
        student, teacher = logits([0.1, 0.3, 0.6]), logits([0.5, 0.5])
        expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
        assert old_class_loss(student, teacher).item() == pytest.approx(expected)

    def test_what_goes_to_new_classes_does_not_count(self):
        teacher, new = torch.randn(4, 3), torch.randn(4, 2)
        assert old_class_loss(torch.cat([teacher, 9 * new], 1), teacher).item() == pytest.approx(0, abs=1e-6)

    def test_is_less_than_with_the_new_classes(self):
        student, teacher = torch.randn(4, 5), torch.randn(4, 3)
        assert old_class_loss(student, teacher) < old_image_loss(student, teacher)

    def test_gradient(self):
        teacher = torch.randn(3, 2, dtype=torch.float64)
        student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s: old_class_loss(s, teacher, 1.5), student)


class TestLocalCrossEntropy:
    def test_by_hand(self):
        found = local_cross_entropy(logits([0.8, 0.05, 0.15]), torch.tensor([2]), 1)
        assert found.item() == pytest.approx(-math.log(0.75))

    def test_old_classes_get_no_gradient(self):
        student = torch.randn(4, 5, requires_grad=True)
        local_cross_entropy(student, torch.tensor([3, 4, 3, 3]), 3).backward()
        assert student.grad is not None
        assert not student.grad[:, :3].any() and student.grad[:, 3:].any(1).all()


class TestBalancedCrossEntropy:
    def test_by_hand(self):
        rows = logits([0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5])
        found = balanced_cross_entropy(rows, torch.tensor([0, 0, 2]), 2)
        old = (math.log(2) + math.log(4)) / 2
        assert found.item() == pytest.approx(2 / 3 * old + 1 / 3 * math.log(2))

    def test_more_images_of_the_same_change_nothing(self):
        student, labels = torch.randn(4, 5), torch.tensor([0, 2, 3, 4])
        again = torch.tensor([0, 1, 2, 3, 2, 3, 2, 3])
        assert torch.allclose(
            balanced_cross_entropy(student, labels, 3), balanced_cross_entropy(student[again], labels[again], 3)
        )

    def test_is_the_plain_one_where_images_are_as_many_as_classes(self):
        student, labels = torch.randn(5, 5), torch.arange(5)
        assert torch.allclose(balanced_cross_entropy(student, labels, 3), F.cross_entropy(student, labels))

    def test_gradient(self):
        student = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
        labels = torch.tensor([0, 1, 1, 2])
        assert torch.autograd.gradcheck(lambda s: balanced_cross_entropy(s, labels, 2), student)


class TestFeatureLoss:
    def test_by_hand(self):
        weight = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        student, teacher = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, 0.0]])
        assert feature_loss(student, teacher, weight).item() == pytest.approx((2**2 + 2**2) / 2)

    def test_changes_that_the_last_layer_cannot_see_cost_nothing(self):
        weight, features = torch.tensor([[1.0, 1.0]]), torch.randn(4, 2)
        assert feature_loss(features + torch.tensor([1.0, -1.0]), features, weight).item() == pytest.approx(0, abs=1e-6)
        assert feature_loss(features + torch.tensor([1.0, 1.0]), features, weight) > 1

    def test_gradient(self):
        teacher, weight = torch.randn(3, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
        student = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda s: feature_loss(s, teacher, weight), student)


class TestObjective:
    def outputs(self, synthesized: int = 3) -> Outputs:
        labels = torch.tensor([0, 1, 2, 3, 4, 4])
        return Outputs(
            synthesized,
            labels,
            torch.randn(6, 5),
            torch.randn(6, 3),
            torch.randn(6, 2).requires_grad_(),
            torch.randn(6, 2),
        )

    @pytest.mark.parametrize(
        ("recipe", "terms"),
        [
            ("replay", {"old", "new", "remember"}),
            ("abd", {"local", "head", "features"}),
            ("lwf", {"new", "remember"}),
            ("fine-tuning", {"new"}),
        ],
    )
    def test_a_recipe_is_its_terms(self, recipe: str, terms: set[str]):
        found = RECIPES[recipe].objective(self.outputs(), nn.Linear(2, 5), nn.Linear(2, 3))
        assert set(found) == terms

    def test_each_term_sees_its_images(self):
        torch.manual_seed(1)
        outputs, head, old_head = self.outputs(), nn.Linear(2, 5), nn.Linear(2, 3)
        every = ExtensionConfig(
            old_weight=2.0,
            new_weight=3.0,
            remember_weight=5.0,
            local_weight=7.0,
            head_weight=11.0,
            feature_weight=13.0,
            temperature=2.0,
        )
        expected = {
            "old": 2 * old_image_loss(outputs.student_logits[:3], outputs.teacher_logits[:3], 2.0),
            "new": 3 * F.cross_entropy(outputs.student_logits[3:], outputs.labels[3:]),
            "remember": 5 * old_class_loss(outputs.student_logits[3:], outputs.teacher_logits[3:], 2.0),
            "local": 7 * local_cross_entropy(outputs.student_logits[3:], outputs.labels[3:], 3),
            "head": 11 * balanced_cross_entropy(head(outputs.student_features), outputs.labels, 3),
            "features": 13 * feature_loss(outputs.student_features, outputs.teacher_features, old_head.weight),
        }
        found = every.objective(outputs, head, old_head)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[name], expected[name]) for name in expected)

    def test_the_head_s_cross_entropy_trains_only_the_head(self):
        outputs, head = self.outputs(), nn.Linear(2, 5)
        config = ExtensionConfig(old_weight=0, new_weight=0, remember_weight=0, head_weight=1)
        config.objective(outputs, head, nn.Linear(2, 3))["head"].backward()
        assert head.weight.grad is not None and outputs.student_features.grad is None

    @pytest.mark.parametrize(
        ("config", "name"),
        [
            (RECIPES["replay"], "replay, adi"),
            (replace(RECIPES["abd"], feature_weight=5.0), "abd, adi"),
            (RECIPES["lwf"], "lwf"),
            (RECIPES["fine-tuning"], "fine-tuning"),
            (replace(RECIPES["replay"], remember_weight=0.0), "old + new, adi"),
        ],
    )
    def test_the_label_names_the_recipe_or_its_terms(self, config: ExtensionConfig, name: str):
        assert config.label("adi") == name

    @pytest.mark.parametrize(
        "bad",
        [
            {"steps": 0},
            {"new_batch_size": 0},
            {"temperature": 0.0},
            {"old_weight": -1.0},
            {"remember_weight": -1.0},
            {"feature_weight": float("nan")},
            {"lr": 0.0},
            {"lr_warmup": 2.0},
            {"new_weight": 0.0},
        ],
    )
    def test_refuses_invalid_settings(self, bad: dict[str, float]):
        with pytest.raises(InputError, match=next(iter(bad)).replace("_", "-")):
            ExtensionConfig(**bad)  # type: ignore[arg-type]


class TestExtend:
    @pytest.mark.parametrize("recipe", ["replay", "abd"])
    def test_new_classes_are_learned_and_old_ones_kept(
        self, teacher: Classifier, student: Classifier, bars: Batch, recipe: str
    ):
        config = replace(RECIPES[recipe], steps=60, lr=2e-2, new_batch_size=32)
        new = crosses()
        learned = extend(student, teacher, forever(bars), forever(new), config)
        with torch.no_grad():
            old = (learned(bars.images).argmax(1) == bars.targets).float().mean()
            fresh = (learned(new.images).argmax(1) == new.targets + 4).float().mean()
        assert old > 0.9 and fresh > 0.9

    def test_without_old_images_old_classes_are_forgotten(self, teacher: Classifier, student: Classifier, bars: Batch):
        config = replace(RECIPES["fine-tuning"], steps=40, lr=2e-2)
        learned = extend(student, teacher, nothing(), forever(crosses()), config)
        assert (learned(bars.images).argmax(1) == bars.targets).float().mean() < 0.5

    @pytest.mark.parametrize("recipe", ["lwf", "fine-tuning"])
    def test_recipes_without_images_ask_for_none(self, teacher: Classifier, student: Classifier, recipe: str):
        extend(student, teacher, nothing(), forever(crosses()), replace(RECIPES[recipe], steps=2))

    @pytest.mark.parametrize(
        ("shape", "first", "match"),
        [
            ((1, 4, 4), 0, "the teacher takes"),
            (toys.SHAPE, 4, "number the 2 new"),
            (toys.SHAPE, -1, "number the 2 new"),
        ],
    )
    def test_new_images_that_do_not_fit(
        self, teacher: Classifier, student: Classifier, shape: tuple[int, int, int], first: int, match: str
    ):
        new = Batch(torch.rand(4, *shape), torch.arange(4) % 2 + first, {})
        with pytest.raises(InputError, match=match):
            extend(student, teacher, nothing(), forever(new), replace(RECIPES["lwf"], steps=2))

    @pytest.mark.parametrize("recipe", RECIPES)
    def test_the_teacher_is_not_changed_and_the_student_is_returned(
        self, teacher: Classifier, student: Classifier, bars: Batch, recipe: str
    ):
        before = toys.snapshot(teacher)
        learned = extend(student, teacher, forever(bars), forever(crosses()), replace(RECIPES[recipe], steps=3))
        assert learned is student and not any(module.training for module in student.modules())
        assert toys.same(toys.snapshot(teacher), before)

    def test_the_terms_of_each_step_are_logged_by_name(self, teacher: Classifier, student: Classifier, bars: Batch):
        recorder = Recorder()
        extend(student, teacher, forever(bars), forever(crosses()), replace(QUICK, steps=5), callback=recorder)
        assert [set(terms) for terms in recorder.terms] == [{"old", "new", "remember"}] * 5
        assert recorder.terms[0]["remember"] < recorder.terms[0]["new"]

    def test_labels_of_old_images_are_not_used(self, teacher: Classifier, bars: Batch):
        results = []
        for targets in (bars.targets, bars.targets.flip(0)):
            torch.manual_seed(2)
            config = replace(RECIPES["abd"], steps=3)
            results.append(
                extend(wider(teacher), teacher, forever(replace(bars, targets=targets)), forever(crosses()), config)
            )
        assert toys.same(*(toys.snapshot(result)["weights"] for result in results))

    def test_both_networks_see_the_same_augmented_images(self, teacher: Classifier, student: Classifier, bars: Batch):
        shown: list[Tensor] = []
        handles = [
            model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0])) for model in (teacher, student)
        ]
        old, new = next(forever(bars)), next(forever(crosses()))
        extend(student, teacher, [old], [new], replace(QUICK, steps=1, augment=Augmentation(shift=2.0)))
        for handle in handles:
            handle.remove()
        assert torch.equal(shown[0], shown[1]) and shown[0].shape[0] == 64
        assert not torch.allclose(shown[0], torch.cat([old.images, new.images]))

    def test_too_few_batches_are_refused(self, teacher: Classifier, student: Classifier, bars: Batch):
        with pytest.raises(InputError, match="the batches ended after 1 of 3 steps"):
            extend(student, teacher, forever(bars), [crosses()], replace(QUICK, steps=3))
        with pytest.raises(InputError, match="the batches ended after 0 of 3 steps"):
            extend(student, teacher, [], forever(crosses()), replace(QUICK, steps=3))

    def test_a_student_that_was_not_widened_is_refused(self, teacher: Classifier, bars: Batch):
        with pytest.raises(InputError, match="the student has 4 classes and the teacher 4; call widen first"):
            extend(toys.conv_net(), teacher, forever(bars), forever(crosses()), QUICK)

    def test_a_network_without_a_last_layer_is_refused(self, teacher: Classifier, bars: Batch):
        blind = toys.classifier(nn.Sequential(nn.Conv2d(1, 6, 8), nn.Flatten()))
        with pytest.raises(InputError, match="has no fully connected last layer"):
            extend(blind, teacher, forever(bars), forever(crosses()), QUICK)

    def test_adaptive_methods_see_the_student_s_old_classes(self, teacher: Classifier, student: Classifier):
        recorder = Recorder()
        stream = Stream(
            toys.TINY["adi"].build(teacher), ClassSubset(student, range(4)), Schedule(refresh_every=1), recorder
        )
        extend(student, teacher, stream, forever(crosses(), 8), replace(QUICK, steps=2), callback=recorder)
        untrained, adapted = recorder.batches
        assert "compete" not in untrained.terms and adapted.terms["compete"] > 0


def test_evaluation_copes_with_a_teacher_that_knows_less(teacher: Classifier, student: Classifier, bars: Batch):
    new = crosses()
    both = [bars, replace(new, targets=new.targets + 4)]
    found = evaluate(teacher, teacher, both)
    right = (teacher(bars.images).argmax(1) == bars.targets).float().mean().item()
    assert (found.old_classes_accuracy, found.new_classes_accuracy) == (pytest.approx(right), 0.0)
    assert found.accuracy == pytest.approx(right * len(bars) / (len(bars) + len(new)))
    assert len(found.per_class) == 6 and found.per_class[4:] == (0.0, 0.0)
    assert found.agreement == 1 and found.calibration_error > 0.1
    assert evaluate(student, teacher, both).per_class == pytest.approx(found.per_class)
    assert evaluate(teacher, teacher, [bars]).new_classes_accuracy is None


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows the digits from 0 to 4."""
    folder = tmp_path_factory.mktemp("half") / "teacher"
    learn = TrainingConfig(steps=100, lr=1e-2)
    example_teacher(network="convnet_w16", data="digits:0-4", out=folder, training=learn)
    return folder


KINDS: dict[str, dict[str, Any]] = {
    "replay": {},
    "abd, adi": {
        "method": toys.TINY["adi"],
        "schedule": Schedule(warmup_batches=2, refresh_every=4, pool_batches=3, batch_size=8),
        "application": replace(RECIPES["abd"], steps=12, new_batch_size=8),
    },
    "lwf": {"method": toys.TINY["noise"], "application": replace(RECIPES["lwf"], steps=12, new_batch_size=8)},
    "oracle": {"method": None, "schedule": Schedule(batch_size=8)},
}


def experiment(teacher: Path, kind: str, **changes: Any) -> Experiment:
    task = ExtensionTask(teacher=f"local-dir:{teacher}", new_data="digits:5-9", data="digits")
    return toys.experiment(
        teacher, **{"task": task, "application": ExtensionConfig(steps=12, new_batch_size=8)} | KINDS[kind] | changes
    )


def test_a_teacher_without_batch_norm_can_be_extended_where_nothing_is_synthesized(tmp_path: Path):
    plain = teachers.create("lenet5", classes=("a", "b"), shape=(1, 32, 32))
    teachers.save_folder(plain, tmp_path / "plain")
    task = ExtensionTask(teacher=f"local-dir:{tmp_path / 'plain'}", new_data="digits")
    settings = replace(experiment(tmp_path / "plain", "lwf"), task=task, method=toys.TINY["deep-inversion"])
    assert len(run(settings, tmp_path / "run").student.classes) == 12
    with pytest.raises(InputError, match="methods that work with it"):
        run(replace(settings, application=RECIPES["replay"]), tmp_path / "other")


@pytest.fixture(scope="module")
def undisturbed(half: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    root = tmp_path_factory.mktemp("extensions")
    return {kind: run(experiment(half, kind), root / kind) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
class TestRun:
    def test_new_images_are_counted_apart_and_old_ones_are_none(self, kind: str, undisturbed: dict[str, Result]):
        summary = undisturbed[kind].summary
        ledger = {entry["purpose"]: entry for entry in summary["ledger"]}
        new = ledger["student training (new classes)"]
        assert new["source"] == "digits:5-9" and new["split"] == "train"
        assert 50 < new["images"] == summary["new_class_images_seen"] <= 12 * 8
        seen = summary["real_images_seen"]
        assert (50 < seen <= 12 * 8) if kind == "oracle" else seen == 0
        assert (summary["images_synthesized"] > 0) == (kind in ("replay", "abd, adi"))

    def test_the_student_on_disk_knows_all_classes(self, kind: str, undisturbed: dict[str, Result]):
        result = undisturbed[kind]
        found = teachers.load(f"local-dir:{result.path / 'student'}")
        assert found.classes == tuple("0123456789") and list(found.classes) == result.summary["classes"]
        assert fingerprint(found.model) == result.summary["student_sha256"]
        config = json.loads((result.path / "student" / "config.json").read_text())
        assert config["num_classes"] == 10

    def test_old_and_new_classes_are_judged_apart(self, kind: str, undisturbed: dict[str, Result]):
        summary = undisturbed[kind].summary
        old, new = summary["student"]["old_classes_accuracy"], summary["student"]["new_classes_accuracy"]
        share = sum(1 for label in DIGITS if label < 5) / len(DIGITS)
        assert summary["student"]["accuracy"] == pytest.approx(share * old + (1 - share) * new, abs=1e-5)
        assert summary["teacher"]["new_classes_accuracy"] == 0 and summary["teacher"]["old_classes_accuracy"] > 0.9
        page = (undisturbed[kind].path / "report.html").read_text()
        assert f"mean of both {report.percent((old + new) / 2)}" in page
        assert f"{summary['new_class_images_seen']} of the new classes." in page

    @pytest.mark.parametrize("when", [1, 7])
    def test_a_resumed_run_equals_an_uninterrupted_one(
        self, kind: str, when: int, half: Path, undisturbed: dict[str, Result], tmp_path: Path, monkeypatch: Any
    ):
        real = RunLogger.log

        def told(self: RunLogger, step: int, terms: Terms) -> None:
            real(self, step, terms)
            if step == when:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(RunLogger, "log", told)
            run(experiment(half, kind), tmp_path / "run")
        resumed, expected = resume(tmp_path / "run"), undisturbed[kind]
        assert resumed.summary["student_sha256"] == expected.summary["student_sha256"]
        assert resumed.summary["ledger"] == expected.summary["ledger"]
        assert (resumed.path / "log.jsonl").read_text() == (expected.path / "log.jsonl").read_text()

    def test_survives_a_round_trip_through_json(self, kind: str, half: Path):
        made = experiment(half, kind)
        assert from_json(json.loads(json.dumps(to_json(made)))) == made


def test_the_rows_of_the_table_at_the_end(undisturbed: dict[str, Result]):
    table = report.results_table(report.table_rows(undisturbed["replay"].summary))
    assert [str(column.header) for column in table.columns] == ["model", *tables.EXTENSION_COLUMNS]
    assert "replay, deep-inversion" in next(iter(table.columns[0].cells), "") + str(list(table.columns[0].cells))


@pytest.mark.parametrize(
    "changes",
    [
        {"application": DistillationConfig(steps=2)},
        {"task": Task(teacher="a", student="b"), "application": ExtensionConfig()},
    ],
    ids=["an application that learns no class", "a task without new classes"],
)
def test_task_and_application_belong_together(half: Path, changes: dict[str, Any]):
    with pytest.raises(InputError, match="do not fit"):
        experiment(half, "replay", **changes)


def test_a_student_is_the_next_teacher(half: Path, tmp_path: Path):
    teacher, known = half, 5
    for number, new in enumerate(("digits:5-6", "digits:7-9")):
        task = ExtensionTask(teacher=f"local-dir:{teacher}", new_data=new)
        result = run(experiment(half, "replay", task=task), tmp_path / str(number))
        teacher, known = result.path / "student", known + 2 + number
        assert result.student.classes == tuple("0123456789")[:known]


def command(teacher: Path, *more: str) -> list[str]:
    """A whole run in a second."""
    quick = "--method.batch-size 8 --method.steps 2 --warmup-batches 1 --batch-size 8 --steps 2".split()
    return ["extend", "--teacher", f"local-dir:{teacher}", *quick, *more]


def test_the_command_extends_and_prints_the_result(half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "run")
    given = command(half, "--new-data", "digits:5-9", "--data", "digits", "--recipe", "abd", "--out", out)
    assert main(given) == 0
    said = capsys.readouterr().out
    table = said[said.index(" model ") : said.index("verdict")].split()
    assert table.count("classes") == 2 and "abd" in said and "student  " in said


def pictures(root: Path, *classes: str, empty: str = "") -> str:
    """A folder of image files, two of each class."""
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for number in range(2 * (name != empty)):
                Image.new("L", (8, 8), 40 * number).save(root / split / name / f"{number}.png")
    return f"folder:{root}"


def test_classes_of_a_folder_are_told_by_their_names(half: Path, tmp_path: Path):
    """In the folder of all classes the new one comes first, in the network last."""
    new = pictures(tmp_path / "new", "+")
    every = pictures(tmp_path / "all", "+", *"01234")
    task = ExtensionTask(teacher=f"local-dir:{half}", new_data=new, data=every)
    result = run(experiment(half, "replay", task=task), tmp_path / "run")
    assert result.student.classes == ("0", "1", "2", "3", "4", "+")
    assert result.summary["student"]["images"] == 12 and len(result.summary["student"]["per_class"]) == 6
    everything = evaluate(result.student, teachers.load(f"local-dir:{half}"), forever_once(result.student))
    assert everything.images == 12 and everything.per_class == tuple(result.summary["student"]["per_class"])


def forever_once(student: Classifier) -> list[Batch]:
    """The folder's two pictures of each class, as the network numbers them."""
    pair = torch.tensor([0.0, 40 / 255]).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    count = len(student.classes)
    return [Batch(pair.repeat(count, 1, 1, 1), torch.arange(count).repeat_interleave(2), {})]


BAD: dict[str, tuple[list[str], str]] = {
    "classes that it knows": (["--new-data", "digits:4-5"], "already has class '4'"),
    "missing option": ([], "--new-data is missing"),
    "missing folder": (["--new-data", "folder:{tmp}/nowhere"], "is not a folder"),
    "unknown data": (["--new-data", "digit:5-9"], "did you mean digits"),
    "empty class": (["--new-data", "{empty}"], "contains no image file"),
    "other channels": (["--new-data", "{colour}"], "has 3 channels, but the classifier takes 1"),
    "evaluation without the new": (
        ["--new-data", "digits:5-9", "--data", "digits:0-4"],
        "digits:0-4 and the extended network differ in class '5'",
    ),
    "evaluation with more": (
        ["--new-data", "digits:5-8", "--data", "digits"],
        "differ in class '9'; use data of all classes, old and new",
    ),
    "unknown recipe": (["--new-data", "digits:5-9", "--recipe", "abc"], "did you mean abd"),
    "unknown method": (["--new-data", "digits:5-9", "--method", "adj"], "did you mean adi"),
    "nothing to learn": (["--new-data", "digits:5-9", "--new-weight", "0"], "no term learns the new classes"),
    "ceiling without data": (["--new-data", "digits:5-9", "--method", "real"], "name them with --data"),
    "no student to choose": (["--new-data", "digits:5-9", "--student", "x"], "unknown option '--student'"),
}


@pytest.mark.parametrize(("arguments", "sentence"), BAD.values(), ids=BAD)
def test_invalid_input_is_refused_in_one_sentence_and_leaves_no_files(
    arguments: list[str], sentence: str, half: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for name in ("a", "b"):
        (tmp_path / "colour" / "train" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (250, 0, 0)).save(tmp_path / "colour" / "train" / name / "0.png")
    empty = pictures(tmp_path / "empty", "a", "b", empty="b") if "{empty}" in arguments else ""
    places = {"tmp": tmp_path, "empty": empty, "colour": f"folder:{tmp_path / 'colour'}"}
    given = [argument.format(**places) for argument in arguments]
    quick = [] if "real" in given else ["--method.batch-size", "8"]
    assert main(["extend", "--teacher", f"local-dir:{half}", *quick, *given, "--out", str(tmp_path / "run")]) == 2
    printed = capsys.readouterr()
    announced = [line for line in printed.out.splitlines() if not line.startswith((" ", "extend ", "device "))]
    assert announced == [], "nothing but the announcement of the run is printed before the refusal"
    assert printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert sentence in printed.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["mnist-continual", "mnist-sequence", "cifar10-continual", "cifar10-continual-resnet18"]
)
def test_the_tables_have_floors_and_a_ceiling(name: str):
    rows = BENCHMARKS[name].rows
    assert {"fine-tuning", "lwf", "noise", "oracle distillation"} <= set(rows)
    assert [row for row, value in rows.items() if value.method is None] == ["oracle distillation"]


def test_a_table_of_a_sequence(half: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = {name: BENCHMARKS["mnist-sequence"].rows[name] for name in ("lwf", "oracle distillation")}
    small = {name: replace(row, application=replace(row.application, steps=3)) for name, row in rows.items()}
    table = Benchmark(
        title="digits in three tasks",
        data="digits:0-4",
        teacher="convnet_w16",
        student="convnet_w16",
        training=TrainingConfig(steps=20),
        rows=small,
        extensions=(("digits:5-6", "digits:0-6"), ("digits:7-9", "digits")),
        columns=BENCHMARKS["mnist-sequence"].columns,
    )
    monkeypatch.setitem(BENCHMARKS, "three", table)
    options = Bench(out=tmp_path / "runs", results=tmp_path / "results", seeds=(0,), command="datafree bench three")
    result = bench("three", options, QUIET)
    row = result["rows"]["lwf"]
    assert len(row["after_each_task_each"][0]) == 2 and row["mean"] == row["after_each_task_each"][0][-1]
    assert len(row["old_classes_each"]) == len(row["new_classes_each"]) == 1
    assert (
        row["real_images_seen"]
        == 0
        < row["new_class_images_seen"]
        < result["rows"]["oracle distillation"]["real_images_seen"] * 9
    )
    last = json.loads((tmp_path / "runs" / "lwf" / "seed-0" / "task-2" / "experiment.json").read_text())
    assert last["task"]["teacher"].endswith("lwf/seed-0/task-1/student")
    text = markdown(result)
    assert "| row | accuracy | after each task | old classes | new classes |" in text and "datafree bench three" in text
