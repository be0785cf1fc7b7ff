"""Amalgamation: the stack of generators, the dual generator block by block, branches where they are measured best, the TargetNet."""

import json
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import toys
from torch import nn

from datafree import teachers
from datafree.applications.amalgamation import AmalgamationConfig, DualGenerator, amalgamate
from datafree.applications.trainer import fabric_for
from datafree.callback import Callback
from datafree.classifier import Classifier, batch_norms, record
from datafree.commands.main import main
from datafree.ensemble import EXCLUDED_LOGIT, Ensemble
from datafree.losses import batch_norm_statistics, sparsity_loss
from datafree.methods.dafl import DAFLConfig
from datafree.methods.deep_inversion import DeepInversionConfig
from datafree.methods.group_stack import GroupStackConfig
from datafree.methods.zskd import ZSKDConfig
from datafree.networks.filters import Filter
from datafree.networks.target_net import build_target_net, draw_diagram
from datafree.runs.experiment import resume, run
from datafree.runs.tasks import AmalgamationTask, create_student
from datafree.synthesis import Method, Schedule, Stream, Synthesizer
from datafree.synthesis.generators.networks import GroupStackGenerator
from datafree.synthesis.turns import PerTeacher, PerTeacherSynthesizer
from datafree.teachers.folders import architecture
from datafree.teachers.inspection import require_capabilities
from datafree.types import Batch, InputError, Scalar, Terms

STACK = GroupStackConfig(batch_size=8, latent_size=4, discard_first=1)


def member(classes: str, **settings: Any) -> Classifier:
    """An untrained teacher of letters."""
    one = teachers.create("convnet_w16", classes=tuple(classes), std=(0.5,), mean=(0.4,)).eval()
    one.multi_label = settings.get("multi_label", False)
    return one


@pytest.fixture
def ensemble() -> Ensemble:
    return Ensemble([member("ab"), member("bcd")]).eval()


@pytest.fixture
def student(ensemble: Ensemble) -> Classifier:
    return teachers.create("convnet_w16", classes=ensemble.classes, mean=(0.4,), std=(0.5,))


class TestSparsity:
    def test_by_hand(self):
        assert sparsity_loss(torch.tensor([[0.0, 1.0], [0.5, 0.5]])).item() == 0.5

    def test_nothing_is_lowest(self):
        assert sparsity_loss(torch.zeros(2, 3)).item() == 0.0

    def test_gradient(self):
        assert torch.autograd.gradcheck(sparsity_loss, (0.1 + torch.rand(2, 3).double()).requires_grad_())


class TestFilter:
    def test_is_a_gate_per_channel_by_hand(self):
        one = Filter(4)
        for parameter in one.parameters():
            nn.init.zeros_(parameter)
        features = torch.rand(2, 4, 3, 3)
        torch.testing.assert_close(one(features), features)  # 2 sigmoid(0) = 1
        with torch.no_grad():
            one.gate[2].bias[0] = 100.0  # type: ignore[index]
            one.gate[2].bias[1] = -100.0  # type: ignore[index]
        gated = one(features)
        torch.testing.assert_close(gated[:, 0], 2 * features[:, 0])
        assert gated[:, 1].abs().max() < 1e-6

    def test_sees_the_mean_of_a_channel_only(self):
        one, features = Filter(4), torch.rand(1, 4, 2, 2)
        gates = one(features) / features
        torch.testing.assert_close(one(features.flip(2)) / features.flip(2), gates)


class TestGenerator:
    def test_groups_make_what_blocks_take(self):
        shapes = ((3, 16, 16), (8, 16, 16), (12, 7, 7), (20, 1, 1))
        made = GroupStackGenerator(5, shapes)(torch.randn(4, 5))
        assert [tuple(one.shape[1:]) for one in made] == list(reversed(shapes))

    def test_the_image_is_standardised_and_features_follow_a_relu(self):
        *features, image = GroupStackGenerator(5, ((1, 8, 8), (6, 4, 4)))(torch.randn(64, 5))
        assert image.mean().abs() < 1e-4
        assert image.var(unbiased=False).item() == pytest.approx(1.0, abs=1e-3)
        assert all((one >= 0).all() for one in features)

    def test_what_grows_from_one_place_has_places_that_differ(self):
        _, grown, _ = GroupStackGenerator(5, ((1, 32, 32), (6, 12, 12), (20, 1, 1)))(torch.randn(64, 5))
        away = grown[:, :, 3:9, 3:9].flatten(2)  # from the border, which alone would tell places apart otherwise
        assert away.std(2).mean() > 0.3 * grown.std()


class TestObjective:
    def test_is_equation_11_by_the_slow_way(self, ensemble: Ensemble):
        stack = replace(STACK, activation=0.0, entropy=2.0).build(ensemble)
        images = torch.rand(8, *toys.SHAPE)
        features = [torch.rand(8, *shape) for shape in reversed(stack.shapes[1:])]
        terms = stack.objective(images, features)
        logits = ensemble(images)
        p = logits.softmax(1)
        one_hot = -p.max(1).values.log().mean()
        mean = p.mean(0)
        entropy = (mean * mean.log()).sum() / 4
        agreements = []
        for group, made in enumerate(features, 1):
            answers = []
            for m, blocks in enumerate(stack.discriminators):
                x = stack.filters[group - 1][m](made)  # type: ignore[index]
                for block in list(blocks)[len(blocks) - group :]:
                    x = block(x)
                answers.append(x)
            union = ensemble.merge(answers)
            agreements.append(-(p * union.log_softmax(1)).sum(1).mean())
        assert terms["one-hot"].item() == pytest.approx(one_hot.item(), rel=1e-4)
        assert terms["entropy"].item() == pytest.approx(2 * entropy.item(), rel=1e-4)
        assert terms["groups"].item() == pytest.approx(torch.stack(agreements).mean().item(), rel=1e-4)

    def test_features_follow_the_image_and_not_the_other_way(self, ensemble: Ensemble):
        stack = STACK.build(ensemble)
        images = torch.rand(8, *toys.SHAPE, requires_grad=True)
        features = [torch.rand(8, *shape, requires_grad=True) for shape in reversed(stack.shapes[1:])]
        stack.objective(images, features)["groups"].backward()
        assert images.grad is None
        assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in features)

    def test_the_last_block_alone_judges_the_first_group(self, ensemble: Ensemble):
        stack = replace(STACK, filters=False).build(ensemble)
        made = torch.rand(8, *stack.shapes[-1])
        by_hand = [teacher.model.head(made.mean((2, 3))) for teacher in ensemble.teachers]  # type: ignore[operator]
        torch.testing.assert_close(stack.group_logits(made, 1), ensemble.merge(by_hand))

    def test_several_labels_are_sparse_and_their_number_is_told(self):
        several = Ensemble([member("ab", multi_label=True), member("cd", multi_label=True)]).eval()
        batch = STACK.build(several).synthesize()
        assert {"sparsity", "labels_per_image"} <= set(batch.terms)
        assert batch.targets.shape == (8, 4)
        assert batch.terms["labels_per_image"].item() == batch.targets.sum(1).mean().item()

    def test_where_one_class_is_the_answer_there_is_nothing_to_make_sparse(self, ensemble: Ensemble):
        assert "sparsity" not in STACK.build(ensemble).synthesize().terms

    def test_a_batch_has_the_features_of_every_depth(self, ensemble: Ensemble):
        stack = STACK.build(ensemble)
        batch = stack.synthesize()
        assert [tuple(one.shape[1:]) for one in batch.block_inputs] == list(stack.shapes[1:])

    def test_teachers_of_other_shapes_are_refused(self):
        other = Classifier(toys.conv_net().model, shape=toys.SHAPE, classes=tuple("wxyz"))
        with pytest.raises(InputError, match="use teachers of one architecture"):
            STACK.build(Ensemble([member("ab"), other]))

    def test_it_learns(self, teacher: Classifier):
        stack = replace(STACK, batch_size=32, lr=1e-2).build(teacher)
        first = stack.synthesize().terms["groups"]
        for batch in islice(iter(stack.synthesize, None), 25):
            last = batch.terms["groups"]
        assert last < first


class TestOneByOne:
    def build(self, ensemble: Ensemble, origin: bool) -> PerTeacherSynthesizer:
        return PerTeacherSynthesizer(
            ensemble, DeepInversionConfig(batch_size=6, steps=(2,), statistics=0.0), origin=origin
        )

    def test_teachers_take_turns_in_their_own_labels(self):
        ensemble = Ensemble([member("ab"), member("cd")], labels=("d", "a", "c")).eval()
        one = self.build(ensemble, origin=False)
        first, second = one.synthesize(), one.synthesize()
        assert set(first.targets.tolist()) <= {0, 2}
        assert set(second.targets.tolist()) == {1}
        assert first.teacher_logits is None

    def test_the_origin_rules_out_what_the_other_teacher_knows(self):
        ensemble = Ensemble([member("ab"), member("cd")]).eval()
        batch = self.build(ensemble, origin=True).synthesize()
        assert batch.teacher_logits is not None
        torch.testing.assert_close(
            batch.teacher_logits[:, :2], ensemble.teachers[0](batch.images).log_softmax(1).detach()
        )
        assert (batch.teacher_logits[:, 2:] == EXCLUDED_LOGIT).all()

    def test_a_teacher_of_whom_nothing_is_wanted_is_left_out(self):
        ensemble = Ensemble([member("ab"), member("cd")], labels=("d", "c")).eval()
        apart = self.build(ensemble, origin=True)
        assert [one.classes for one in apart.members] == [("d", "c")]
        assert set(apart.synthesize().targets.tolist()) <= {0, 1}

    def test_teachers_of_one_answer_and_of_several_take_turns(self):
        """Targets are questions of their own then; a teacher's one answer becomes odds, as the ensemble has it."""
        ensemble = Ensemble([member("ab"), member("cd", multi_label=True)]).eval()
        apart = self.build(ensemble, origin=True)
        first, second = apart.synthesize(), apart.synthesize()
        assert first.targets.shape == second.targets.shape == (6, 4)
        assert (first.targets[:, :2].sum(1) == 1).all() and (first.targets[:, 2:] == 0).all()
        said = ensemble(first.images)[:, :2].detach()
        torch.testing.assert_close(first.teacher_logits[:, :2], said)  # type: ignore[index]

    def test_soft_targets_stand_in_the_columns_of_their_labels(self):
        class Halving(Synthesizer):
            def __init__(self, teacher: Classifier) -> None:
                self.classes = len(teacher.classes)

            def synthesize(self, student: nn.Module | None = None) -> Batch:
                targets = torch.full((3, self.classes), 1 / self.classes)
                return Batch(torch.rand(3, *toys.SHAPE), targets, {})

        class Halves(Method):
            paper = "none"
            schedule, passes = Schedule(), 0.0

            def build(self, teacher: Classifier) -> Halving:
                return Halving(teacher)

        ensemble = Ensemble([member("ab"), member("cde")]).eval()
        apart = PerTeacherSynthesizer(ensemble, Halves(), origin=False)
        assert apart.synthesize().targets[0].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 3, 1 / 3])
        assert apart.synthesize().targets[0].tolist() == [0.5, 0.5, 0, 0, 0]

    @pytest.mark.parametrize(
        ("classes", "labels", "turns"),
        [(("ab", "cd"), "abcd", [3, 3]), (("ab", "cdefghij"), "abcdefghij", [2, 8]), (("abc", "cde"), "ad", [3, 3])],
    )
    def test_teachers_take_turns_in_proportion_to_their_classes(
        self, classes: tuple[str, str], labels: str, turns: list[int]
    ):
        ensemble = Ensemble([member(names) for names in classes], labels=tuple(labels)).eval()
        per_teacher = self.build(ensemble, origin=False)
        for _ in range(sum(turns)):
            per_teacher.batches[per_teacher.next_turn] += 1
        assert per_teacher.batches == turns

    def test_its_turns_are_in_a_checkpoint(self, ensemble: Ensemble):
        one, other = self.build(ensemble, False), self.build(ensemble, False)
        one.synthesize()
        other.load_state_dict(one.state_dict())
        assert other.batches == [0, 1] and other.next_turn == 0

    def test_an_adaptive_method_sees_its_own_part_of_the_student(self, ensemble: Ensemble, student: Classifier):
        method = DeepInversionConfig(batch_size=6, steps=(2,), statistics=0.0, compete=1.0)
        batch = PerTeacherSynthesizer(ensemble, method, origin=False).synthesize(student.eval())
        assert "compete" in batch.terms


CONFIG = AmalgamationConfig(steps=12, measure_batches=2)


def stream(ensemble: Ensemble, student: Classifier) -> Stream:
    return Stream(STACK.build(ensemble), student, Schedule(refresh_every=1))


class TestAmalgamate:
    def test_ends_as_one_network_over_all_labels(self, ensemble: Ensemble, student: Classifier):
        made = amalgamate(student, ensemble, stream(ensemble, student), CONFIG)
        assert made(torch.rand(3, *toys.SHAPE)).shape == (3, 4)
        assert made is student and not student.training
        assert all(1 <= point <= 3 for point in student.model.branch_points)  # type: ignore[union-attr]

    def test_the_teachers_are_not_changed_and_share_no_weights_with_the_student(
        self, ensemble: Ensemble, student: Classifier
    ):
        before = toys.snapshot(ensemble)
        amalgamate(student, ensemble, stream(ensemble, student), CONFIG)
        assert toys.same(toys.snapshot(ensemble), before)
        theirs = {parameter.data_ptr() for parameter in ensemble.parameters()}
        assert not theirs & {parameter.data_ptr() for parameter in student.parameters()}

    def test_equal_seeds_give_equal_students(self, ensemble: Ensemble, student: Classifier):
        begin = student.state_dict()
        states = []
        for _ in range(2):
            one = teachers.create("convnet_w16", classes=ensemble.classes)
            one.load_state_dict(begin)
            torch.manual_seed(5)
            states.append(amalgamate(one, ensemble, stream(ensemble, one), CONFIG).state_dict())
        assert toys.same(*states)

    def test_a_student_of_the_teachers_own_blocks_would_branch_anywhere(self, ensemble: Ensemble, student: Classifier):
        dual = DualGenerator(student, ensemble, CONFIG, _fabric())
        images = torch.rand(4, *toys.SHAPE)
        losses = dual.branch_losses(Batch(images, torch.zeros(4, dtype=torch.long), {}))
        assert losses.shape == (3, 2)
        twin = DualGenerator(_copy(ensemble.teachers[0], student), ensemble, CONFIG, _fabric())
        for parameter in twin.filters.parameters():
            nn.init.zeros_(parameter)
        twin.student.eval()
        same = twin.branch_losses(Batch(images, torch.zeros(4, dtype=torch.long), {}))
        assert same[:, 0].abs().max() < 1e-5

    def test_stages_share_the_steps(self, ensemble: Ensemble, student: Classifier):
        dual = DualGenerator(student, ensemble, replace(CONFIG, steps=20, blockwise_fraction=0.6), _fabric())
        assert [dual.stage_at(step)[0] for step in range(20)] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 8

    def test_a_network_with_arguments_is_refused(self, student: Classifier):
        """Its name alone would not make it again when the TargetNet is loaded."""
        slim = teachers.create("convnet_w16", classes=tuple("ab"), arguments={"widths": (16, 24, 20)})
        ensemble = Ensemble([slim, member("cd")]).eval()
        with pytest.raises(InputError, match=r"created with arguments \(widths\)"):
            amalgamate(student, ensemble, [], CONFIG)

    def test_blocks_after_the_last_branch_point_are_not_trained(self, ensemble: Ensemble, student: Classifier):
        config = replace(CONFIG, steps=20, blockwise_fraction=0.6, branch_points=(2, 1))
        dual = DualGenerator(student, ensemble, config, _fabric())
        assert [dual.stage_at(step)[0] for step in range(20)] == [0] * 6 + [1] * 6 + [2] * 8
        named: set[str] = set()

        class Recorder(Callback):
            def log(self, step: int, terms: Terms) -> None:
                named.update(terms)

        amalgamate(student, ensemble, stream(ensemble, student), config, callback=Recorder())
        assert named == {"block 1", "block 2", "distillation"}
        assert len(student.model.trunk) == 2  # type: ignore[arg-type]

    def test_a_block_is_fed_generated_features_or_what_was_made(self, ensemble: Ensemble, student: Classifier):
        images, features = (
            torch.rand(4, *toys.SHAPE),
            tuple(torch.rand(4, *s) for s in ((16, 8, 8), (24, 4, 4), (24, 2, 2))),
        )
        batch = Batch(images, torch.zeros(4, dtype=torch.long), {}, None, features)
        generated = DualGenerator(student, ensemble, replace(CONFIG, generated_fraction=1.0), _fabric())
        assert torch.equal(generated.block_input(batch, images, 1), features[0])
        made = DualGenerator(student, ensemble, replace(CONFIG, generated_fraction=0.0), _fabric())
        expected = made.blocks[0](student.normalize(images))
        torch.testing.assert_close(made.block_input(batch, images, 1), expected)

    def test_given_branch_points_are_used(self, ensemble: Ensemble, student: Classifier):
        amalgamate(
            student, ensemble, stream(ensemble, student), replace(CONFIG, branch_points=(3, 1), blockwise_fraction=0.0)
        )
        assert student.model.branch_points == (3, 1)  # type: ignore[union-attr]
        assert len(student.model.trunk) == 3  # type: ignore[arg-type]

    @pytest.mark.parametrize("kinds", [(True, True), (False, True)])
    def test_teachers_of_several_labels_become_one(self, kinds: tuple[bool, bool], tmp_path: Path):
        names = zip(("ab", "cd"), kinds, strict=True)
        ensemble = Ensemble([member(name, multi_label=several) for name, several in names]).eval()
        student = create_student(ensemble, "convnet_w16")
        amalgamate(student, ensemble, stream(ensemble, student), CONFIG)
        teachers.save_folder(student, tmp_path / "student")
        again = teachers.load(f"local-dir:{tmp_path / 'student'}")
        images = torch.rand(3, *toys.SHAPE)
        assert again.multi_label and torch.equal(again(images), student(images))

    def test_the_loss_of_several_labels_is_summed_over_the_labels_of_an_image(self):
        ensemble = Ensemble([member("ab", multi_label=True), member("c", multi_label=True)]).eval()
        dual = DualGenerator(create_student(ensemble, "convnet_w16"), ensemble, CONFIG, fabric_for(ensemble))
        logits, targets = torch.randn(5, 3), torch.randn(5, 3)
        p, q = (targets / 4).sigmoid(), (logits / 4).sigmoid()
        divergence = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        torch.testing.assert_close(dual.loss(logits, targets), 16 * divergence.sum(1).mean())

    def test_a_folder_with_it_is_loaded_by_timm(self, ensemble: Ensemble, student: Classifier, tmp_path: Path):
        amalgamate(student, ensemble, stream(ensemble, student), CONFIG)
        teachers.save_folder(student, tmp_path / "student")
        images = torch.rand(3, *toys.SHAPE)
        again = teachers.load(f"local-dir:{tmp_path / 'student'}")
        torch.testing.assert_close(again(images), student(images))
        assert again.classes == ensemble.classes
        plain = timm.create_model(f"local-dir:{tmp_path / 'student'}", pretrained=True).eval()
        torch.testing.assert_close(plain(student.normalize(images)), student(images))

    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"branch_points": (1,)}, "for each of the 2 teachers"),
            ({"branch_points": (1, 4)}, "give a number from 1 to 3"),
            ({"blocks": 9}, "cannot be split into 9"),
            ({"blocks": 3}, "set the same number of blocks for the method and the application"),
            ({"steps": 5}, "5 steps are too few to train 3 blocks"),
        ],
    )
    def test_refuses_settings_that_do_not_match_the_networks(
        self, settings: dict[str, Any], match: str, ensemble: Ensemble, student: Classifier
    ):
        with pytest.raises(InputError, match=match):
            amalgamate(student, ensemble, stream(ensemble, student), replace(CONFIG, **settings))

    @pytest.mark.parametrize(
        ("settings", "match"),
        [
            ({"blockwise_fraction": 1.0}, "blockwise-fraction is 1.0"),
            ({"generated_fraction": 1.5}, "generated-fraction is 1.5"),
            ({"blockwise_fraction": 0.0}, "give branch-points"),
            ({"measure_batches": 0}, "measure-batches is 0"),
        ],
    )
    def test_refuses_invalid_settings(self, settings: dict[str, Any], match: str):
        with pytest.raises(InputError, match=match):
            AmalgamationConfig(**settings)

    def test_a_student_of_other_blocks_is_refused(self, ensemble: Ensemble):
        other = toys.conv_net()
        with pytest.raises(InputError, match="use a student of the teachers' architecture"):
            amalgamate(other, ensemble, [], CONFIG)

    def test_too_few_batches_are_refused(self, ensemble: Ensemble, student: Classifier):
        few = list(islice(stream(ensemble, student), 2))
        with pytest.raises(InputError, match="ended after 2 of 12 steps"):
            amalgamate(student, ensemble, few, CONFIG)


def _fabric() -> Any:
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1)


def _copy(teacher: Classifier, student: Classifier) -> Classifier:
    twin = teachers.create("convnet_w16", classes=teacher.classes, mean=(0.4,), std=(0.5,)).eval()
    twin.load_state_dict(teacher.state_dict())
    return twin


DRAWING = """\
image (1, 32, 32)
  |  block 1 -> (6, 14, 14)
  |  block 2 -> (16, 5, 5)
  |-- teacher 1: filter, its last 2 blocks -> 0, 1, 2, 3, 4
  |  block 3 -> (120, 1, 1)
  |-- teacher 2: filter, its last 1 block -> 5, 6, 7, 8, 9"""


class TestTargetNet:
    def test_is_drawn_as_the_docs_show_it(self):
        labels = (tuple(range(5)), tuple(range(5, 10)))
        target = build_target_net(["lenet5_bn"] * 3, (2, 3), labels, (1, 32, 32)).eval()
        assert draw_diagram(target, (1, 32, 32), tuple("0123456789")) == DRAWING
        page = (Path(__file__).parents[2] / "docs" / "applications" / "amalgamation.md").read_text()
        assert DRAWING in page

    def test_a_shared_label_is_the_mean_of_both_branches(self):
        target = build_target_net(["convnet_w16"] * 3, (2, 2), ((0, 1), (1, -1, 2)), toys.SHAPE).eval()
        x = torch.rand(2, *toys.SHAPE)
        features = x
        for block in target.trunk:
            features = block(features)
        first, second = (branch(features) for branch in target.branches)
        expected = torch.stack([first[:, 0], (first[:, 1] + second[:, 0]) / 2, second[:, 2]], 1)
        torch.testing.assert_close(target(x), expected)

    @pytest.mark.parametrize(
        ("networks", "points", "labels", "match"),
        [
            (["convnet_w16"] * 2, (2, 2), ((0,), (1,)), "needs a trunk"),
            (["convnet_w16"] * 2, (7,), ((0, 1),), "do not fit a trunk"),
            (["convnet_w16"] * 2, (1,), ((0, 2),), "every index from 0"),
            (["convnet_w16", "lenet5"], (1,), ((0, 1),), "cannot be split into blocks"),
            (["convnet_w16", "convnet_w1"], (1,), ((0, 1),), "is unknown to timm"),
        ],
    )
    def test_what_cannot_be_one_is_refused(self, networks: list[str], points: Any, labels: Any, match: str):
        with pytest.raises(InputError, match=match):
            build_target_net(networks, points, labels, toys.SHAPE)


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    """Folders of two teachers of letters."""
    folders = []
    for name, classes in (("first", "ab"), ("second", "cd")):
        teachers.save_folder(member(classes), tmp_path / name)
        folders.append(f"local-dir:{tmp_path / name}")
    return folders[0], folders[1]


class TestTask:
    def test_labels_that_are_bare_numbers_must_be_explained(self, tmp_path: Path):
        for name in ("first", "second"):
            teachers.save_folder(member("01"), tmp_path / name)
        pair = tuple(f"local-dir:{tmp_path / name}" for name in ("first", "second"))
        with pytest.raises(InputError, match="add --shared-labels same or --shared-labels distinct"):
            AmalgamationTask(teacher=pair).load()
        assert AmalgamationTask(teacher=pair, shared_labels="same").load()[0].classes == ("0", "1")
        assert AmalgamationTask(teacher=pair, shared_labels="distinct").load()[0].classes == (
            "1/0",
            "1/1",
            "2/0",
            "2/1",
        )

    def test_one_teacher_is_refused(self):
        with pytest.raises(InputError, match="two or more teachers"):
            AmalgamationTask(teacher=("local-dir:x",))

    def test_a_gate_that_is_not_known_is_refused(self):
        with pytest.raises(InputError, match="gate 'central' is unknown; did you mean centred"):
            object.__setattr__(task := AmalgamationTask(teacher=("a", "b")), "gate", "central")
            task.__post_init__()

    def test_the_gate_origin_needs_images_made_apart(self):
        with pytest.raises(InputError, match="add --per-teacher"):
            AmalgamationTask(teacher=("a", "b"), gate="origin")

    def test_a_teacher_of_whom_nothing_is_wanted_is_refused(self, two: tuple[str, str]):
        with pytest.raises(InputError, match="teacher 2 has none of the labels in --labels"):
            AmalgamationTask(teacher=two, labels=("a", "b")).load()

    def test_the_student_is_of_the_first_teachers_architecture(self, two: tuple[str, str]):
        ensemble, student = AmalgamationTask(teacher=two, labels=("d", "a")).load()
        assert student.classes == ensemble.classes == ("d", "a")
        assert architecture(student.model) == "convnet_w16"


def experiment_of(two: tuple[str, str], **changes: Any) -> Any:
    settings = {
        "task": AmalgamationTask(teacher=two),
        "method": STACK,
        "schedule": Schedule(refresh_every=1),
        "application": CONFIG,
    }
    return toys.experiment(Path(), **settings | changes)


class Stop(Exception):
    """Pulls the plug."""


@pytest.mark.parametrize(("at", "points"), [(2, ()), (5, ()), (9, ()), (9, (2, 1))])
def test_a_resumed_run_equals_an_uninterrupted_one(
    at: int, points: tuple[int, ...], two: tuple[str, str], tmp_path: Path, monkeypatch: Any
):
    settings = experiment_of(two, application=replace(CONFIG, branch_points=points))
    whole = run(settings, tmp_path / "whole").student.state_dict()
    objective, taken = DualGenerator.objective, []

    def stop(self: DualGenerator, batch: Batch) -> dict[str, Scalar]:
        taken.append(batch)
        if len(taken) > at:
            raise Stop
        return objective(self, batch)  # type: ignore[return-value]

    monkeypatch.setattr(DualGenerator, "objective", stop)
    with pytest.raises(Stop):
        run(settings, tmp_path / "cut")
    monkeypatch.undo()
    assert toys.same(resume(tmp_path / "cut").student.state_dict(), whole)


@pytest.mark.parametrize("at", [0, 1])
def test_a_run_interrupted_while_branches_are_measured_is_resumed(
    at: int, two: tuple[str, str], tmp_path: Path, monkeypatch: Any
):
    settings = replace(experiment_of(two), checkpoint_interval=1e-9)  # at every step there is one
    whole = run(settings, tmp_path / "whole").student.state_dict()
    losses, kept = DualGenerator.branch_losses, []

    def stop(self: DualGenerator, batch: Batch) -> torch.Tensor:
        if len(kept) == at:
            raise Stop
        kept.append(batch)
        return losses(self, batch)

    monkeypatch.setattr(DualGenerator, "branch_losses", stop)
    with pytest.raises(Stop):
        run(settings, tmp_path / "cut")
    monkeypatch.undo()
    assert toys.same(resume(tmp_path / "cut").student.state_dict(), whole)


def test_measured_losses_are_in_a_checkpoint(ensemble: Ensemble, student: Classifier):
    dual = DualGenerator(student, ensemble, CONFIG, _fabric())
    dual.start_stage(0, 4)
    batches = stream(ensemble, student)
    dual.measured_losses.append(dual.branch_losses(next(batches)))
    other = DualGenerator(deepcopy(student), ensemble, CONFIG, _fabric())
    other.load_state_dict(dual.state_dict())
    assert len(other.measured_losses) == 1 and torch.equal(other.measured_losses[0], dual.measured_losses[0])


def test_a_committee_teaches_by_any_method_and_says_what_it_is(two: tuple[str, str], tmp_path: Path):
    task = AmalgamationTask(teacher=two, student="convnet_w16", per_teacher=True, gate="origin")
    method = DeepInversionConfig(batch_size=6, steps=(2,))
    changes = {"task": task, "method": method, "application": toys.experiment(Path()).application}
    method = replace(method, statistics=0.0)
    result = run(experiment_of(two, **changes | {"method": method}), tmp_path / "run")
    assert result.student(torch.rand(2, *toys.SHAPE)).shape == (2, 4)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["real_images_seen"] == 0


def test_a_collapse_to_images_without_labels_is_reported(tmp_path: Path):
    """Nothing else would show it: empty images minimise one-hot and sparsity together."""
    for name, classes in (("first", "ab"), ("second", "cd")):
        mute = member(classes, multi_label=True)
        with torch.no_grad():
            mute.model.head.bias.fill_(-50)  # type: ignore[union-attr]
        teachers.save_folder(mute, tmp_path / name)
    two = (f"local-dir:{tmp_path / 'first'}", f"local-dir:{tmp_path / 'second'}")
    found = run(experiment_of(two), tmp_path / "run").summary
    assert [note for note in found["notes"] if "collapsed" in note and "0.000 labels per image" in note]
    assert "collapsed" in (tmp_path / "run" / "report.html").read_text()


def test_the_summary_has_the_branches(two: tuple[str, str], tmp_path: Path):
    found = run(experiment_of(two, application=replace(CONFIG, branch_points=(2, 1))), tmp_path / "run").summary
    assert found["branches"] == {"points": [2, 1], "trunk_blocks": 2}
    assert all("statistics" in note for note in found["notes"]), "those of untrained teachers, and of a short training"


class TestEveryMethodOnACommittee:
    def test_dafl_excites_the_features_of_every_teacher(self, ensemble: Ensemble):
        dafl = DAFLConfig(batch_size=4, activation=1.0, units="paper", generator="subpixel").build(ensemble)
        images = torch.rand(4, *toys.SHAPE)
        terms = dafl.objective(images)
        by_hand = 0.0
        for one in ensemble.teachers:
            with record(one.model.head) as calls:  # type: ignore[arg-type]
                one(images)
            by_hand -= calls[0].input.abs().sum(1).mean().item()
        assert terms["activation"].item() == pytest.approx(by_hand, rel=1e-4)

    def test_dafl_may_match_the_statistics_of_every_teacher(self, ensemble: Ensemble):
        for norm in batch_norms(ensemble):
            norm.running_mean.fill_(0.1)  # type: ignore[union-attr]
        dafl = DAFLConfig(batch_size=4, statistics=2.0, generator="subpixel").build(ensemble)
        images = torch.rand(4, *toys.SHAPE)
        with record(*batch_norms(ensemble)) as calls:
            ensemble(images)
        assert len(calls) == 6
        by_hand = 2 * batch_norm_statistics(calls).item()
        assert dafl.objective(images)["statistics"].item() == pytest.approx(by_hand, rel=1e-4)

    @pytest.mark.parametrize("multi_label", [False, True])
    @pytest.mark.parametrize("name", [name for name in toys.TINY if name != "zskd"])
    def test_makes_images_of_its_labels(self, name: str, multi_label: bool):
        teachers = [member("ab", multi_label=multi_label), member("cd", multi_label=multi_label)]
        one = Ensemble(teachers).eval()
        for norm in batch_norms(one):
            norm.running_mean.add_(0.1)  # type: ignore[union-attr]
        batch = toys.TINY[name].build(one).synthesize()
        assert batch.images.isfinite().all() and batch.images.min() >= 0 and batch.images.max() <= 1
        assert batch.targets.shape == ((len(batch), 4) if multi_label else (len(batch),))

    def test_zskd_is_possible_with_one_teacher_at_a_time(self, ensemble: Ensemble):
        method = PerTeacher(method=ZSKDConfig(batch_size=6, steps=1))
        require_capabilities(ensemble, method)
        assert method.distillation == method.method.distillation
        assert method.build(ensemble).synthesize().targets.shape == (6, 4)

    def test_zskd_needs_one_last_layer(self, ensemble: Ensemble):
        with pytest.raises(InputError, match="no last layer"):
            toys.TINY["zskd"].build(ensemble)


class TestCommand:
    def test_two_teachers_become_one_student(self, two: tuple[str, str], tmp_path: Path):
        where = ["--teacher", two[0], f"--teacher={two[1]}", "--out", str(tmp_path / "run"), "--device", "cpu"]
        small = ["--method.batch-size", "8", "--method.discard-first", "1", "--steps", "8", "--measure-batches", "1"]
        assert main(["amalgamate", *where, *small, "--labels", "d", "a"]) == 0
        config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
        assert config["architecture"] == "target_net" and config["label_names"] == ["d", "a"]

    def test_any_other_method_distils_one_plain_student(self, two: tuple[str, str], tmp_path: Path):
        where = ["--teacher", two[0], "--teacher", two[1], "--out", str(tmp_path / "run"), "--device", "cpu"]
        assert main(["amalgamate", *where, "--method", "noise", "--steps", "2"]) == 0
        config = json.loads((tmp_path / "run" / "student" / "config.json").read_text())
        assert config["architecture"] == "convnet_w16" and config["label_names"] == list("abcd")

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            (["--teacher", "local-dir:a"], "amalgamation needs two or more teachers"),
            (["--teacher"], "--teacher"),
            (["--into", "target", "--teacher", "a"], "did you mean target-net?"),
            (["--teacher", "a", "--teacher", "b", "--gate", "origin"], "add --per-teacher"),
            (["--teacher", "a", "--teacher", "b", "--gates", "even"], "did you mean --gate?"),
        ],
    )
    def test_invalid_options_are_refused_in_one_sentence(
        self, arguments: list[str], match: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ):
        assert main(["amalgamate", *arguments, "--out", str(tmp_path / "run")]) == 2
        said = capsys.readouterr().err
        assert match in said and said.count("\n") == 1
        assert not (tmp_path / "run").exists()
